"""Predictions: a response at levels left out in turn is forecast from other metrics, and levels are the replicates."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis_ledgers import fill, plan_of, sweep_file

from command_line import gapctl
from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.json_output import build_analysis_json
from gapctl.analysis.paired_responses import FloatArray, PairedResponses
from gapctl.analysis.prediction import PredictionEstimate, build_error_matrix, estimate_prediction
from gapctl.analysis.results import AnalysisResults
from gapctl.cli.options import load_plan
from gapctl.config.hypotheses import Prediction
from gapctl.config.information import find_caption_bits
from gapctl.config.load import load_sweep
from gapctl.ledger import Ledger
from gapctl.plan.plan import Plan, Trial, make_plan

ONE_LAW = Path(__file__).parents[2] / "sweeps" / "one_law.yaml"
KINDS = "captions"
L2M, BITS, OTHER = "gap/l2m", "information/image_given_caption", "train/loss"
PREDICTION: dict[str, Any] = {
    "id": "bits-foretell",
    "claim": "Bits foretell the gap of captions that no forecast has seen.",
    "test": "prediction",
    "response": L2M,
    "factor": KINDS,
    "predictors": [BITS],
    "smallest_effect": 0.25,
}


Values = Sequence[float] | FloatArray


def asked(predictors: int = 1, beyond: int = 0, smallest: float = 0.25) -> Prediction:
    names = [f"information/m{place}" for place in range(predictors + beyond)]
    named = {"predictors": names[:predictors], "beyond": names[predictors:], "smallest_effect": smallest}
    return Prediction.model_validate({**PREDICTION, **named})


def estimated(response: Values, *metrics: Values, beyond: int = 0) -> PredictionEstimate:
    """The prediction of a response at levels, of one seed; the last `beyond` metrics are those that both have."""
    values_RSC = np.array([response, *metrics], dtype=float)[:, None]
    count = len(response)
    paired = PairedResponses((0,), values_RSC, 1, (), (), count, count)
    levels = tuple(f"a{place}" for place in range(count))
    return estimate_prediction(asked(len(metrics) - beyond, beyond), levels, paired, 0.05)


TWO_GROUPS = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
IN_GROUPS = [0.0, 1.0, 2.0, 10.0, 11.0, 12.0]


def test_the_skill_is_the_share_of_the_squared_error_that_predictors_take_away() -> None:
    """A group's level is forecast by the mean of its two others, and without predictors by that of all five."""
    found = estimated(IN_GROUPS, TWO_GROUPS)
    before, after = 1.2**2 * 2 * (36 + 25 + 16), 4 * 1.5**2

    assert found.estimate.value == pytest.approx(1 - after / before)
    assert found.estimate.effects_S.mean() == pytest.approx(found.estimate.value)
    assert found.summary is not None
    assert found.summary.error == pytest.approx(math.sqrt(after / 6))
    assert found.summary.error_before == pytest.approx(math.sqrt(before / 6))
    assert [one.forecast for one in found.summary.levels] == pytest.approx([1.5, 1.0, 0.5, 11.5, 11.0, 10.5])
    assert [one.before for one in found.summary.levels] == pytest.approx([(36 - y) / 5 for y in IN_GROUPS])


def test_p_is_the_share_of_permutations_that_foretell_as_well() -> None:
    """Of 720 permutations, those that keep the low three together in one group or the other: 2 x 3! x 3!."""
    assert estimated(IN_GROUPS, TWO_GROUPS).estimate.p == pytest.approx(72 / 720)


def refitted(level: int, response_L: FloatArray, columns_LQ: FloatArray) -> float:
    """The error at a level when a line with intercept is fitted to all others."""
    others = np.arange(len(response_L)) != level
    design_LQ = np.column_stack([np.ones(len(response_L)), columns_LQ])
    coefficients_Q = np.linalg.lstsq(design_LQ[others], response_L[others], rcond=None)[0]
    return float(response_L[level] - design_LQ[level] @ coefficients_Q)


@pytest.mark.parametrize("columns", [0, 1, 3])
def test_errors_in_closed_form_are_those_of_fitting_anew_without_each_level(columns: int) -> None:
    rng = np.random.default_rng(columns)
    response_L, columns_LQ = rng.standard_normal(9), 5 + 100 * rng.standard_t(3, (9, columns))

    found_L = build_error_matrix(columns_LQ) @ response_L

    assert found_L == pytest.approx([refitted(level, response_L, columns_LQ) for level in range(9)])


def test_columns_that_others_tell_and_constant_ones_change_no_forecast() -> None:
    rng = np.random.default_rng(0)
    one_L, other_L = rng.standard_normal((2, 9))
    plain_LL = build_error_matrix(np.column_stack([one_L, other_L]))
    tied_LL = build_error_matrix(np.column_stack([one_L, other_L, 10.7 - one_L, 3 * other_L, np.full(9, 10.7)]))

    assert tied_LL == pytest.approx(plain_LL, abs=1e-9)
    assert estimated(rng.standard_normal(9), np.full(9, 10.7)).estimate.value == pytest.approx(0, abs=1e-12)


