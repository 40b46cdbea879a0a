"""Train one trial on several workers of Ray Train.

1. The trial's own process (`SharedWork`) starts the group of workers and waits. The first worker (rank 0) writes to the
   ledger and sends reports through a `Mailbox`; every `STEPS_PER_STOP_CHECK` steps all workers agree whether to stop.
2. `find_training_error` tells a training's own error from the loss of a worker. After a loss the next group goes on
   from the checkpoint: in this process if the checkpoint has advanced, otherwise by Tune, which counts retries.
3. Nothing waits without end for a peer that is gone or frozen; the constants below say for how long at most.
"""

import os
import threading
import time
import traceback
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, NamedTuple

import ray
from ray.exceptions import RayError

from gapctl.data.load import Dataset
from gapctl.errors import GapctlError, WorkError
from gapctl.io.scratch import ScratchFolder
from gapctl.ledger import Lease, Ledger
from gapctl.plan.plan import Trial
from gapctl.sweep.progress import WorkerReport
from gapctl.sweep.spot_notice import SpotWatch
from gapctl.training.workers import WorkerGroup, get_worker_group, is_lost_worker_error

STEPS_PER_STOP_CHECK: Final = 16
"""Training steps between two stop checks, which all workers make together."""
GRACE_SECONDS: Final = 60.0
"""Time for a group to save and stop, and for Ray Train to end it."""
MEETING_SECONDS: Final = 300.0
"""Longest wait of a worker for the others to join the process group."""
COLLECTIVE_SECONDS: Final = 1800.0
"""Longest wait in a collective, as for the first worker's evaluation. A peer that is frozen is given up long before."""
FROZEN_SECONDS: Final = 60.0
"""Time after which a worker, or the whole group, that does not answer is given up; one that has died is missed at once.
"""
FROZEN_VARIABLE: Final = "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"
"""Ray Train's variable for the same, by default 600; one that is set is left as it is."""
BEAT_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 5.0
"""How long a worker's own error is held back. If another has died, Ray Train knows it by then, and that counts."""
CAUSE_ATTRIBUTES: Final = ("cause", "health_check_failure", "controller_failure", "__cause__")
"""Attributes in which errors of Ray Core, Ray Train and Python keep their cause."""


class LostWorkersError(WorkError):
    """A worker, or a process or machine that it needs, was lost; the trial goes on from its last checkpoint."""


class SharedTask(NamedTuple):
    """What each worker needs to train the trial."""

    trial: Trial
    material: Dataset
    runs: str
    threads: int
    gpu: bool
    readers: int
    lease: Lease


@ray.remote(num_cpus=0)
class Mailbox:
    """Passes reports from the first worker to the trial's process, and the request to stop back."""

    def __init__(self) -> None:
        self._reports: list[WorkerReport] = []
        self._beaten: float | None = None
        self._stopping = False

    def note_beat(self) -> None:
        """Note that the first worker has started, and lives."""
        self._beaten = time.monotonic()

    def note_restart(self) -> None:
        """Wait for the first worker of a new group, whatever an earlier group said."""
        self._beaten = None

    def post_report(self, report: WorkerReport) -> bool:
        """Add a report. Return whether the workers should save and stop."""
        self._reports.append(report)
        return self._stopping

    def drain_reports(self) -> tuple[list[WorkerReport], float]:
        """Return the reports since the last call, and for how many seconds the first worker has been silent."""
        found, self._reports = self._reports, []
        return found, 0.0 if self._beaten is None else time.monotonic() - self._beaten

    def request_stop(self) -> bool:
        """Ask the workers to save and stop. Return whether they have started."""
        self._stopping = True
        return self._beaten is not None


