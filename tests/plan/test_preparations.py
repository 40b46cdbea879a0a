"""Trainings that others begin with: planned once, trained first, and told apart by what they are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gapctl.ledger import Ledger, Result
from gapctl.plan.plan import Plan, Trial, make_plan, pack_trials
from gapctl.sweep.driver import RoundOutcome, SweepRounds
from gapctl.sweep.lease_watch import LeaseWatcher
from sweep_texts import complaints, document, loaded

FULL = {"data.captions.attributes": 5}


def planned(folder: Path, *overrides: str, **base: Any) -> Plan:
    """A sweep over two captions, each of whose trainings goes on from one with full captions."""
    content = document()
    content["base"] |= {"init_from": FULL, **base}
    return make_plan(loaded(folder, content, None, *overrides), lambda data: data.source)


def test_arms_share_one_preparation_for_each_seed(tmp_path: Path) -> None:
    plan = planned(tmp_path, "seeds=2")

    assert [trial.seed for trial in plan.preparations] == [0, 1]
    assert {trial.parent for trial in plan.trials} == {trial.id for trial in plan.preparations}
    assert all(trial.config.data.captions.attributes == 5 for trial in plan.preparations)
    assert not any(trial.config.init_from for trial in plan.preparations)


def test_a_preparation_is_the_trial_that_another_sweep_trains(tmp_path: Path) -> None:
    plain = document()
    arms = make_plan(loaded(tmp_path, plain), lambda data: data.source).trials

    assert planned(tmp_path).preparations[0].id in {trial.id for trial in arms}


def test_what_a_training_begins_with_is_part_of_what_it_is(tmp_path: Path) -> None:
    fuller, poorer = planned(tmp_path), planned(tmp_path, "base.init_from.data.captions.attributes=0")
    nested = planned(tmp_path, init_from={"data": {"captions": {"attributes": 5}}})

    assert not {trial.id for trial in fuller.trials} & {trial.id for trial in poorer.trials}
    assert [trial.id for trial in nested.trials] == [trial.id for trial in fuller.trials]


def test_preparations_come_first(tmp_path: Path) -> None:
    plan, ledger, asked = planned(tmp_path), Ledger(str(tmp_path / "runs")), []

    def train(trials: Sequence[Trial], expired: Mapping[str, bytes]) -> RoundOutcome:
        asked.append(tuple(trials))
        for trial in trials:
            ledger.trial(trial.id).finish(Result(trial.id, {}, 0, 0.0, {}, {}), b"weights")
        return RoundOutcome({trial.id for trial in trials}, {}, {})

    outcome = SweepRounds(plan.trainings, ledger, [], train, LeaseWatcher(ledger)).run()

    assert asked == [plan.preparations, plan.trials]
    assert not outcome.failures


def test_what_trials_begin_with_can_be_the_treatment(tmp_path: Path) -> None:
    content = document()
    content["base"]["init_from"] = FULL
    content["vary"] = {"init_from.data.captions.attributes": [0, 5]}
    content["hypotheses"] = []
    plan = make_plan(loaded(tmp_path, content), lambda data: data.source)

    assert len(plan.preparations) == 2
    assert len({trial.parent for trial in plan.trials}) == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"init_from": {"model.embed_dim": 8}}, "base.init_from: changes model"),
        ({"init_from": {"train.samples": 1}}, "base.init_from: train: samples (1) is smaller than batch_size"),
        ({"init_from": {"data.captions.keep": "full"}}, "base.init_from: data.captions.keep: no such value"),
    ],
)
def test_a_preparation_that_cannot_be_is_told(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    content = document()
    content["base"] |= changes

    assert expected in complaints(tmp_path, content)[0]


def test_trials_on_pairs_are_not_packed(tmp_path: Path) -> None:
    content = document()
    content["base"] = {
        "data": {"dataset": "cc12m"},
        "model": {"preset": "pairs-small"},
        "train": {"samples": 512, "batch_size": 64},
    }
    content["vary"] = {"data.captions.keep": ["full", "half"]}
    content["hypotheses"] = []
    plan = make_plan(loaded(tmp_path, content), lambda data: data.source)

    assert [len(pack) for pack in pack_trials(plan.trials, 4)] == [1, 1]
