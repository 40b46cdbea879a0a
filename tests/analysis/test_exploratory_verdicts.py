"""Verdicts confirm what was declared before the first trial, and explore where anything was chosen after a look."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from analysis_ledgers import ATTRIBUTES, CONTRAST, TREND, falling, fill, finish, plan_of, sweep_file

from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.config.load import load_sweep
from gapctl.errors import WorkError
from gapctl.ledger import Ledger
from gapctl.plan.plan import make_plan


def test_hypotheses_declared_before_the_first_trial_are_confirmed(tmp_path: Path, ledger: Ledger) -> None:
    plan = plan_of(sweep_file(tmp_path, CONTRAST))
    fill(ledger, plan, falling(0.05))
    found = analyze_finished_trials(plan, ledger)

    assert found.declared_sha256 == found.hypotheses_sha256
    assert not found.verdicts[0].exploratory


@pytest.mark.parametrize("change", [{"smallest_effect": 0.04}, {"direction": "either"}, {"response": "gap/l2m"}])
def test_hypotheses_changed_after_the_first_trial_are_exploratory(
    tmp_path: Path, ledger: Ledger, change: dict[str, Any]
) -> None:
    declared = plan_of(sweep_file(tmp_path, CONTRAST))
    fill(ledger, declared, falling(0.05, noise=0.005))
    changed = plan_of(sweep_file(tmp_path, {**CONTRAST, **change}))
    ledger.declare_plan(changed)
    found = analyze_finished_trials(changed, ledger)

    assert found.verdicts[0].exploratory
    assert found.declared_sha256 == declared.sweep.hypotheses_sha256 != found.hypotheses_sha256


def test_an_alpha_changed_after_the_first_trial_is_exploratory(tmp_path: Path, ledger: Ledger) -> None:
    fill(ledger, plan_of(sweep_file(tmp_path, CONTRAST)), falling(0.05))

    assert analyze_finished_trials(plan_of(sweep_file(tmp_path, CONTRAST, alpha=0.1)), ledger).verdicts[0].exploratory


def test_trials_without_a_declaration_are_exploratory(tmp_path: Path, ledger: Ledger) -> None:
    plan = plan_of(sweep_file(tmp_path, CONTRAST))
    for trial in plan.trials:
        finish(ledger, trial, falling(0.05)(trial))
    undeclared = analyze_finished_trials(plan, ledger)
    ledger.declare_plan(plan)
    declared_late = analyze_finished_trials(plan, ledger)

    assert undeclared.verdicts[0].exploratory
    assert declared_late.verdicts[0].exploratory
    assert undeclared.declared_sha256 is declared_late.declared_sha256 is None


def test_a_damaged_declaration_is_named_before_any_verdict(tmp_path: Path, ledger: Ledger) -> None:
    plan = plan_of(sweep_file(tmp_path, CONTRAST))
    fill(ledger, plan, falling(0.05))
    (tmp_path / "runs" / "made-up.sweep.json").write_text("{")

    with pytest.raises(WorkError, match=r"made-up\.sweep\.json: damaged"):
        analyze_finished_trials(plan, ledger)


def test_judging_other_levels_or_fewer_seeds_than_declared_is_exploratory(tmp_path: Path, ledger: Ledger) -> None:
    declared = plan_of(sweep_file(tmp_path, TREND))
    fill(ledger, declared, falling(0.05))
    chosen = [
        plan_of(sweep_file(tmp_path, TREND, vary={ATTRIBUTES: [0, 5]})),
        plan_of(sweep_file(tmp_path, TREND, seeds=2)),
    ]
    for plan in chosen:
        ledger.declare_plan(plan)
        found = analyze_finished_trials(plan, ledger)
        assert found.verdicts[0].exploratory
        assert found.deviation

    assert not analyze_finished_trials(declared, ledger).verdicts[0].exploratory


def test_a_scale_that_was_never_declared_is_exploratory_over_trainings_that_were_seen(
    tmp_path: Path, ledger: Ledger
) -> None:
    seen = plan_of(sweep_file(tmp_path, CONTRAST, name="seen"))
    fill(ledger, seen, falling(0.05, noise=0.005))
    file = sweep_file(tmp_path, CONTRAST, name="desk")
    small = make_plan(load_sweep(file, None, ["base.train.samples=512"]), lambda data: "fingerprint")
    other_scale = replace(small, sweep=replace(small.sweep, scale="small"))
    fill(ledger, other_scale, falling(0.05, noise=0.005))

    found = analyze_finished_trials(plan_of(file), ledger)

    assert found.verdicts[0].exploratory
    assert found.deviation == "trainings of this scale had begun before it was declared"


def test_hypotheses_edited_after_a_detour_over_other_trainings_stay_exploratory(tmp_path: Path, ledger: Ledger) -> None:
    fill(ledger, plan_of(sweep_file(tmp_path, CONTRAST)), falling(0.05))
    edited = {**CONTRAST, "smallest_effect": 0.01}
    detour = plan_of(sweep_file(tmp_path, edited, vary={ATTRIBUTES: range(6), "train.lr": [0.002]}))
    ledger.declare_plan(detour)
    ledger.declare_plan(detour)
    back = plan_of(sweep_file(tmp_path, edited))
    ledger.declare_plan(back)

    assert analyze_finished_trials(back, ledger).verdicts[0].exploratory


def test_seeds_added_after_a_look_are_a_stopping_rule_and_explore(tmp_path: Path, ledger: Ledger) -> None:
    fill(ledger, plan_of(sweep_file(tmp_path, CONTRAST)), falling(0.05, noise=0.005))
    more = plan_of(sweep_file(tmp_path, CONTRAST, seeds=4))
    fill(ledger, more, falling(0.05, noise=0.005))
    after = analyze_finished_trials(more, ledger)

    assert after.verdicts[0].exploratory
    assert str(after.deviation).startswith("4 seeds are judged where 3 were declared")


def test_a_question_asked_anew_with_seeds_of_its_own_is_confirmatory(tmp_path: Path, ledger: Ledger) -> None:
    fill(ledger, plan_of(sweep_file(tmp_path, CONTRAST)), falling(0.05, noise=0.005))

    same, fresh = (
        plan_of(sweep_file(tmp_path, CONTRAST, seeds=5, name=name, first_seed=first))
        for name, first in (("again", 0), ("anew", 10))
    )
    for plan in (same, fresh):
        fill(ledger, plan, falling(0.05, noise=0.005))

    assert [trial.seed for trial in fresh.trials[::6]] == [10, 11, 12, 13, 14]
    assert analyze_finished_trials(same, ledger).verdicts[0].exploratory, "three of its seeds had been seen"
    found = analyze_finished_trials(fresh, ledger).verdicts[0]
    assert (found.verdict, found.seeds, found.exploratory) == ("supported", 5, False)


def test_other_seeds_under_the_same_name_are_exploratory(tmp_path: Path, ledger: Ledger) -> None:
    fill(ledger, plan_of(sweep_file(tmp_path, CONTRAST)), falling(0.05, noise=0.005))
    moved = plan_of(sweep_file(tmp_path, CONTRAST, first_seed=3))
    fill(ledger, moved, falling(0.05, noise=0.005))

    assert analyze_finished_trials(moved, ledger).verdicts[0].exploratory


def test_a_missing_seed_is_exploratory(tmp_path: Path, ledger: Ledger) -> None:
    plan = plan_of(sweep_file(tmp_path, CONTRAST))
    fill(ledger, plan, falling(0.05, noise=0.005), trials=plan.trials[:-1])

    assert analyze_finished_trials(plan, ledger).verdicts[0].exploratory
