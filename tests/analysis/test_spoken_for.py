"""What a verdict says of a claim, and when it cannot say anything."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from analysis_ledgers import CONTRAST, TREND, falling, fill, plan_of, sweep_file

from findings_claims import Bearing, Checks, judge_bearing, load_claims
from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.compare import SweepAnalysis
from gapctl.analysis.learning import ArmCheck
from gapctl.analysis.results import Interval
from gapctl.ledger import Ledger

CLAIM = {claim.number: claim for claim in load_claims()}
CLAIM_1 = "arXiv 2404.07983, claim 1"
Judge = Callable[[float], SweepAnalysis]


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Judges `slope` and `difference`, both of claim 1, where each attribute closes the gap by so much."""

    def judged(per_attribute: float) -> SweepAnalysis:
        path = sweep_file(tmp_path, {**TREND, "source": CLAIM_1}, {**CONTRAST, "source": CLAIM_1})
        plan, ledger = plan_of(path), Ledger(str(tmp_path / "runs"))
        fill(ledger, plan, falling(per_attribute, noise=0.001))
        return SweepAnalysis(plan, analyze_finished_trials(plan, ledger))

    return judged


def spoken(
    judged: SweepAnalysis, number: str, hypothesis: str, checks: Checks | None = None, **changed: Any
) -> Bearing:
    found = next(verdict for verdict in judged.analysis.verdicts if verdict.id == hypothesis)
    return judge_bearing(CLAIM[number], replace(found, **changed), judged, checks or {})


def test_a_verdict_speaks_for_the_claim_that_its_source_names(judge: Judge) -> None:
    judged = judge(0.05)

    assert spoken(judged, "claim 1", "difference").word == "yes"
    assert spoken(judged, "claim 1", "difference", verdict="refuted").word == "no"
    assert spoken(judged, "claim 1", "difference", verdict="inconclusive").word == "open"
    assert spoken(judged, "claim 1", "difference", source="someone else").word == "–"


def test_a_refuted_denial_speaks_for_the_claim(judge: Judge) -> None:
    denial: dict[str, Any] = {"id": "closing-changes-zero-shot", "source": "arXiv 2203.02053, section 4"}
    judged = judge(0.05)

    assert spoken(judged, "claim 3", "difference", verdict="refuted", refuted_as="negligible", **denial).word == "yes"
    assert spoken(judged, "claim 3", "difference", verdict="supported", **denial).word == "no"


@pytest.mark.parametrize("as_what", ["opposite", "short", "different"])
def test_a_denial_refuted_by_an_effect_that_is_not_small_leaves_the_claim_open(judge: Judge, as_what: str) -> None:
    denial: dict[str, Any] = {"id": "closing-helps-mixed-search", "source": "arXiv 2507.19054; 2404.07983, claim 3"}
    judged = judge(0.05)

    assert spoken(judged, "claim 3", "difference", verdict="refuted", refuted_as=as_what, **denial).word == "open"


def test_a_contrary_refuted_by_an_effect_that_counts_the_other_way_speaks_for_the_claim(judge: Judge) -> None:
    contrary: dict[str, Any] = {"id": "two-listed-leave-a-smaller-gap-than-two-drawn", "source": "ours"}
    judged, beyond, within = judge(0.05), Interval(0.08, 0.12), Interval(0.01, 0.12)

    def word(number: str = "claim 1", **changed: Any) -> str:
        return spoken(judged, number, "difference", smallest_effect=0.05, **contrary, **changed).word

    assert word(verdict="refuted", refuted_as="opposite", ci=beyond) == "yes"
    assert word(verdict="refuted", refuted_as="opposite", ci=within) == "open"
    assert word(verdict="refuted", refuted_as="negligible", ci=Interval(-0.01, 0.01)) == "open"
    assert word(verdict="supported") == "no"
    assert word("question 1", verdict="supported") == "yes"


def test_a_claim_refuted_by_the_opposite_effect_is_refuted_all_the_same(judge: Judge) -> None:
    judged = judge(0.05)

    assert spoken(judged, "claim 1", "difference", verdict="refuted", refuted_as="opposite").word == "no"


def test_a_row_whose_arm_learned_nothing_counts_for_nothing_whatever_it_says(judge: Judge) -> None:
    judged = judge(0.05)
    failed = (ArmCheck("attributes=0", {}, "train/loss", (0,), (0,), "loss of guessing", 400),)

    for verdict in ("supported", "refuted", "inconclusive"):
        said = spoken(judged, "claim 1", "difference", verdict=verdict, not_learned=failed)
        assert said == Bearing("not learned")