def test_a_level_that_alone_tells_a_predictor_is_forecast_without_it() -> None:
    """Others know nothing of what the predictor does, so that they forecast by their mean."""
    response_L, alone_L = np.array([1.0, 2.0, 3.0, 4.0, 50.0, 5.0]), np.eye(6)[4]

    error_L = build_error_matrix(alone_L[:, None]) @ response_L

    assert error_L[4] == pytest.approx(50 - 3)
    assert error_L[0] == pytest.approx(1 - 3.5)


def test_what_is_known_beyond_is_taken_out_of_both_forecasts() -> None:
    rng = np.random.default_rng(4)
    known_L, new_L = rng.standard_normal((2, 30))
    response_L = new_L + 0.2 * rng.standard_normal(30)

    without, with_it = (
        estimated(response_L + known * known_L, new_L, known_L, beyond=1).estimate for known in (0.0, 5.0)
    )

    assert with_it.value == pytest.approx(without.value)
    assert (with_it.p, with_it.p_claim) == pytest.approx((1 / 3000, 1 / 3000))
    assert with_it.ci == pytest.approx(without.ci)
    assert 0.8 < with_it.ci.low < with_it.value


def test_the_interval_is_over_levels_and_never_exceeds_one() -> None:
    rng = np.random.default_rng(6)
    predictor_L = rng.standard_normal(30)

    found = estimated(predictor_L + 0.01 * rng.standard_normal(30), predictor_L).estimate

    assert 0.99 < found.ci.low < found.value < found.ci.high < 1
    assert found.ci_bootstrap.low < found.value < found.ci_bootstrap.high


def test_a_response_that_predictors_tell_exactly_has_the_skill_one() -> None:
    found = estimated([1.0, 2.0, 3.0, 5.0, 8.0, 13.0], [2.0, 4.0, 6.0, 10.0, 16.0, 26.0]).estimate

    assert found.value == pytest.approx(1)
    assert found.ci == pytest.approx((1, 1))


def test_a_response_that_is_the_same_everywhere_leaves_nothing_to_forecast() -> None:
    same = estimated([0.1 + 0.2] * 6, TWO_GROUPS)
    told = estimated([2 * value + 1 for value in IN_GROUPS], TWO_GROUPS, IN_GROUPS, beyond=1)

    assert math.isnan(same.estimate.value)
    assert same.note == f"nothing is left to forecast: {L2M} is the same at all levels"
    assert told.note == f"nothing is left to forecast: {L2M} is told exactly by information/m1"


def planned(folder: Path, levels: int = 8, seeds: int = 3, **changes: Any) -> Plan:
    kinds = {
        f"kind-{place}": {"data.captions.attributes": place % 6, "train.lr": 1e-4 * (place + 1)}
        for place in range(levels)
    }
    path = sweep_file(folder, {**PREDICTION, **changes}, vary={KINDS: list(kinds)}, seeds=seeds)
    path.write_text(json.dumps({**json.loads(path.read_text()), "treatments": {KINDS: kinds}}))
    return plan_of(path)


def judged(folder: Path, plan: Plan, noise: float = 0.0) -> AnalysisResults:
    """A gap of 0.1 for each bit that captions leave unsaid, and noise of the level and of the seed."""
    rng = np.random.default_rng(1)
    own = {str(level): noise * float(rng.standard_normal()) for level in plan.sweep.spec.vary[KINDS]}

    def measure(trial: Trial) -> dict[str, float]:
        attributes = int(str(trial.factors[KINDS]).removeprefix("kind-")) % 6
        return {
            L2M: 0.1 * (5 - attributes) + own[str(trial.factors[KINDS])] + 0.01 * (trial.seed - 1),
            OTHER: attributes % 2,
        }

    ledger = Ledger(str(folder / "runs"))
    fill(ledger, plan, measure)
    return analyze_finished_trials(plan, ledger)


def test_a_verdict_counts_levels_and_says_from_what_they_were_forecast(tmp_path: Path) -> None:
    analysis = judged(tmp_path, planned(tmp_path), noise=0.01)
    (found,) = analysis.verdicts

    assert (found.verdict, found.seeds, found.replicates, found.trials) == ("supported", 8, 8, 24)
    assert (found.replicate_noun, found.direction, found.factor) == ("level", "increasing", KINDS)
    assert not found.exploratory
    assert found.reason.startswith(
        "Over 8 levels of captions, each left out in turn at its mean over 3 seeds, the root mean squared error of "
    )
    assert "by the mean of the others and 0.0" in found.reason
    assert "the interval lies beyond the smallest effect of 0.25" in found.reason
    assert found.seeds_needed is None


def test_one_seed_is_enough_as_levels_are_the_replicates(tmp_path: Path) -> None:
    (found,) = judged(tmp_path, planned(tmp_path, seeds=1), noise=0.01).verdicts

    assert found.verdict == "supported"
    assert "at its mean over 1 seed," in found.reason


