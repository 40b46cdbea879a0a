"""A process that was frozen until another took its trial over ends quietly: what the other has counts.

The worker is driven here as Tune drives it, and `gapctl train` runs in this process; nothing starts Ray.
"""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from command_line import Answer, gapctl
from gapctl.data.load import Dataset
from gapctl.errors import InputError
from gapctl.ledger import LeaseOwner, Ledger, Result, TrialFolder
from gapctl.ledger.trial import FAILURE, WEIGHTS
from gapctl.plan.plan import Trial
from gapctl.sweep import lease_watch as others
from gapctl.sweep import lease_watch as renewals
from gapctl.sweep import worker
from gapctl.sweep.lease_watch import LeaseRenewer, LeaseState, LeaseWatcher
from gapctl.sweep.pack_work import PackWork
from gapctl.sweep.worker import TrialWorker
from sweep_without_ray import worker_for
from sweeping import SMOKE
from trained_alone import plan_trials

SHORT = ("base.train.samples=640", "base.evaluate.every=640", "base.evaluate.gallery=64")
OURS, THEIRS = LeaseOwner("ours", "imbalance"), LeaseOwner("theirs", "entropy")
PATIENCE_SECONDS = 20.0


@pytest.fixture(scope="module")
def trial() -> Trial:
    return plan_trials(*SHORT)[0]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "runs"))


def taken_over(trial: Trial, ledger: Ledger) -> TrialFolder:
    """The trial as another process has it that saw no renewal for 120 seconds."""
    (lease,) = ledger.contents([trial.id], "lease.json")
    assert isinstance(lease, bytes)
    other = ledger.trial(trial.id)
    assert other.acquire(THEIRS, expired=lease) is None
    return other


def finished(trial: Trial, other: TrialFolder) -> Result:
    """The other's result, which is none that a training gives."""
    result = Result(trial.id, {"gap/rmg": 0.25, "train/loss": 2.0}, 640, 1.5, {}, {})
    other.finish(result, b"the other's weights")
    return result


def begun(trial: Trial, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> TrialWorker:
    monkeypatch.setattr(worker, "REPORT_SECONDS", 0.0)
    ours = worker_for(trial, ledger, OURS, {})
    ours.step()
    assert ledger.result(trial.id) is None
    return ours


def reports_of(ours: TrialWorker) -> list[dict[str, Any]]:
    reports, done = [], False
    while not done:
        result = ours.step()
        reports += result["reports"]
        done = result["done"] or result[worker.HARMED_KEY]
    return reports


def test_a_worker_that_wakes_when_another_has_finished_reports_the_trial_done(
    trial: Trial, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = begun(trial, ledger, monkeypatch)
    other = taken_over(trial, ledger)
    result = finished(trial, other)

    last = reports_of(ours)[-1]

    assert (last["trial"], last["done"], last["loss"]) == (trial.id, True, 2.0)
    assert (other.result(), other.read(WEIGHTS), other.lease()) == (result, b"the other's weights", None)


@pytest.mark.parametrize("ended", [False, True])
def test_a_worker_that_wakes_with_an_exception_marks_nothing_failed(
    ended: bool, trial: Trial, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = begun(trial, ledger, monkeypatch)
    other = taken_over(trial, ledger)
    if ended:
        finished(trial, other)

    def lost_its_device(work: PackWork, seconds: float) -> list[dict[str, Any]]:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(PackWork, "train_for", lost_its_device)
    (report,) = reports_of(ours)

    assert "failure" not in report
    assert report.get("done", False) == ended
    assert ("held" in report) != ended
    assert other.read_text(FAILURE) is None


def test_a_training_that_wakes_when_another_has_finished_ends_as_done(
    trial: Trial, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance, results = PackWork.train_for, []

    def frozen_before(work: PackWork, seconds: float, steps: int = 1) -> list[dict[str, Any]]:
        results.append(finished(trial, taken_over(trial, ledger)))
        monkeypatch.setattr(PackWork, "train_for", advance)
        return work.train_for(seconds, steps)

    monkeypatch.setattr(PackWork, "train_for", frozen_before)
    found = train(trial, ledger)

    assert found.exit_code == 0, found.err
    assert "was finished by another sweep; nothing to train" in found.err
    assert [ledger.result(trial.id)] == results
    assert ledger.trial(trial.id).lease() is None


def test_a_training_that_wakes_while_another_trains_says_so(
    trial: Trial, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def frozen_and_broken(work: PackWork, seconds: float) -> list[dict[str, Any]]:
        taken_over(trial, ledger)
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(PackWork, "train_for", frozen_and_broken)
    found = train(trial, ledger)

    assert found.exit_code == 1
    assert f"{trial.id} is held by" in found.err
    assert ledger.trial(trial.id).read_text(FAILURE) is None


def test_a_training_waits_on_while_the_ledger_cannot_be_read(
    trial: Trial, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, look, looks = ledger.trial(trial.id), LeaseWatcher.check_leases, list[object]()
    assert other.acquire(THEIRS) is None

    def away_at_first(watch: LeaseWatcher, trial_ids: list[str]) -> dict[str, LeaseState]:
        looks.append(trial_ids)
        if len(looks) == 1:
            return {}
        finished(trial, other)
        return dict(look(watch, trial_ids))

    monkeypatch.setattr(others, "LEASE_CHECK_SECONDS", 0.0)
    monkeypatch.setattr(LeaseWatcher, "check_leases", away_at_first)
    found = train(trial, ledger)

    assert found.exit_code == 0, found.err
    assert "was finished by another sweep" in found.err
    assert len(looks) == 2


def test_a_lease_is_renewed_while_the_data_are_read(
    trial: Trial, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed = []

    def slow(*words: Any, **more: Any) -> Dataset:
        lease = first = ledger.trial(trial.id).lease()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while lease == first and time.monotonic() < deadline:
            time.sleep(0.01)
            lease = ledger.trial(trial.id).lease()
        assert first is not None
        assert lease is not None
        renewed.append(lease != first and lease == replace(first, renewed=lease.renewed))
        raise InputError("no such data")

    monkeypatch.setattr("gapctl.data.load.load_dataset", slow)
    monkeypatch.setattr(renewals, "LeaseRenewer", partial(LeaseRenewer, every=0.01))
    found = train(trial, ledger)

    assert (found.exit_code, renewed) == (2, [True]), found.err
    assert ledger.trial(trial.id).lease() is None


def train(trial: Trial, ledger: Ledger) -> Answer:
    settings = [word for change in SHORT for word in ("--set", change)]
    return gapctl("train", str(SMOKE), "--scale", "smoke", *settings, "--runs", ledger.root, "--trial", trial.id)