class SharedWork:
    """Implements `Work` for one trial that `workers` processes train."""

    def __init__(self, task: SharedTask, workers: int) -> None:
        os.environ.setdefault(FROZEN_VARIABLE, str(FROZEN_SECONDS))
        self._task, self._workers = task, workers
        self._frozen_seconds = float(os.environ[FROZEN_VARIABLE])
        self._mailbox = Mailbox.remote()  # type: ignore[attr-defined]
        self._saved: int | None = None
        self._error: BaseException | None = None
        self._done = False
        self._start_group()

    def train_for(self, seconds: float) -> list[WorkerReport]:
        """Wait for about `seconds` and return the reports since. Raises the error that ended the training.

        A loss after which the checkpoint had advanced is reported, and the next group is started.
        """
        self._thread.join(timeout=seconds)
        alive = self._thread.is_alive()
        try:
            reports, silent = ray.get(self._mailbox.drain_reports.remote(), timeout=GRACE_SECONDS)
        except RayError as lost:
            raise find_training_error(lost, self._task.trial) from lost
        self._note_reports(reports)
        if self._done:
            self._wait_until_group_ends()
        elif not alive:
            error = find_training_error(self._error, self._task.trial)
            if not isinstance(error, LostWorkersError) or not self._has_advanced():
                raise error
            self._start_group()
            return [*_merge_reports(reports), {"trial": self._task.trial.id, "lost": True}]
        elif silent > self._frozen_seconds + GRACE_SECONDS:  # by then Ray Train should have ended the group
            raise LostWorkersError(
                f"workers of {self._task.trial.label} have not answered for {silent:.0f} s; it goes on from its last "
                "checkpoint"
            )
        return _merge_reports(reports)

    @property
    def unfinished(self) -> list[Trial]:
        """The trial, until its last report has come."""
        return [] if self._done else [self._task.trial]

    def save_and_stop(self) -> None:
        """Ask the workers to save and stop, and wait for them. Workers that never started have nothing to save."""
        with suppress(RayError):
            if self._thread.is_alive() and ray.get(self._mailbox.request_stop.remote(), timeout=GRACE_SECONDS):
                self._thread.join(timeout=GRACE_SECONDS)

    def _start_group(self) -> None:
        self._saved_at_start, self._error = self._saved, None
        self._mailbox.note_restart.remote()
        self._thread = threading.Thread(target=self._run_workers, daemon=True)
        self._thread.start()

    def _note_reports(self, reports: list[WorkerReport]) -> None:
        """Note checkpoints. The first report tells where an earlier attempt stopped."""
        for report in reports:
            self._saved = max(self._saved or 0, report["saved"])
            if self._saved_at_start is None:
                self._saved_at_start = self._saved
            self._done = self._done or report["done"]

    def _has_advanced(self) -> bool:
        """Return whether the checkpoint has advanced since this group was started."""
        return self._saved is not None and self._saved_at_start is not None and self._saved > self._saved_at_start

    def _wait_until_group_ends(self) -> None:
        """Wait until Ray Train has released what the workers reserved, which the next trial needs."""
        self._thread.join(timeout=GRACE_SECONDS)
        if self._thread.is_alive():
            raise LostWorkersError(
                f"{self._task.trial.label} is done, but Ray Train has not released its workers for {GRACE_SECONDS:.0f} "
                "s; another process goes on"
            )

    def _run_workers(self) -> None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        task = self._task
        resources = {"CPU": float(task.threads), **({"GPU": 1.0} if task.gpu else {})}
        scaling = ScalingConfig(num_workers=self._workers, use_gpu=task.gpu, resources_per_worker=resources)
        # Features and gradients meet on GPUs, a batch's caption numbers on the host.
        backend = "cpu:gloo,cuda:nccl" if task.gpu else "gloo"
        try:
            with ScratchFolder("train") as scratch:
                TorchTrainer(
                    run_shared_worker,
                    train_loop_config={"task": task, "mailbox": self._mailbox},
                    scaling_config=scaling,
                    torch_config=TorchConfig(backend=backend, timeout_s=int(MEETING_SECONDS)),
                    # Ray Train would start a group anew after an error of the training itself too.
                    run_config=RunConfig(
                        name=task.trial.id, storage_path=str(scratch), failure_config=FailureConfig(max_failures=0)
                    ),
                ).fit()
        except BaseException as error:
            self._error = error


def _merge_reports(reports: list[WorkerReport]) -> list[WorkerReport]:
    """Return the last report with the rows of all, or [] if there is none."""
    if not reports:
        return []
    reports[-1]["rows"] = tuple(row for report in reports for row in report["rows"])
    return reports[-1:]


