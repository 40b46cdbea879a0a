"""Of several workers' errors the one that a training made decides, and what only tells of a loss is an accident."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.train import TrainingFailedError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError
from torch import distributed as torch_distributed

from gapctl.data.load import load_dataset
from gapctl.errors import InputError, WorkError
from gapctl.ledger import LeaseLostError, LeaseOwner, Ledger
from gapctl.sweep import distributed
from gapctl.sweep.distributed import FROZEN_VARIABLE, LostWorkersError, SharedWork, find_training_error
from trained_alone import plan_trials

RESET = RuntimeError("Read error [127.0.0.1]:23541: Connection reset by peer")
PEER = LostWorkersError("RuntimeError: Connection closed by peer [127.0.0.1]:23541")
KILLED = WorkerHealthCheckFailedError("a worker failed its health check", failure=ActorDiedError())
FROZEN = WorkerHealthCheckTimeoutError("A worker health check has been hanging for 61.00 seconds.")
OWN = ArithmeticError("no such number")
MEETING = torch_distributed.DistStoreError("Timed out after 301 seconds waiting for clients. 1/2 clients joined.")


def of_workers(*errors: Exception) -> TrainingFailedError:
    return WorkerGroupError("workers failed", dict(enumerate(errors)))


@pytest.mark.parametrize(
    "error",
    [
        of_workers(RESET),
        of_workers(PEER),
        of_workers(RESET, KILLED),
        of_workers(KILLED),
        of_workers(RESET, RESET),
        of_workers(FROZEN),
        of_workers(PEER, FROZEN),
        of_workers(OWN, KILLED),
        of_workers(OWN, FROZEN),
        of_workers(WorkerHealthCheckFailedError("a worker failed its health check", failure=NodeDiedError("gone"))),
        of_workers(WorkerHealthCheckFailedError("a worker failed", failure=OutOfMemoryError("memory"))),
        of_workers(WorkerHealthCheckFailedError("a worker failed", failure=ActorUnavailableError("away", None))),
        of_workers(GetTimeoutError("Get timed out: some object(s) not ready.")),
        ControllerError(KILLED),
        ControllerError(RayTaskError("_setup_torch_process_group", "Traceback", MEETING)),
        ActorDiedError(),
        NodeDiedError("gone"),
        WorkerCrashedError(),
        ObjectLostError("00", None, ""),
        None,
    ],
    ids=repr,
)
def test_a_loss_is_an_accident_after_which_the_trial_goes_on(error: BaseException | None) -> None:
    assert isinstance(find_training_error(error, plan_trials()[0]), LostWorkersError)


FULL = WorkError("runs/a: cannot be written: No space left on device")
TAKEN = LeaseLostError("a", None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (of_workers(OWN), OWN),
        (of_workers(OWN, RESET), OWN),
        (of_workers(RESET, OWN), OWN),
        (of_workers(PEER, OWN), OWN),
        (of_workers(RayTaskError("step", "Traceback", OWN)), OWN),
        (of_workers(FULL, RESET), FULL),
        (of_workers(PEER, TAKEN), TAKEN),
    ],
    ids=str,
)
def test_a_training_s_own_error_is_found_among_those_that_followed_from_it(
    error: BaseException, expected: Exception
) -> None:
    assert find_training_error(error, plan_trials()[0]) is expected


def test_an_error_for_the_user_comes_before_any_other() -> None:
    wrong = InputError("a worker's 4 pairs cannot be cut into 8 micro-batches")

    assert find_training_error(of_workers(OWN, wrong), plan_trials()[0]) is wrong


class LocalMailbox(distributed.Mailbox.__ray_metadata__.modified_class):  # type: ignore[name-defined, misc]
    """The mailbox without Ray: `remote` calls at once."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_"):
            return found
        return type("Method", (), {"remote": staticmethod(found)})


