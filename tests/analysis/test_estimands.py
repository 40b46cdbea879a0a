"""A correlation with content held and one with quality held: Simpson's paradox told apart, on data of known truth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis_ledgers import ATTRIBUTES, Measure, fill, plan_of, sweep_file
from scipy import stats

from findings_estimates import Estimands, measure_both_estimands
from gapctl.analysis.tables import read_trial_tables
from gapctl.config.hypotheses import Correlation
from gapctl.ledger import Ledger
from gapctl.plan.plan import Trial

OBJECT, ATTRIBUTE = "quality/object_accuracy", "quality/attribute_accuracy"
NOISE = "data.captions.noise"
TOGETHER: Mapping[str, Any] = {
    "id": "together",
    "claim": "Both rise together.",
    "test": "correlation",
    "response": ATTRIBUTE,
    "against": OBJECT,
    "direction": "increasing",
    "smallest_effect": 0.2,
}
VARY: Mapping[str, list[Any]] = {ATTRIBUTES: [1, 3, 5], NOISE: [0.0, 0.1, 0.2, 0.3]}


def found(folder: Path, measure: Measure, vary: Mapping[str, list[Any]] = VARY, **changes: Any) -> Estimands | None:
    plan = plan_of(sweep_file(folder, {**TOGETHER, **changes}, vary=vary, seeds=4))
    ledger = Ledger(str(folder / "runs"))
    fill(ledger, plan, measure)
    (hypothesis,) = plan.sweep.spec.hypotheses
    assert isinstance(hypothesis, Correlation)
    return measure_both_estimands(hypothesis, read_trial_tables(plan, ledger).trials, plan.sweep.spec)


def trading(content: float, quality: float, jitter: float = 0.01) -> Measure:
    """Content adds to attributes what it takes from objects; quality adds to both."""

    def measure(trial: Trial) -> dict[str, float]:
        said, clean = float(trial.factors[ATTRIBUTES]) / 5, 1 - float(trial.factors[NOISE]) / 0.3
        own = np.random.default_rng(int(trial.id, 16)).normal(scale=jitter, size=2)
        return {
            ATTRIBUTE: 50 + content * said + quality * clean + own[0],
            OBJECT: 50 - content * said + quality * clean + own[1],
        }

    return measure


@pytest.mark.parametrize(("content", "quality"), [(20.0, 3.0), (5.0, 5.0), (1.0, 10.0)])
def test_a_trade_by_content_and_a_rise_by_quality_are_both_seen_whichever_is_larger(
    tmp_path: Path, content: float, quality: float
) -> None:
    estimands = found(tmp_path, trading(content, quality))

    assert estimands is not None
    assert estimands.content_held.value == pytest.approx(1.0)
    assert estimands.quality_held.value == pytest.approx(-1.0)
    assert (estimands.content_held.seeds, estimands.quality_held.seeds) == (4, 4)


def test_where_neither_matters_both_are_near_nothing(tmp_path: Path) -> None:
    estimands = found(tmp_path, trading(0.0, 0.0, jitter=1.0))

    assert estimands is not None
    assert all(tau.ci.low < 0 < tau.ci.high for tau in estimands)


def test_the_value_is_the_mean_over_seeds_of_tau_over_pairs_of_one_content(tmp_path: Path) -> None:
    def drawn(trial: Trial) -> dict[str, float]:
        own = np.random.default_rng(int(trial.id, 16)).normal(size=2)
        return {ATTRIBUTE: 50 + own[0], OBJECT: 50 + own[0] + own[1]}

    plan = plan_of(sweep_file(tmp_path, TOGETHER, vary=VARY, seeds=4))
    values = {(trial.seed, trial.factors[ATTRIBUTES], trial.factors[NOISE]): drawn(trial) for trial in plan.trials}

    def tau(seed: int, said: int) -> float:
        arms = [values[seed, said, noise] for noise in VARY[NOISE]]
        return float(stats.kendalltau([arm[ATTRIBUTE] for arm in arms], [arm[OBJECT] for arm in arms]).statistic)

    estimands = found(tmp_path, drawn)

    assert estimands is not None
    expected = np.mean([tau(seed, said) for seed in range(4) for said in VARY[ATTRIBUTES]])
    assert estimands.content_held.value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("vary", "changes"),
    [
        ({ATTRIBUTES: [0, 3, 5]}, {}),
        ({NOISE: [0.0, 0.1, 0.3]}, {}),
        (VARY, {"where": {ATTRIBUTES: 3}}),
    ],
)
def test_a_sweep_that_varies_content_alone_or_quality_alone_has_no_two_estimands(
    tmp_path: Path, vary: Mapping[str, list[Any]], changes: Mapping[str, Any]
) -> None:
    def level(trial: Trial) -> dict[str, float]:
        own = np.random.default_rng(int(trial.id, 16)).normal(size=2)
        return {ATTRIBUTE: own[0], OBJECT: own[1]}

    assert found(tmp_path, level, vary, **changes) is None