def test_the_json_has_the_forecast_of_each_level(tmp_path: Path) -> None:
    document = build_analysis_json(judged(tmp_path, planned(tmp_path), noise=0.01), ())
    found = json.loads(json.dumps(document))["verdicts"][0]

    assert found["predictors"] == [BITS]
    assert found["beyond"] == []
    assert found["replicate_noun"] == "level"
    assert found["forecast"]["seeds"] == 3
    assert found["forecast"]["levels"][0]["level"] == "kind-0"
    assert found["forecast"]["levels"][0]["forecast"] == pytest.approx(0.5, abs=0.05)
    assert found["forecast"]["error"] < 0.2 * found["forecast"]["error_before"]
    assert found["standardised"] is None


def test_a_seed_whose_trainings_are_not_all_done_is_left_out_of_every_level(tmp_path: Path) -> None:
    plan, ledger = planned(tmp_path), Ledger(str(tmp_path / "runs"))
    fill(ledger, plan, lambda trial: {L2M: float(trial.seed)}, [trial for trial in plan.trials if trial.seed < 2])
    (found,) = analyze_finished_trials(plan, ledger).verdicts

    assert found.exploratory
    assert found.reason.startswith(
        "Nothing is left to forecast: gap/l2m is the same at all levels; seed 2 is left out as 16 of 24"
    )


def test_a_training_that_ends_apart_and_one_that_learned_nothing_are_marked(tmp_path: Path) -> None:
    plan, ledger = planned(tmp_path, levels=9), Ledger(str(tmp_path / "runs"))

    def measure(trial: Trial) -> dict[str, float]:
        own = float(np.random.default_rng(plan.trials.index(trial)).normal(0, 0.01))
        failed = trial is plan.trials[0]
        return {L2M: 0.1 + own + failed, OTHER: 5.545 if failed else 2.0}

    fill(ledger, plan, measure)
    (found,) = analyze_finished_trials(plan, ledger).verdicts

    assert found.marks == ("not learned", "two modes")
    assert [check.arm for check in found.not_learned] == ["captions=kind-0"]
    assert [mode.trainings for mode in found.two_modes] == [("captions=kind-0 seed=0",)]


def law(trial: Trial) -> dict[str, float]:
    """A gap by what cannot be foreseen alone, a little of each kind's own, and RMG by both."""
    bits = find_caption_bits(trial.config)
    assert bits is not None
    own = float(np.random.default_rng(sum(map(ord, str(trial.factors[KINDS])))).normal(0, 0.03))
    gap = 0.2 + 0.05 * bits.caption_given_image + own + 0.005 * (trial.seed % 3)
    return {L2M: gap, "gap/rmg": 0.3 + 0.03 * bits.image_given_caption + 0.02 * bits.caption_given_image + own}


def test_the_law_of_the_shipped_sweep_is_found_and_told_on_every_page(tmp_path: Path) -> None:
    """At the smallest scale: ten kinds of captions of one seed."""
    runs = str(tmp_path / "runs")
    fill(Ledger(runs), load_plan(ONE_LAW, "smoke", None), law)
    asked_for = ("analyze", str(ONE_LAW), "--scale", "smoke", "--runs", runs)
    pages = [tmp_path / f"report.{ending}" for ending in ("html", "md", "tex")]
    for page in pages:
        assert gapctl(*asked_for, "--out", str(page)).exit_code == 0
    found = {one["id"]: one for one in json.loads(gapctl(*asked_for, "--json").out)["verdicts"]}

    assert found["bits-foretell-the-distance-of-the-means"]["verdict"] == "supported"
    assert found["what-cannot-be-foreseen-foretells-it-beyond-what-is-unsaid"]["verdict"] == "supported"
    assert found["what-is-unsaid-foretells-it-beyond-what-cannot-be-foreseen"]["verdict"] != "supported"
    assert found["reverse-imbalance-opens-the-gap"]["verdict"] == "inconclusive"  # of one seed
    for place, text in enumerate((gapctl(*asked_for).out, *(page.read_text() for page in pages))):
        said = " ".join(text.split())
        assert "left out in turn" in said
        assert "share of the squared error" in said
        if place < 3:  # the table of LaTeX has no reasons
            assert "Over 10 levels of captions, each left out in turn at its mean over 1 seed" in said
    assert "levels left out in turn; trainings" in pages[0].read_text()


def test_the_shipped_sweep_has_enough_kinds_at_every_scale_and_bits_of_each() -> None:
    for scale in ("smoke", "laptop", "hour", "paper"):
        plan = make_plan(load_sweep(ONE_LAW, scale), lambda data: "data")
        kinds = plan.sweep.spec.vary[KINDS]
        known = {trial.factors[KINDS]: find_caption_bits(trial.config) for trial in plan.trials}

        assert len(kinds) >= (10 if scale == "smoke" else 30)
        assert set(known) == set(kinds)
        assert all(known.values())
