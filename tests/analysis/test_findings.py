"""`gapctl claims`: claims beside verdicts, the same bytes from the same ledger."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from analysis_ledgers import ATTRIBUTES, CONTRAST, RMG, TREND, asked_and_answered, falling, fill, sweep_file

from command_line import gapctl
from findings_claims import (
    load_checks,
    load_claims,
    load_redesigns,
    load_retired_hypotheses,
    load_withdrawals,
    match_claims,
)
from gapctl.analysis.service import judge_ledger
from gapctl.cli.options import load_plan
from gapctl.config.load import load_sweep
from gapctl.config.metrics import METRICS
from gapctl.ledger import Ledger, LedgerSnapshot
from gapctl.plan.plan import Trial
from make_findings import VerdictRow, correct_over_page
from sweep_texts import REPOSITORY


@pytest.mark.parametrize(
    ("source", "sweep", "numbers"),
    [
        ("arXiv 2404.07983, claim 1", "any", ["claim 1"]),
        ("arXiv 2404.07983, claims 1 and 2; reviews", "any", ["claim 1", "claim 2"]),
        ("arXiv 2404.07983, claims 1, 2 and 5", "any", ["claim 1", "claim 2", "claim 5"]),
        ("arXiv 2404.07983, section 6 (learned against frozen)", "any", ["claim 5"]),
        ("further check 2", "any", ["further check 2"]),
        ("arXiv 2412.14384, claim 1", "posthoc", ["claim 3"]),
        (None, "next_confounds", ["further check 3"]),
        ("arXiv 2404.07983, claim 1", "posthoc", ["claim 1"]),
        ("another paper", "another sweep", []),
    ],
)
def test_a_hypothesis_tests_what_its_source_names_or_what_lists_its_sweep(
    source: str | None, sweep: str, numbers: list[str]
) -> None:
    assert [claim.number for claim in match_claims("any", source, sweep)] == numbers


def test_a_claim_may_list_hypotheses_whose_source_names_it_in_other_words() -> None:
    source = "ours; arXiv 2404.07983, claim 1, is about training from the start"

    tested = match_claims("enrichment-closes-the-gap", source, "next_enrichment")

    assert [claim.number for claim in tested] == ["claim 1", "further check 2"]


def test_there_are_six_claims_three_checks_and_four_questions_of_our_own() -> None:
    assert [claim.number for claim in load_claims()] == [
        *(f"claim {number}" for number in range(1, 7)),
        *(f"further check {number}" for number in range(1, 4)),
        *(f"question {number}" for number in range(1, 5)),
    ]


def test_the_page_has_the_verdict_below_its_claim_and_is_the_same_each_time(tmp_path: Path) -> None:
    asked_and_answered(tmp_path, "arXiv 2404.07983, claim 2")
    out, runs = tmp_path / "findings.md", str(tmp_path / "runs")
    figure = tmp_path / "images" / "findings" / "made-up.base.svg"

    answer = gapctl("claims", "--runs", runs, "--out", str(out))
    text, drawn = out.read_text(), figure.read_bytes()
    again = gapctl("claims", "--runs", runs, "--out", str(out))

    assert (answer.exit_code, again.exit_code) == (0, 0)
    rows = text.split("## The rows")[1]
    first, second = rows.split("### Claim 2")[0].split("### Claim 1")[1], rows.split("### Claim 2")[1]
    assert "No sweep of this ledger tests it yet" in first
    assert "**supported**" in second.split("### Claim 3")[0]
    assert "images/findings/made-up.base.svg" in second
    assert drawn.startswith(b"<svg")
    assert (out.read_text(), figure.read_bytes()) == (text, drawn)
    assert str(tmp_path) not in text


def test_a_hypothesis_of_no_claim_is_told_all_the_same(tmp_path: Path) -> None:
    asked_and_answered(tmp_path)

    page = gapctl("claims", "--runs", str(tmp_path / "runs")).out

    assert "`slope`" in page.split("### Other hypotheses")[1]


def test_an_undecided_verdict_asks_for_seeds_and_a_settled_one_for_the_next_scale(tmp_path: Path) -> None:
    document = json.loads(sweep_file(tmp_path, TREND, CONTRAST, name="scaled").read_text())
    document["scales"] = {"short": {}, "long": {"base.train.samples": 2_560}, "longer": {"base.train.samples": 25_600}}
    document["default_scale"] = "short"
    path = tmp_path / "scaled.yaml"
    path.write_text(json.dumps(document))
    fill(Ledger(str(tmp_path / "runs")), load_plan(path, None, None), falling(0.05, noise=0.005))
    fill(Ledger(str(tmp_path / "runs2")), load_plan(path, None, None), falling(0.02, noise=0.02))

    settled = gapctl("claims", "--runs", str(tmp_path / "runs")).out
    undecided = gapctl("claims", "--runs", str(tmp_path / "runs2")).out

    assert "scale `long`: 2,560 pairs a training" in settled
    assert "`longer`" not in settled
    assert " seeds |" in undecided


def test_a_claim_whose_rows_all_stand_beside_it_is_untested(tmp_path: Path) -> None:
    asked_and_answered(tmp_path, name="encoder_bias")

    page = gapctl("claims", "--runs", str(tmp_path / "runs")).out
    claim = page.split("### Claim 2")[1].split("### Claim 3")[0]

    asked = "It is asked by `sweeps/imbalance.yaml`, `sweeps/presence_bias.yaml`, `sweeps/recipes.yaml`."
    assert f"No sweep of this ledger tests it yet. {asked} The rows below do not decide it." in claim
    assert "| ✓ **supported** (redesigned) | – |" in claim


def test_an_average_of_opposite_effects_is_marked_and_told(tmp_path: Path) -> None:
    source = {"source": "arXiv 2404.07983, claim 1"}
    path = sweep_file(tmp_path, {**CONTRAST, **source}, vary={ATTRIBUTES: [0, 5], "model.embed_dim": [32, 64]})
    fill(Ledger(str(tmp_path / "runs")), load_plan(path, None, None), opposite)

    page = gapctl("claims", "--runs", str(tmp_path / "runs")).out

    effects = "−0.300 where it is 32, 0.100 where it is 64"
    beyond = "both with their intervals beyond the smallest effect of 0.05"
    assert re.search(r"\| −0\.\d+ † \|", page)
    assert f"† `difference`, made-up (base), is averaged over embedding size: {effects}, {beyond}." in page


def opposite(trial: Trial) -> dict[str, float]:
    """Full captions close the gap by 0.3 in 32 dimensions, and open it by 0.1 in 64."""
    effect = -0.3 if trial.factors["model.embed_dim"] == 32 else 0.1
    return {RMG: 0.5 + (effect + 0.001 * (trial.seed - 1)) * float(trial.factors[ATTRIBUTES]) / 5}


def test_notes_stand_below_their_claims(tmp_path: Path) -> None:
    asked_and_answered(tmp_path, "arXiv 2404.07983, claim 1")
    notes = tmp_path / "notes.yaml"
    notes.write_text("claim 1: >-\n  Another ledger,\n  [elsewhere](x.md), found less.\n")

    page = gapctl("claims", "--runs", str(tmp_path / "runs"), "--notes", str(notes)).out

    assert "**Note.** Another ledger, [elsewhere](x.md), found less.\n\n<details>" in page.split("### Claim 1")[1]
    assert page.count("**Note.**") == 1


def test_the_answer_stands_first_and_each_claim_has_a_row_with_what_other_ledgers_say(tmp_path: Path) -> None:
    asked_and_answered(tmp_path, "arXiv 2404.07983, claim 1")
    notes = tmp_path / "notes.yaml"
    notes.write_text(
        "ledger: short runs\nanswer: It closes.\nhad wrong before: Much.\nwould change our mind: A longer run.\n"
        "claim 1: {answer: It does., number: made-up/difference, measure: RMG, elsewhere: {long runs: not so}}\n"
        "claim 2: {elsewhere: {public models: some}}\n"
    )

    page = gapctl("claims", "--runs", str(tmp_path / "runs"), "--notes", str(notes)).out
    head, first, second = (
        line for line in page.splitlines() if line.startswith(("| claim", "| **Claim 1", "| **Claim 2"))
    )

    assert (
        page.index("It closes.") < page.index("## Claim by claim") < page.index("A longer run.") < page.index("Much.")
    )
    assert page.index("Much.") < page.index("## The rows")
    assert head == "| claim | answer | key number | short runs | long runs | public models | designs |"
    assert re.search(r"\| It does\. \| RMG: −0\.2\d+, .* \(95 %\) \| 2 for \| not so \| untested \| 1 \|", first)
    assert second.endswith("| – | – | untested | untested | some | – |")


def test_rows_and_figures_are_folded_below_their_claims(tmp_path: Path) -> None:
    asked_and_answered(tmp_path, "arXiv 2404.07983, claim 1")

    page = gapctl("claims", "--runs", str(tmp_path / "runs")).out
    folded = "".join(re.findall(r"<details>.*?</details>", page, flags=re.S))

    assert "<details><summary>2 rows: 2 for</summary>\n\n| our test" in page
    assert "`slope`" in folded
    assert "![" in folded
    assert "| our test" not in page.replace(folded, "").split("<details>")[0]


def test_p_is_corrected_over_all_rows_of_the_page(tmp_path: Path) -> None:
    for name, first_seed in (("one", 0), ("other", 10)):
        path = sweep_file(tmp_path, TREND, CONTRAST, name=name, first_seed=first_seed)
        fill(Ledger(str(tmp_path / "runs")), load_plan(path, None, None), falling(0.05, noise=0.005))
    sweeps, _ = judge_ledger(LedgerSnapshot(str(tmp_path / "runs")))
    rows = [VerdictRow(verdict, judged) for judged in sweeps for verdict in judged.analysis.verdicts]
    explored = [VerdictRow(replace(row.verdict, exploratory=True), row.judged) for row in rows[:1]]

    found = correct_over_page(rows)
    smallest = min(rows, key=lambda row: row.verdict.p_claim)

    assert found[smallest.key] == pytest.approx(4 * smallest.verdict.p_claim)
    assert len(correct_over_page([*explored, *rows[1:]])) == 3
    page = gapctl("claims", "--runs", str(tmp_path / "runs")).out
    assert "have p below 0.05 over all 4 confirmatory rows of the page" in page


def test_a_row_whose_arms_learned_nothing_is_struck_through_with_the_reason(tmp_path: Path) -> None:
    source = {"source": "arXiv 2404.07983, claim 1"}
    path = sweep_file(tmp_path, {**CONTRAST, **source})
    fill(Ledger(str(tmp_path / "runs")), load_plan(path, None, None), guessing)

    page = gapctl("claims", "--runs", str(tmp_path / "runs")).out
    claim = page.split("### Claim 1")[1].split("### Claim 2")[0]

    assert re.search(
        r"\| ~~−0\.\d+~~ \| ~~.* to .*~~ \| ~~✓ \*\*supported\*\*~~ \(not learned\) \| not learned \|", claim
    )
    assert "No sweep of this ledger tests it yet" in claim
    assert "`difference`. Not learned: " in claim


def guessing(trial: Trial) -> dict[str, float]:
    """The gap closes as claimed, and the loss is that of guessing where captions say nothing."""
    said = float(trial.factors[ATTRIBUTES])
    return {**falling(0.05, noise=0.005)(trial), "train/loss": math.log(256) * (1 - 0.1 * said)}


def test_a_sweep_that_asks_again_is_marked_with_how_often_and_its_first_answer(tmp_path: Path) -> None:
    asked_and_answered(tmp_path, "arXiv 2404.07983, claim 1", name="initial_gap")

    page = gapctl("claims", "--runs", str(tmp_path / "runs")).out

    assert "✓ **supported** (redesigned)" in page
    assert "| 2 for | 2 |" in page
    assert "| initial\\_gap (base) | Does it? | 2 | closed |" in page


def test_claims_about_correlated_accuracies_show_both_estimands(tmp_path: Path) -> None:
    both = {
        "id": "together",
        "claim": "Both rise.",
        "test": "correlation",
        "response": "quality/attribute_accuracy",
        "against": "quality/object_accuracy",
        "direction": "increasing",
        "smallest_effect": 0.2,
        "source": "arXiv 2404.07983, claim 4",
    }
    vary = {ATTRIBUTES: [1, 3, 5], "data.captions.noise": [0.0, 0.1, 0.3]}
    path = sweep_file(tmp_path, both, vary=vary)
    fill(Ledger(str(tmp_path / "runs")), load_plan(path, None, None), trading)
    notes = tmp_path / "notes.yaml"
    notes.write_text("claim 4: {number: made-up/content-held}\n")

    page = gapctl("claims", "--runs", str(tmp_path / "runs"), "--notes", str(notes)).out
    (row,) = [line for line in page.splitlines() if line.startswith("| made-up (base) |") and "seeds) |" in line]

    assert row.startswith("| made-up (base) | 1.00")
    assert "| −1.00" in row
    assert "τ 1.00" in page.split("## The rows")[0]


def trading(trial: Trial) -> dict[str, float]:
    """Richer captions trade objects for attributes, and noise harms both."""
    said, noise = float(trial.factors[ATTRIBUTES]), float(trial.factors["data.captions.noise"])
    return {"quality/attribute_accuracy": 60 + said - 9 * noise, "quality/object_accuracy": 60 - said - 9 * noise}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("claim 7: none\n", "found 'claim 7'; expected one of claim 1, "),
        ("claim 1: 3\n", "claim 1: found 3; expected a text"),
        ("- claim 1\n", "found no mapping"),
        ("claim 1: [\n", "is not YAML"),
        ("answer: [1]\n", "answer: found [1]; expected a text"),
        (
            "claim 1: {anwser: x}\n",
            "claim 1: anwser: is no key; expected some of answer, number, measure, elsewhere, note",
        ),
        ("claim 1: {elsewhere: {long: 3}}\n", "claim 1: elsewhere: long: found 3; expected a text"),
        ("claim 1: {number: made-up/nothing}\n", "claim 1: number: found 'made-up/nothing'; expected SWEEP/HYPOTHESIS"),
        (None, "no such file"),
    ],
)
def test_notes_that_are_no_texts_by_claim_are_refused(tmp_path: Path, text: str | None, said: str) -> None:
    asked_and_answered(tmp_path)
    notes = tmp_path / "notes.yaml"
    if text is not None:
        notes.write_text(text)

    answer = gapctl("claims", "--runs", str(tmp_path / "runs"), "--notes", str(notes))

    assert answer.exit_code == 2
    assert f"--notes {notes}: " in answer.err
    assert said in answer.err


def test_the_same_scale_in_two_ledgers_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        asked_and_answered(tmp_path / name)

    answer = gapctl("claims", "--runs", str(tmp_path / "one/runs"), "--runs", str(tmp_path / "two/runs"))

    assert answer.exit_code == 2
    assert "made-up (base) is in" in answer.err


def test_a_ledger_that_keeps_no_sweep_is_refused_where_it_is_named(tmp_path: Path) -> None:
    answer = gapctl("claims", "--runs", str(tmp_path / "none"))

    assert answer.exit_code == 2
    assert "keeps no sweep" in answer.err


def test_before_anything_ran_the_page_says_what_would_be_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    page = gapctl("claims").out

    assert page.count("No sweep of this ledger tests it yet") == len(load_claims()) - 1
    assert "none was measured here" in page.split("### Claim 6")[1].split("### ")[0]


@pytest.mark.parametrize(("out", "said"), [("findings.html", "expected .md"), ("none/findings.md", "no folder")])
def test_a_page_that_cannot_be_written_is_refused_at_once(tmp_path: Path, out: str, said: str) -> None:
    answer = gapctl("claims", "--out", str(tmp_path / out))

    assert answer.exit_code == 2
    assert said in answer.err


def test_without_a_clone_of_the_repository_the_verb_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gapctl.cli.claims.__file__", str(tmp_path / "site-packages/gapctl/cli/claims.py"))

    answer = gapctl("claims")

    assert answer.exit_code == 2
    assert "docs/make_findings.py is missing" in answer.err


def test_what_claims_and_checks_name_is_in_the_shipped_files() -> None:
    files = [load_sweep(path).spec for path in (REPOSITORY / "sweeps").glob("*.yaml")]
    by_sweep = {spec.name: {item.id for item in spec.hypotheses} for spec in files}
    shipped = set().union(*by_sweep.values())
    families = {key.partition("/")[0] for key in METRICS}

    assert shipped.isdisjoint(load_retired_hypotheses())
    for claim in load_claims():
        named = {*claim.also, *claim.against, *claim.contrary, *claim.beside}
        assert named <= shipped | set(load_retired_hypotheses()), claim.number
        assert set(claim.sweeps) <= set(by_sweep), claim.number
        assert set(claim.responses) <= families, claim.number
    for sweep, of_sweep in load_withdrawals().items():
        assert set(of_sweep) <= by_sweep[sweep], sweep
    assert set(load_redesigns()) <= set(by_sweep)
    for sweep, of_sweep in load_checks().items():
        for check, leaning in of_sweep.items():
            named = [] if leaning == "all" else leaning
            assert {check, *named} <= by_sweep[sweep], f"{sweep}: {check}"
            assert check not in named
