"""A result says what each stretch of its training ran on, however often it was interrupted."""

from pathlib import Path

import pytest
import torch

from gapctl.data.load import load_dataset
from gapctl.ledger import Ledger
from gapctl.plan.plan import Trial
from gapctl.sweep.pack_work import PackWork
from gapctl.training.checkpoint import TrainingState
from gapctl.training.trial_state import TrialState
from pair_trials import BATCH, pair_config


def trial() -> Trial:
    return Trial("0123456789ab", "stretches seed=0", 0, {}, pair_config(), "f" * 64)


def attempt(runs: Path, monkeypatch: pytest.MonkeyPatch, runs_on: str, steps: int) -> PackWork:
    """Some steps of the training, then an interruption, on a machine of this name."""
    monkeypatch.setattr("gapctl.sweep.pack_work.describe_workers", lambda device, workers: f"{workers} on {runs_on}")
    work = PackWork([trial()], load_dataset(trial().config.data), str(runs), threads=1, gpu=False)
    if steps:
        work.train_for(0.0, steps=steps)
    if work.unfinished:
        work.save_and_stop()
    return work


def stretches(runs: Path) -> object:
    result = Ledger(str(runs)).result(trial().id)
    assert result is not None
    assert result.hardware["workers"] == 1
    return result.hardware["stretches"]


def test_one_machine_gives_one_stretch_however_often_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for steps in (2, 3, 100):
        attempt(tmp_path, monkeypatch, "A", steps)

    assert stretches(tmp_path) == f"1 on A to {6 * BATCH}"


def test_each_machine_gives_its_own_and_one_that_got_nowhere_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt(tmp_path, monkeypatch, "A", 3)
    attempt(tmp_path, monkeypatch, "B", 0)
    attempt(tmp_path, monkeypatch, "A", 2)
    attempt(tmp_path, monkeypatch, "C", 100)

    assert stretches(tmp_path) == f"1 on A to {3 * BATCH}, 1 on C to {6 * BATCH}"


def test_what_an_earlier_version_did_is_unknown(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    folder = Ledger(str(tmp_path)).trial(trial().id)
    member = TrialState(trial().config, 0, load_dataset(trial().config.data), folder, torch.device("cpu"))
    member._state = TrainingState(step=2)
    member.begin_stretch("2 workers on B")

    assert member.stretches == f"unknown to {2 * BATCH}, 2 workers on B to {2 * BATCH}"
