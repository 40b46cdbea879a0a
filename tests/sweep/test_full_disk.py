"""A disk that fills up stops a training as an accident, and the same command goes on once there is room."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gapctl.config.presets import PRESETS
from gapctl.data.mad.feed import load_mad_arrays
from gapctl.errors import WorkError
from gapctl.ledger import Ledger
from gapctl.ledger.trial import CHECKPOINTS_KEPT
from gapctl.plan.estimate import CHECKPOINT_BYTES, CHECKPOINTS_PER_TRIAL, RECORD_BYTES, count_parameters, estimate_disk
from gapctl.plan.plan import Trial
from gapctl.sweep.pack_work import PackWork
from gapctl.sweep.tuner import TuneEvents
from gapctl.training import trial_state as member
from small_disk import SmallDisk, small_disk
from trained_alone import plan_trials, trained_alone

TOLD = "Traceback of a worker ...\ngapctl.errors.WorkError: runs/a/trial.yaml: cannot be written: the disk is full"
SAMPLES = ("base.train.samples=2_560", "base.evaluate.every=1_280")


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "small", monkeypatch) as made:
        yield made


@pytest.fixture(scope="module")
def trial() -> Trial:
    return plan_trials(*SAMPLES)[0]


def work_on(trial: Trial, disk: SmallDisk) -> PackWork:
    runs = str(disk.folder / "runs")
    return PackWork([trial], load_mad_arrays(trial.config.data), runs, threads=1, gpu=False)


def test_a_training_whose_disk_fills_goes_on_to_the_same_numbers_once_there_is_room(
    trial: Trial, disk: SmallDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(member, "CHECKPOINT_SPACING", 0)
    work, folder = work_on(trial, disk), Ledger(str(disk.folder / "runs")).trial(trial.id)
    while not folder.checkpoints():
        work.train_for(0.0, steps=2)
    disk.fill()

    with pytest.raises(WorkError, match=r"cannot be written: .*No space left on device; the disk is full: make room"):
        work.train_for(60.0)

    assert folder.result() is None
    assert not list(disk.folder.rglob("*.part")), "what was begun is taken away"
    assert folder.checkpoints()
    disk.make_room()
    work = work_on(trial, disk)
    while work.unfinished:
        work.train_for(60.0)
    result = folder.result()
    assert result is not None
    assert result.metrics == trained_alone(trial, tmp_path / "alone").metrics


def test_a_failure_that_the_full_disk_cannot_keep_is_told_all_the_same(trial: Trial, disk: SmallDisk) -> None:
    class Failed(SimpleNamespace):
        def get_error(self) -> str:
            return TOLD

    ledger = Ledger(str(disk.folder / "runs"))
    events = TuneEvents({trial.id: trial}, ledger, [])
    ledger.trial(trial.id).begin(trial)
    disk.fill()

    failed: Any = Failed(trial_id="a", status="ERROR", config={"pack": [trial.id]}, num_failures=1, max_failures=0)
    events.on_trial_error(0, [], failed)

    assert events.failures == {trial.id: TOLD}


def test_the_room_that_a_plan_asks_for_is_what_a_training_takes(trial: Trial, tmp_path: Path) -> None:
    work, folder = work_on_folder(trial, tmp_path), Ledger(str(tmp_path / "runs")).trial(trial.id)
    work.train_for(0.0, steps=2)
    work.save_and_stop()
    checkpoint = len(folder.checkpoints()[0][1])
    while work.unfinished:
        work.train_for(60.0)

    weights = count_parameters(PRESETS[trial.config.model.preset], trial.config.model.embed_dim)
    assert 0.5 * CHECKPOINT_BYTES * weights < checkpoint < CHECKPOINT_BYTES * weights
    left = sum(path.stat().st_size for path in (tmp_path / "runs").rglob("*") if path.is_file())
    assert left < estimate_disk([trial], 0).ledger
    records = left - (tmp_path / "runs" / trial.id / "checkpoints" / "final.pt").stat().st_size
    assert records < RECORD_BYTES
    assert CHECKPOINTS_PER_TRIAL == CHECKPOINTS_KEPT + 1


def work_on_folder(trial: Trial, folder: Path) -> PackWork:
    return PackWork([trial], load_mad_arrays(trial.config.data), str(folder / "runs"), threads=1, gpu=False)
