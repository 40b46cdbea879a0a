"""Mediation: a treatment's effect with the mediator free, less the same with the mediator held fixed."""

import math
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis_ledgers import ATTRIBUTES, RMG, fill, plan_of, sweep_file
from scipy import stats

from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.estimates import compute_fieller_interval
from gapctl.analysis.results import Verdict
from gapctl.ledger import Ledger
from gapctl.plan.plan import Trial

MODE = "temperature.mode"
GRID = {ATTRIBUTES: [0, 5], MODE: ["learned", "fixed"]}
MEDIATION: dict[str, Any] = {
    "id": "temperature-carries-it",
    "claim": "A learned temperature keeps poorer captions from opening the gap.",
    "test": "mediation",
    "response": RMG,
    "factor": ATTRIBUTES,
    "between": [5, 0],
    "mediator": MODE,
    "free": "learned",
    "fixed": "fixed",
    "direction": "decreasing",
    "smallest_effect": 0.05,
}


def judged(folder: Path, free: Sequence[float], fixed: Sequence[float]) -> Verdict:
    """Each seed's rise of RMG from five attributes to none, with the temperature learned and with it fixed."""
    plan = plan_of(sweep_file(folder, MEDIATION, vary=GRID, seeds=len(free)))

    def measure(trial: Trial) -> dict[str, float]:
        effects = free if trial.factors[MODE] == "learned" else fixed
        return {RMG: 0.2 + 0.1 * trial.seed + (trial.factors[ATTRIBUTES] == 0) * effects[trial.seed]}

    ledger = Ledger(str(folder / "runs"))
    fill(ledger, plan, measure)
    return analyze_finished_trials(plan, ledger).verdicts[0]


def test_what_a_mediator_carries_is_the_difference_of_the_differences(tmp_path: Path) -> None:
    found = judged(tmp_path, free=[0.20, 0.22, 0.21], fixed=[0.40, 0.44, 0.41])

    assert (found.verdict, found.seeds, found.trials) == ("supported", 3, 12)
    assert found.estimate == pytest.approx(0.63 / 3 - 1.25 / 3)
    assert (found.effect_free, found.effect_fixed) == pytest.approx((0.63 / 3, 1.25 / 3))
    assert found.share_mediated == pytest.approx(0.63 / 0.63 - 1.25 / 0.63)
    assert found.share_mediated_ci.low < found.share_mediated < found.share_mediated_ci.high
    assert found.reason.startswith(
        "The effect of attributes is 0.210 with mode=learned and 0.417 with mode=fixed; over 3 seeds the difference "
        "between these runs from -0.220 to -0.200; the interval lies beyond the smallest effect of 0.05; "
        "the share of the effect that is mediated is -98 % ("
    )


def test_a_treatment_that_does_the_same_in_both_arms_is_not_mediated(tmp_path: Path) -> None:
    found = judged(tmp_path, free=[0.20, 0.22, 0.21], fixed=[0.205, 0.215, 0.211])

    assert found.verdict == "refuted"
    assert abs(found.share_mediated) < 0.1


def test_there_is_no_share_of_an_effect_that_may_be_none(tmp_path: Path) -> None:
    found = judged(tmp_path, free=[0.02, -0.03, 0.01], fixed=[0.40, 0.44, 0.41])

    assert found.verdict == "supported"
    assert math.isnan(found.share_mediated)
    assert "with mode=learned there may be no effect, so it has no share" in found.reason


def test_fiellers_interval_holds_the_ratios_that_the_paired_t_test_does_not_reject() -> None:
    rng = np.random.default_rng(2)
    part, whole = 0.4 + 0.1 * rng.standard_normal(6), 1.0 + 0.1 * rng.standard_normal(6)
    low, high = compute_fieller_interval(part, whole, 0.05)

    for ratio in (low, high):
        rest = part - ratio * whole
        t = abs(rest.mean()) / (rest.std(ddof=1) / math.sqrt(6))
        assert t == pytest.approx(2.570581835636314)
    assert low < 0.4 < high
    assert math.isnan(compute_fieller_interval(part, whole - 1.0, 0.05).low)


def test_a_whole_whose_interval_ends_on_zero_has_no_share_in_any_order() -> None:
    """Three effects around 1 with just the spread whose interval reaches down to zero, but for the last bit."""
    spread = math.sqrt(3) / stats.t.ppf(0.975, 2)
    whole = 1.0 + spread * np.array([-1.0, 0.0, 1.0])
    shares = [
        compute_fieller_interval(0.3 * whole[list(order)] + 0.1, whole[list(order)], 0.05)
        for order in permutations(range(3))
    ]

    assert all(math.isnan(share.low) for share in shares)


def test_fiellers_interval_holds_the_true_share_as_often_as_it_says() -> None:
    """400 rounds of five seeds: one standard error is 1.1 points at 95 %."""
    rng = np.random.default_rng(7)
    held = []
    for _ in range(400):
        shared = rng.standard_normal(5)
        part, whole = 1.0 + 0.3 * shared + 0.2 * rng.standard_normal(5), 2.0 + 0.4 * shared
        low, high = compute_fieller_interval(part, whole, 0.05)
        held.append(low <= 0.5 <= high)

    assert 0.92 < np.mean(held) < 0.98