def test_a_row_that_a_review_withdrew_counts_for_nothing(judge: Judge) -> None:
    judged = judge(0.05)
    of_posthoc = replace(judged, analysis=replace(judged.analysis, sweep="posthoc"))
    row = {"id": "closing-buys-robustness", "source": "arXiv 2404.07983, claim 3", "response": "quality/flip_rate"}

    assert spoken(of_posthoc, "claim 3", "difference", **row) == Bearing("withdrawn")
    assert spoken(judged, "claim 3", "difference", **row) != Bearing("withdrawn")


@pytest.mark.parametrize("word", ["supported", "refuted", "inconclusive"])
@pytest.mark.parametrize(
    ("number", "hypothesis"),
    [
        ("claim 4", "object-bias-costs-attribute-accuracy"),
        ("claim 6", "a-small-gap-goes-with-object-accuracy"),
        ("further check 3", "accuracies-rise-together-on-equal-data"),
    ],
)
def test_what_varies_the_content_of_captions_or_measures_no_public_model_decides_nothing(
    judge: Judge, number: str, hypothesis: str, word: str
) -> None:
    named = {"id": hypothesis, "source": f"arXiv 2404.07983, {number}", "refuted_as": "negligible"}

    assert spoken(judge(0.05), number, "difference", verdict=word, **named).word == "–"


@pytest.mark.parametrize(
    ("number", "response", "word"),
    [
        ("claim 1", "gap/l2m", "yes"),
        ("claim 1", "entropy/i2t_nats", "–"),
        ("claim 5", "entropy/i2t_nats", "yes"),
        ("claim 5", "temperature/tau", "–"),
        ("claim 3", "quality/i2t_recall_1", "yes"),
    ],
)
def test_what_a_source_of_several_claims_finds_is_for_those_that_are_about_its_response(
    judge: Judge, number: str, response: str, word: str
) -> None:
    source = "arXiv 2404.07983, claims 1, 3 and 5"

    assert spoken(judge(0.05), number, "difference", source=source, response=response).word == word


@pytest.mark.parametrize(
    ("number", "hypothesis"),
    [
        ("claim 3", "removing-dimensions-harms-retrieval"),
        ("claim 5", "centring-takes-entropy-away"),
        ("claim 5", "most-is-taken-where-captions-say-least"),
    ],
)
def test_what_other_explanations_account_for_stands_beside_the_claim(
    judge: Judge, number: str, hypothesis: str
) -> None:
    named = {"id": hypothesis, "source": f"arXiv 2404.07983, {number}"}

    assert spoken(judge(0.05), number, "difference", **named).word == "–"


@pytest.mark.parametrize("leaning", [("difference",), "all"])
def test_what_leans_on_a_check_that_is_not_supported_cannot_say(judge: Judge, leaning: Any) -> None:
    checks: Checks = {"made-up": {"slope": leaning}}

    assert spoken(judge(0.05), "claim 1", "difference", checks) == Bearing("yes")
    assert spoken(judge(0.0), "claim 1", "difference", checks) == Bearing("cannot say", (("slope", "refuted"),))


def test_what_leans_on_a_check_that_was_not_judged_cannot_say(judge: Judge) -> None:
    checks: Checks = {"made-up": {"the-learned-temperature-moves": ("difference",)}}
    failed = (("the-learned-temperature-moves", "not judged"),)

    assert spoken(judge(0.05), "claim 1", "difference", checks) == Bearing("cannot say", failed)
    assert spoken(judge(0.05), "claim 1", "slope", checks) == Bearing("yes")


def test_a_check_speaks_neither_for_nor_against_and_those_of_other_sweeps_do_not_count(judge: Judge) -> None:
    judged = judge(0.05)

    assert spoken(judged, "claim 1", "slope", {"made-up": {"slope": "all"}}) == Bearing("–")
    assert spoken(judged, "claim 1", "slope", {"another": {"missing": "all"}}) == Bearing("yes")


def test_what_stands_beside_a_claim_does_so_whatever_its_check_says(judge: Judge) -> None:
    checks: Checks = {"made-up": {"missing": "all"}}

    assert spoken(judge(0.05), "claim 1", "difference", checks, source="someone else") == Bearing("–")
