"""What is wrong with a ledger is said in the verdicts' reasons, by every test, without a warning from below."""

import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from analysis_ledgers import ATTRIBUTES, CONTRAST, RMG, TREND, fill, plan_of, sweep_file
from test_correlation import CORRELATION, QUALITY
from test_equivalence import EQUIVALENCE
from test_mediation import GRID, MEDIATION, MODE

from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.results import Verdict
from gapctl.ledger import Ledger
from gapctl.plan.plan import Trial

ALL = [TREND, CONTRAST, EQUIVALENCE, CORRELATION, MEDIATION]
VARY = {**GRID, ATTRIBUTES: [0, 1, 5]}


def sound(trial: Trial) -> dict[str, float]:
    level, fixed = float(trial.factors[ATTRIBUTES]), trial.factors[MODE] == "fixed"
    return {RMG: 0.5 - 0.03 * level - 0.1 * fixed + 0.01 * trial.seed * level, QUALITY: 50 + level + fixed / 2}


def judged(folder: Path, measure: Any = sound, seeds: int = 3, done: int | None = None) -> tuple[Verdict, ...]:
    plan = plan_of(sweep_file(folder, *ALL, vary=VARY, seeds=seeds))
    ledger = Ledger(str(folder / "runs"))
    fill(ledger, plan, measure, trials=plan.trials[:done])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return analyze_finished_trials(plan, ledger).verdicts


def test_a_sound_ledger_gives_every_test_an_interval(tmp_path: Path) -> None:
    found = judged(tmp_path)

    assert [one.test for one in found] == ["trend", "contrast", "equivalence", "correlation", "mediation"]
    assert all(math.isfinite(one.ci.low) and one.seeds == 3 and "left out" not in one.reason for one in found)


def test_one_seed_gives_estimates_and_no_verdict(tmp_path: Path) -> None:
    for one in judged(tmp_path, seeds=1):
        assert one.verdict == "inconclusive"
        assert math.isfinite(one.estimate)
        assert math.isnan(one.ci.low)
        assert one.seeds_needed is None
        assert "an interval needs at least two seeds" in one.reason


def test_two_seeds_give_intervals(tmp_path: Path) -> None:
    assert all(math.isfinite(one.ci.low) for one in judged(tmp_path, seeds=2))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_leaves_its_seed_out_and_says_so(tmp_path: Path, value: float) -> None:
    odd: Mapping[str, float] = {RMG: value}
    for one in judged(tmp_path, lambda trial: sound(trial) | (odd if trial.seed == 1 else {})):
        assert one.seeds == 2
        assert one.exploratory
        told = "seed 1 is left out as gap/rmg is not a finite number (nan in attributes="
        assert told in one.reason


def test_a_metric_that_nothing_recorded_is_named(tmp_path: Path) -> None:
    for one in judged(tmp_path, lambda trial: {QUALITY: 1.0}):
        assert (one.verdict, one.seeds) == ("inconclusive", 0)
        assert one.reason == (
            "No seed can be judged yet; seeds 0, 1 and 2 are left out as no training recorded gap/rmg."
        )


def test_missing_arms_are_named_with_the_command_that_trains_them(tmp_path: Path) -> None:
    for one in judged(tmp_path, done=17):
        assert one.seeds == 2
        assert "seed 2 is left out as " in one.reason
        assert f"`gapctl sweep {tmp_path}/made-up.yaml --runs {tmp_path}/runs` trains the other 1 (" in one.reason
        assert "attributes=5" in one.reason


def test_what_no_comparison_needs_is_not_missed(tmp_path: Path) -> None:
    plan = plan_of(sweep_file(tmp_path, {**CONTRAST, "where": {MODE: "learned"}}, vary=VARY))
    ledger = Ledger(str(tmp_path / "runs"))
    fill(ledger, plan, sound, trials=[trial for trial in plan.trials if trial.factors[MODE] == "learned"])
    found = analyze_finished_trials(plan, ledger).verdicts[0]

    assert (found.seeds, found.trials, found.exploratory) == (3, 6, False)
    assert found.estimate == pytest.approx(-0.15 + 0.05)
    assert found.reason.startswith("Among trainings with mode=learned, ")


def test_a_damaged_training_is_to_be_moved_away_and_not_trained(tmp_path: Path) -> None:
    plan = plan_of(sweep_file(tmp_path, CONTRAST, vary=VARY))
    ledger = Ledger(str(tmp_path / "runs"))
    fill(ledger, plan, sound)
    (tmp_path / "runs" / plan.trials[0].id / "result.json").write_text("{")
    reason = analyze_finished_trials(plan, ledger).verdicts[0].reason

    assert f"1 cannot be read ({plan.trials[0].label}): move their folders away first" in reason
    assert "`gapctl sweep" not in reason


def test_numbers_too_large_to_calculate_with_are_told_and_give_no_verdict(tmp_path: Path) -> None:
    """Differences of 1e308 are infinite, and an infinite effect once read as no change."""
    ends = {0: -1e308, 1: 1e308, 5: 1e308}
    for one in judged(tmp_path, lambda trial: {RMG: ends[int(trial.factors[ATTRIBUTES])], QUALITY: 1.0}):
        assert (one.verdict, one.seeds) == ("inconclusive", 0)
        assert math.isnan(one.estimate)
        assert re.search(r"left out as gap/rmg is beyond 1e\+100 \(-?1e\+308 in attributes=. mode=", one.reason)


def test_a_training_that_lacks_a_metric_which_others_have_is_named(tmp_path: Path) -> None:
    plan = plan_of(sweep_file(tmp_path, CONTRAST, vary={ATTRIBUTES: [0, 5]}))
    ledger = Ledger(str(tmp_path / "runs"))
    fill(ledger, plan, lambda trial: {QUALITY: 1.0} if trial.label == "attributes=5 seed=2" else {RMG: trial.seed / 7})
    reason = analyze_finished_trials(plan, ledger).verdicts[0].reason

    assert reason.endswith("; seed 2 is left out as gap/rmg was not recorded in attributes=5 seed=2.")


def test_responses_that_differ_by_rounding_alone_do_not_differ(tmp_path: Path) -> None:
    plan = plan_of(sweep_file(tmp_path, CONTRAST, vary=VARY))
    ledger = Ledger(str(tmp_path / "runs"))
    fill(ledger, plan, lambda trial: {RMG: 0.1 * 3 if trial.factors[ATTRIBUTES] else 0.3})

    assert (
        analyze_finished_trials(plan, ledger).verdicts[0].estimate,
        analyze_finished_trials(plan, ledger).verdicts[0].p,
    ) == (0.0, 1.0)