class Group:
    """Groups of workers that end as each test says; `begun` counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self._end = 0, threading.Event()
        self.error: BaseException | None = None
        monkeypatch.setattr(distributed, "Mailbox", type("Class", (), {"remote": staticmethod(LocalMailbox)}))
        monkeypatch.setattr(ray, "get", lambda value, timeout=None: value)
        monkeypatch.setattr(SharedWork, "_run_workers", lambda work: self._run(work))
        monkeypatch.setenv(FROZEN_VARIABLE, "60")
        self.work = SharedWork(distributed.SharedTask(plan_trials()[0], *[None] * 6), 2)  # type: ignore[arg-type]

    def _run(self, work: SharedWork) -> None:
        self.begun += 1
        end = self._end
        end.wait(60)
        work._error = self.error

    def report(self, saved: int, *, done: bool = False) -> None:
        report = {"trial": plan_trials()[0].id, "saved": saved, "rows": (), "done": done}
        self.work._mailbox.post_report.remote(report)

    def lose(self, error: BaseException | None = None) -> None:
        self.error, end, self._end = error or of_workers(KILLED), self._end, threading.Event()
        end.set()
        self.work._thread.join()


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Group:
    return Group(monkeypatch)


def test_after_a_loss_with_a_new_checkpoint_another_group_goes_on_at_once(group: Group) -> None:
    for saved in (320, 640):
        group.report(saved - 320)
        group.report(saved)
        group.lose()
        reports = group.work.train_for(0.0)

        assert [report.get("saved") for report in reports] == [saved, None]
        assert reports[-1]["lost"]
    assert group.begun == 3
    assert group.work.unfinished


@pytest.mark.parametrize("reports", [[], [320], [320, 320]])
def test_a_loss_at_the_same_checkpoint_is_left_to_those_who_count_them(group: Group, reports: list[int]) -> None:
    for saved in reports:
        group.report(saved)
    group.lose()

    with pytest.raises(LostWorkersError):
        group.work.train_for(0.0)
    assert group.begun == 1


def test_a_second_loss_without_progress_since_the_first_is_counted_too(group: Group) -> None:
    group.report(0)
    group.report(320)
    group.lose()
    group.work.train_for(0.0)
    group.report(320)
    group.lose()

    with pytest.raises(LostWorkersError):
        group.work.train_for(0.0)


@pytest.mark.parametrize("error", [OWN, FULL], ids=str)
def test_no_group_goes_on_after_a_training_s_own_error(group: Group, error: Exception) -> None:
    group.report(0)
    group.report(320)
    group.lose(of_workers(error))

    with pytest.raises(type(error)):
        group.work.train_for(0.0)
    assert group.begun == 1


def test_a_group_that_is_silent_for_too_long_is_given_up(
    group: Group, monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    clock(0.0)
    group.work._mailbox.note_beat.remote()
    clock(119.0)
    assert group.work.train_for(0.0) == []
    clock(121.0)

    with pytest.raises(LostWorkersError, match="not answered for 121 s"):
        group.work.train_for(0.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    return lambda now: monkeypatch.setattr(distributed.time, "monotonic", lambda: now)


def test_a_trial_whose_workers_stay_reserved_is_handed_to_another_process(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "GRACE_SECONDS", 0.1)
    group.report(6_400, done=True)

    with pytest.raises(LostWorkersError, match="is done"):
        group.work.train_for(0.0)


Worker = Callable[[Exception], None]


@pytest.fixture
def run_worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    """Runs a worker whose training raises; the list gets the seconds for which it holds that back."""
    waits: list[float] = []
    monkeypatch.setattr(distributed.time, "sleep", waits.append)

    def run(error: Exception) -> None:
        def train(*_: object) -> None:
            raise error

        monkeypatch.setattr(distributed, "_train_shared_trial", train)
        distributed.run_shared_worker({"task": None, "mailbox": None})

    run.waits = waits  # type: ignore[attr-defined]
    return run


def test_a_worker_tells_of_a_lost_peer_at_once(run_worker: Worker) -> None:
    error = ValueError("the backward pass failed")
    error.__cause__ = RESET  # which is lost on the way through Ray

    with pytest.raises(LostWorkersError, match="ValueError: the backward pass failed"):
        run_worker(error)
    assert run_worker.waits == []  # type: ignore[attr-defined]


def test_a_worker_holds_its_own_error_back_until_ray_knows_of_other_losses(run_worker: Worker) -> None:
    with pytest.raises(ArithmeticError) as raised:
        run_worker(OWN)

    assert run_worker.waits == [distributed.SETTLE_SECONDS]  # type: ignore[attr-defined]
    assert "Traceback" in raised.value.__notes__[0]


def test_workers_whose_machine_is_announced_to_go_save_together_and_keep_the_lease(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (trial, *_) = plan_trials("base.train.samples=6400", "base.evaluate.every=6400", "base.evaluate.gallery=64")
    ledger, mailbox = Ledger(str(tmp_path / "runs")), LocalMailbox()
    holder = ledger.trial(trial.id)
    assert holder.acquire(LeaseOwner.for_sweep("imbalance")) is None
    assert holder.handle is not None
    monkeypatch.setattr(ray, "get", lambda value, timeout=None: value)
    monkeypatch.setattr(distributed, "SpotWatch", lambda: SimpleNamespace(announced=True, close=lambda: None))
    data = load_dataset(trial.config.data)
    task = distributed.SharedTask(trial, data, ledger.everywhere, 1, False, 0, holder.handle.lease)

    distributed.run_shared_worker({"task": task, "mailbox": mailbox})

    (before, last), _ = mailbox.drain_reports.remote()
    assert before["saved"] <= last["saved"] == last["samples_seen"] < 6400
    assert holder.checkpoints()[0][0].endswith(f"{last['saved']:012d}.pt")
    assert holder.lease() is not None
