"""A slope that is as claimed although the response goes the other way between two levels."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from analysis_ledgers import ATTRIBUTES, CONTRAST, RMG, TREND, fill, first_verdict, shown_everywhere, sweep_file

from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.monotone import find_reversed_steps
from gapctl.analysis.paired_responses import FloatArray
from gapctl.analysis.results import Verdict
from gapctl.cli.options import load_plan
from gapctl.ledger import Ledger
from gapctl.plan.plan import Trial

Direction = Literal["increasing", "decreasing"]
RISES_ONCE = (0.24, 0.34, 0.31, 0.29, 0.26, 0.13)
"""RMG by attributes after 6,400 steps, as docs/results/imbalance-hour has it."""


def judged(folder: Path, means: tuple[float, ...]) -> tuple[Verdict, Verdict]:
    def measure(trial: Trial) -> dict[str, float]:
        level = int(str(trial.factors[ATTRIBUTES]))
        return {RMG: means[level] + random.Random(f"{trial.seed} {level}").gauss(0.0, 0.003)}

    file = sweep_file(folder, TREND, CONTRAST, seeds=5)
    plan, ledger = load_plan(file, None, None), Ledger(str(folder / "runs"))
    fill(ledger, plan, measure)
    trend, contrast = analyze_finished_trials(plan, ledger).verdicts
    return trend, contrast


def uppers(values_SL: FloatArray, levels: Sequence[float], smallest: float, direction: Direction) -> list[Any]:
    return [step.upper for step in find_reversed_steps(values_SL, levels, direction, smallest, 0.05)]


def test_a_supported_trend_with_a_step_the_other_way_is_marked(tmp_path: Path) -> None:
    trend, contrast = judged(tmp_path, RISES_ONCE)
    (step,) = trend.reversed_steps

    assert (trend.verdict, trend.marks) == ("supported", ("not monotone",))
    assert (step.lower, step.upper) == (0, 1)
    assert step.difference == pytest.approx(0.1, abs=0.005)
    assert step.ci.low < step.difference < step.ci.high
    assert not contrast.marks


def test_a_trend_that_falls_at_each_step_has_no_mark(tmp_path: Path) -> None:
    trend, _ = judged(tmp_path, (0.5, 0.45, 0.4, 0.35, 0.3, 0.25))

    assert (trend.verdict, trend.marks) == ("supported", ())


def test_a_trend_that_rises_at_each_step_is_refuted_without_the_mark(tmp_path: Path) -> None:
    trend, _ = judged(tmp_path, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6))

    assert (trend.verdict, trend.refuted_as, trend.marks) == ("refuted", "opposite", ())


def test_a_step_that_is_rounding_reverses_nothing() -> None:
    values = np.tile([0.5, (0.15 + 0.15) / 2, (0.1 + 0.2) / 2, 0.0], (5, 1))
    assert 0 < values[0, 2] - values[0, 1] < 1e-15

    assert not find_reversed_steps(values, range(4), "decreasing", 0.0, 0.05, 1e-12)


def test_a_step_counts_that_is_as_large_as_the_trend_claims_of_one_so_long() -> None:
    values = np.array([0.5, 0.53, 0.1]) + 1e-4 * np.random.default_rng(0).standard_normal((5, 3))

    assert uppers(values, (0, 1, 2), 0.02, "decreasing") == [1]
    assert uppers(values, (0, 2, 3), 0.02, "decreasing") == [], "two units would have to rise by 0.04"
    assert uppers(values, (0, 1, 2), 0.02, "increasing") == [2]


def test_one_seed_reverses_nothing() -> None:
    assert uppers(np.array([[0.2, 0.9, 0.1]]), (0, 1, 2), 0.02, "decreasing") == []


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_levels_that_do_not_differ_are_marked_in_few_rounds(seeds: int) -> None:
    """One side of each interval counts, so at most 2.5 % are expected: of 400 more than 21 come once in 1,000."""
    rng = np.random.default_rng(7)
    noise_RSL = rng.standard_normal((400, seeds, 1)) + rng.standard_normal((400, seeds, 6))

    assert sum(bool(uppers(values, range(6), 0.0, "decreasing")) for values in noise_RSL) <= 21


def test_the_mark_and_the_levels_stand_wherever_the_verdict_does(tmp_path: Path) -> None:
    judged(tmp_path, RISES_ONCE)
    document = first_verdict(tmp_path)

    for said in shown_everywhere(tmp_path):
        assert "not monotone" in said.lower()
        assert "rises from attributes=0 to 1 by 0.098 (0.088 to 0.108)" in said
    assert document["marks"] == ["not monotone"]
    assert [step["upper"] for step in document["reversed_steps"]] == [1]