def run_shared_worker(config: dict[str, Any]) -> None:
    """Train on one worker, in step with the others. The first worker evaluates, saves and reports.

    Ray Train drops the traceback and the cause of an error, so the first is added as a note, and a lost peer is told
    here. An error of this worker alone is held back for `SETTLE_SECONDS`: in the same seconds as the loss of another
    worker it is the loss's, and Ray Train then ends this one before it is raised.
    """
    ended = threading.Event()
    try:
        _train_shared_trial(config["task"], config["mailbox"], get_worker_group(), ended)
    except GapctlError:
        raise
    except Exception as error:
        if is_lost_worker_error(error):
            raise LostWorkersError(f"{type(error).__name__}: {error}") from error
        error.add_note(traceback.format_exc().rstrip())
        time.sleep(SETTLE_SECONDS)
        raise
    finally:
        ended.set()


def _train_shared_trial(task: SharedTask, mailbox: Any, group: WorkerGroup, ended: threading.Event) -> None:
    import torch

    from gapctl.sweep.pack_work import PackWork

    if torch.distributed.is_initialized():
        torch.distributed.set_timeout(timedelta(seconds=COLLECTIVE_SECONDS))
    if group.rank == 0:
        threading.Thread(target=_send_beats, args=(mailbox, ended), daemon=True).start()
    folder = Ledger(task.runs).trial(task.trial.id)
    folder.attach(task.lease)
    work = PackWork(
        [task.trial],
        task.material,
        task.runs,
        threads=task.threads,
        gpu=task.gpu,
        readers=task.readers,
        group=group,
        folders={task.trial.id: folder},
    )
    spot, stop = SpotWatch(), False
    while work.unfinished and not stop:
        (report,) = work.train_for(0.0, steps=STEPS_PER_STOP_CHECK)
        wish = group.rank == 0 and ray.get(mailbox.post_report.remote(report), timeout=GRACE_SECONDS)
        flag = torch.tensor([float(wish or spot.announced)], device=work.device)
        stop = bool(group.mean(flag).item() > 0)
    spot.close()
    if work.unfinished and group.rank == 0:  # the lease stays, as another group may go on at once
        work.save()
        ray.get(
            mailbox.post_report.remote({**report, "saved": report["samples_seen"], "rows": ()}), timeout=GRACE_SECONDS
        )


def _send_beats(mailbox: Any, ended: threading.Event) -> None:
    """Tell the trial's process that the first worker lives, also while a step or an evaluation takes long."""
    with suppress(RayError):  # the mailbox was lost, which the training notices itself
        while not ended.is_set():
            mailbox.note_beat.remote()
            ended.wait(BEAT_SECONDS)


def find_training_error(error: BaseException | None, trial: Trial) -> BaseException:
    """Return the error that ended a training: its own, or LostWorkersError if workers or machines were lost.

    The loss of one worker shows up several times: in Ray's error, in those of the other workers' collectives, and at
    times in what other workers do wrong in the same seconds. So where Ray knows of a loss, that decides.
    """
    failures = getattr(error, "worker_failures", {})
    causes = [_extract_error(cause) for cause in list(failures.values()) or [error]]
    own = [cause for cause in causes if cause is not None and not _is_loss(cause)]
    if not own or any(_is_of_ray(cause) for cause in causes):
        why = "they left a machine that is to be taken away" if error is None else error
        return LostWorkersError(f"workers of {trial.label} were lost ({why}); it goes on from its last checkpoint")
    own.sort(key=lambda cause: not isinstance(cause, GapctlError))  # the others only noticed that one stopped
    return own[0]


def _is_loss(error: BaseException) -> bool:
    return isinstance(error, LostWorkersError) or _is_of_ray(error) or is_lost_worker_error(error)


def _is_of_ray(error: BaseException | None) -> bool:
    """Return whether an error is Ray's own, about a process, a machine, or an answer that did not come."""
    return error is not None and type(error).__module__.partition(".")[0] == ray.__name__


def _extract_error(error: BaseException | None) -> BaseException | None:
    """Return the error that a worker raised, without Ray's wrappers."""
    while error is not None:
        if isinstance(error, GapctlError):
            return error
        wrapped = [getattr(error, name, None) for name in CAUSE_ATTRIBUTES]
        inner = next((each for each in wrapped if isinstance(each, BaseException)), None)
        if inner is None:
            return error
        error = inner
    return None
