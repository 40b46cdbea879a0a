"""Sweeps beside each other: each keeps its own verdicts; what is shared and what differs is said."""

import math
from dataclasses import replace
from io import StringIO
from pathlib import Path

import polars as pl
import pytest
from analysis_ledgers import ATTRIBUTES, CONTRAST, RMG, TREND, falling, fill, finish, plan_of, sweep_file
from rich.console import Console
from two_sweeps import LR, TwoSweeps, two_sweeps

from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.compare import (
    SweepAnalysis,
    SweepComparison,
    build_history_table,
    build_trials_table,
    compare_sweeps,
    correct_over_sweeps,
    format_missing_arms,
)
from gapctl.cli.verdict_table import print_comparison
from gapctl.ledger import Ledger, Result
from gapctl.plan.plan import Plan

LEVELS, RATES = "levels (base)", "rates (base)"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> TwoSweeps:
    return two_sweeps(tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def combined(made: TwoSweeps) -> SweepComparison:
    return compare_sweeps([judged(made.levels, made.runs), judged(made.rates, made.runs)])


def judged(plan: Plan, runs: str) -> SweepAnalysis:
    return SweepAnalysis(plan, analyze_finished_trials(plan, Ledger(runs)))


def test_each_sweep_keeps_the_verdicts_that_it_has_alone(made: TwoSweeps, combined: SweepComparison) -> None:
    for plan, beside in zip((made.levels, made.rates), combined.sweeps, strict=True):
        assert repr(beside.analysis.verdicts) == repr(analyze_finished_trials(plan, Ledger(made.runs)).verdicts), (
            "NaN equals NaN"
        )


def test_holm_counts_the_hypotheses_of_one_file_only(combined: SweepComparison) -> None:
    alone = combined.sweeps[1].analysis.verdicts[0]

    assert len(combined.sweeps[1].analysis.verdicts) == 1
    assert alone.p_direction == alone.p_direction_before_holm


def test_holm_over_all_sweeps_stands_beside_it_and_counts_no_exploratory_verdict(combined: SweepComparison) -> None:
    (comparison,) = combined.comparisons
    slope, difference, ends = comparison.findings
    raw = sorted([slope.verdict.p_claim, difference.verdict.p_claim])

    assert ends.verdict.exploratory
    assert math.isnan(ends.p_of_all)
    assert sorted([slope.p_of_all, difference.p_of_all]) == pytest.approx([2 * raw[0], max(2 * raw[0], raw[1])])


def test_ten_sweeps_that_ask_the_same_have_ten_chances(combined: SweepComparison) -> None:
    verdict = replace(combined.sweeps[0].analysis.verdicts[0], p_claim=0.02, exploratory=False)
    found = correct_over_sweeps([(f"sweep {place}", verdict) for place in range(10)])

    assert list(found.values()) == pytest.approx([0.2] * 10)


def test_the_same_effect_of_two_sweeps_stands_side_by_side(combined: SweepComparison) -> None:
    (comparison,) = combined.comparisons

    assert (comparison.response, comparison.factor, comparison.sweeps) == (RMG, ATTRIBUTES, (LEVELS, RATES))
    assert [(found.sweep, found.effect, found.alpha, found.verdict.id) for found in comparison.findings] == [
        (LEVELS, "trend", 0.05, "slope"),
        (LEVELS, "contrast, between 0 and 5", 0.05, "difference"),
        (RATES, "contrast, between 0 and 5", 0.01, "ends"),
    ]


def test_effects_within_different_trainings_are_different_effects(tmp_path: Path) -> None:
    mode = {"where": {"temperature.mode": "learned"}}
    vary = {ATTRIBUTES: [0, 5], "temperature.mode": ["learned", "fixed"]}
    plan = plan_of(sweep_file(tmp_path, CONTRAST, {**CONTRAST, "id": "held", **mode}, vary=vary))
    fill(Ledger(str(tmp_path / "runs")), plan, falling(0.05))
    (comparison,) = compare_sweeps([judged(plan, str(tmp_path / "runs"))]).comparisons

    assert [found.effect for found in comparison.findings] == [
        "contrast, between 0 and 5",
        "contrast, between 0 and 5, where temperature.mode is learned",
    ]


def test_trials_that_both_have_are_named(made: TwoSweeps, combined: SweepComparison) -> None:
    (shared,) = combined.shared
    both = {trial.id for trial in made.levels.trials} & {trial.id for trial in made.rates.trials}

    assert shared.sweeps == (LEVELS, RATES)
    assert set(shared.trials) == both
    assert len(both) == 6
    assert shared.of == (18, 11)


def test_settings_that_differ_are_said_and_others_are_not(combined: SweepComparison) -> None:
    found = {difference.what: dict(difference.values) for difference in combined.differences}

    assert found == {
        LR: {LEVELS: ("0.001",), RATES: ("0.001", "0.002")},
        ATTRIBUTES: {LEVELS: ("0", "1", "2", "3", "4", "5"), RATES: ("0", "5")},
    }


def test_other_hardware_data_or_precision_is_said(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "runs"))
    here, there = plan_of(sweep_file(tmp_path, TREND)), plan_of(sweep_file(tmp_path, TREND, name="there"))
    fill(ledger, here, falling(0.05))
    other = Ledger(str(tmp_path / "elsewhere"))
    for trial in there.trials:
        other.trial(trial.id).begin(trial)
        hardware: dict[str, str | int] = {"device": "cuda", "threads": 1, "packed": 8, "memory_mb": trial.seed}
        result = Result(trial.id, falling(0.05)(trial), 256, 2.0, {"python": "3.11"}, hardware)
        other.trial(trial.id).finish(result, weights=b"")
    beside = compare_sweeps([judged(here, ledger.root), judged(there, other.root)])
    found = {difference.what: tuple(difference.values.values()) for difference in beside.differences}

    assert found == {
        "hardware.device": (("cpu",), ("cuda",)),
        "hardware.packed": (("not recorded",), ("8",)),
    }


