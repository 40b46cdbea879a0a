"""Threshold: the response itself against a value, judged by the t test of one sample."""

from pathlib import Path
from typing import Any

import pytest
from analysis_ledgers import ATTRIBUTES, RMG, fill, plan_of, sweep_file
from scipy import stats

from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.results import Verdict
from gapctl.ledger import Ledger
from gapctl.plan.plan import Trial
from gapctl.report.text import describe_effect_with_unit

THRESHOLD = {
    "id": "a-gap-is-left",
    "claim": "A gap is left.",
    "test": "threshold",
    "response": RMG,
    "value": 0.1,
    "direction": "increasing",
    "smallest_effect": 0.02,
}
GRID = {ATTRIBUTES: [0, 5], "temperature.mode": ["learned", "fixed"]}


def judged(folder: Path, means: list[float], **changes: Any) -> Verdict:
    """The verdict where each seed's trainings lie around its mean, poor captions 0.03 above and rich ones below."""
    plan = plan_of(sweep_file(folder, {**THRESHOLD, **changes}, vary=GRID, seeds=len(means)))
    ledger = Ledger(str(folder / "runs"))

    def measure(trial: Trial) -> dict[str, float]:
        return {RMG: means[trial.seed] + (0.03 if trial.factors[ATTRIBUTES] == 0 else -0.03)}

    fill(ledger, plan, measure)
    return analyze_finished_trials(plan, ledger).verdicts[0]


def test_the_effect_is_the_mean_of_all_trainings_less_the_value(tmp_path: Path) -> None:
    means = [0.21, 0.19, 0.22, 0.2]
    found = judged(tmp_path, means)

    assert (found.verdict, found.factor, found.value, found.seeds, found.trials) == ("supported", "", 0.1, 4, 16)
    assert found.estimate == pytest.approx(0.105)
    assert found.p_direction == pytest.approx(stats.ttest_1samp(means, 0.1, alternative="greater").pvalue)
    assert found.p_claim == pytest.approx(stats.ttest_1samp(means, 0.12, alternative="greater").pvalue)
    low, high = stats.ttest_1samp(means, 0.1).confidence_interval()
    assert tuple(found.ci) == pytest.approx((low - 0.1, high - 0.1))
    assert found.standardised_pooled == pytest.approx(found.standardised)
    assert found.reason == (
        "All 4 seeds lie above 0.1, by 0.090 to 0.120; the interval lies beyond the smallest effect of 0.02."
    )


def test_where_keeps_some_trainings(tmp_path: Path) -> None:
    found = judged(tmp_path, [0.21, 0.19, 0.22], where={ATTRIBUTES: 5})

    assert (found.estimate, found.trials) == (pytest.approx(0.0767, abs=1e-4), 6)
    assert describe_effect_with_unit(found) == (
        "mean of relative modality gap (RMG), less 0.1, where attributes in the caption is 5"
    )


def test_a_response_on_the_other_side_refutes(tmp_path: Path) -> None:
    found = judged(tmp_path, [0.02, 0.03, 0.01])

    assert found.verdict == "refuted"
    assert found.reason.endswith("the whole interval lies on the other side of 0.1.")


@pytest.mark.parametrize(
    ("means", "direction", "said"),
    [
        ([0.3], "increasing", "The only complete seed lies above 0.1, by 0.200; an interval needs at least two seeds."),
        ([0.3, 0.05, 0.0], "decreasing", "2 of 3 seeds lie below 0.1, the distances running from -0.100 to 0.200; "),
        ([0.25, 0.25], "either", "Both seeds lie above 0.1, by exactly 0.150; "),
        ([0.1, 0.1], "increasing", "Both seeds lie at 0.1 itself; "),
    ],
)
def test_the_reason_says_where_the_seeds_lie(tmp_path: Path, means: list[float], direction: str, said: str) -> None:
    assert judged(tmp_path, means, direction=direction).reason.startswith(said)


def test_a_seed_without_all_its_trainings_is_left_out_and_named(tmp_path: Path) -> None:
    plan = plan_of(sweep_file(tmp_path, THRESHOLD, vary=GRID, seeds=3))
    ledger = Ledger(str(tmp_path / "runs"))
    fill(ledger, plan, lambda trial: {RMG: 0.2 + trial.seed / 100}, plan.trials[:-1])
    (found,) = analyze_finished_trials(plan, ledger).verdicts

    assert (found.seeds, found.exploratory) == (2, True)
    assert "seed 2 is left out as 11 of 12 trainings are done" in found.reason