def test_one_sweep_on_unlike_machines_is_said_of_it_alone(tmp_path: Path) -> None:
    plan, ledger = plan_of(sweep_file(tmp_path, TREND)), Ledger(str(tmp_path / "runs"))
    fill(ledger, plan, falling(0.05), trials=plan.trials[1:])
    first = plan.trials[0]
    ledger.trial(first.id).begin(first)
    result = Result(first.id, falling(0.05)(first), 256, 2.0, {"python": "3.12"}, {"device": "cpu", "threads": 4})
    ledger.trial(first.id).finish(result, weights=b"")
    found = compare_sweeps([judged(plan, ledger.root)]).differences

    assert {difference.what: list(difference.values.values()) for difference in found} == {
        "hardware.threads": [("1", "4")],
        "versions.python": [("3.11", "3.12")],
    }


def test_missing_trials_are_named_and_a_whole_arm_once(tmp_path: Path) -> None:
    plan = plan_of(sweep_file(tmp_path, TREND))
    arm_of_five = [trial for trial in plan.trials if trial.factors[ATTRIBUTES] == 5]

    assert (
        format_missing_arms([*arm_of_five, plan.trials[0]], plan.trials)
        == "attributes=5 at all seeds, attributes=0 seed=0"
    )
    assert (
        format_missing_arms(plan.trials[:4], plan.trials, most=2)
        == "attributes=0 seed=0, attributes=1 seed=0, and 2 more"
    )


def test_a_sweep_knows_what_it_lacks(made: TwoSweeps, combined: SweepComparison) -> None:
    assert combined.sweeps[0].missing == ()
    assert [trial.id for trial in combined.sweeps[1].missing] == [made.rates.trials[-1].id]


def test_the_trials_table_has_a_row_per_sweep_and_trial_with_every_treatment(combined: SweepComparison) -> None:
    table = build_trials_table(combined.sweeps)

    assert table.columns[:8] == ["sweep", "scale", "trial", "label", "seed", ATTRIBUTES, LR, RMG]
    assert len(table) == 18 + 11
    assert set(table.filter(pl.col("sweep") == "levels")[LR]) == {0.001}
    assert table.schema[ATTRIBUTES] == pl.Int64
    made = {"spec_sha256", "data_fingerprint", "recipe_version", "hardware.device", "versions.python"}
    assert made <= {*table.columns}
    assert table["trial"].n_unique() == 18 + 11 - 6


def test_a_treatment_that_only_one_sweep_knows_is_empty_in_the_other(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "runs"))
    numbers = plan_of(sweep_file(tmp_path, seeds=1))
    words = plan_of(sweep_file(tmp_path, seeds=1, name="words", vary={"temperature.mode": ["learned", "fixed"]}))
    fill(ledger, numbers, falling(0.05))
    for trial in words.trials:
        finish(ledger, trial, {"gap/l2m": math.nan})
    table = build_trials_table([judged(numbers, ledger.root), judged(words, ledger.root)])

    assert set(table.filter(pl.col("sweep") == "made-up")["temperature.mode"]) == {"learned"}
    assert table.filter(pl.col("sweep") == "words")[ATTRIBUTES].to_list() == [5, 5]
    assert table.filter(pl.col("sweep") == "words")[RMG].to_list() == [None, None]


def test_the_history_table_has_a_row_per_evaluation(combined: SweepComparison) -> None:
    table = build_history_table(combined.sweeps)

    assert table.columns == ["sweep", "scale", "trial", "label", "seed", ATTRIBUTES, LR, "samples_seen", RMG]
    assert len(table) == 2 * (18 + 11)


@pytest.mark.parametrize("width", [80, 130])
def test_no_number_of_the_comparison_is_cut_in_a_terminal(
    made: TwoSweeps, combined: SweepComparison, width: int
) -> None:
    (both,) = combined.comparisons
    named = both.findings[1]._replace(sweep="a sweep of a long name (laptop)")
    findings = (named, both.findings[2])
    long = replace(combined, comparisons=(replace(both, findings=findings),))
    out = StringIO()

    print_comparison(long, Ledger(made.runs), Console(width=width, file=out))

    rows = out.getvalue().partition("sweeps compared")[2].splitlines()
    (head,) = [line for line in rows if "p (Holm)" in line]
    assert head.endswith("p (Holm)  p (all)  seeds")
    assert [line.split()[-1] for line in rows if "supported" in line or "inconclusive" in line] == [
        str(finding.verdict.seeds) for finding in findings
    ]
