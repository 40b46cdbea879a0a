"""Train one trial on several workers of Ray Train.

The trial's own process (`SharedWork`) only waits. The first worker (rank 0) writes to the ledger and sends reports
through a `Mailbox`; every `STEPS_PER_STOP_CHECK` steps all workers agree whether to stop.
"""

import tempfile
import threading
import traceback
from contextlib import suppress
from typing import Any, Final, NamedTuple

import ray
from ray.exceptions import RayActorError, RayError

from gapctl.data.load import Dataset
from gapctl.errors import GapctlError, WorkError
from gapctl.ledger import Lease, Ledger
from gapctl.plan.plan import Trial
from gapctl.sweep.progress import WorkerReport
from gapctl.training.workers import WorkerGroup, get_worker_group, is_lost_worker_error

STEPS_PER_STOP_CHECK: Final = 16
"""Training steps between two stop checks, which all workers make together."""
GRACE_SECONDS: Final = 60.0
CAUSE_ATTRIBUTES: Final = ("cause", "health_check_failure", "controller_failure", "__cause__")
"""Attributes in which errors of Ray Core, Ray Train and Python keep their cause."""


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
        self._started = self._stopping = False

    def note_start(self) -> None:
        """Note that the workers have started."""
        self._started = True

    def post_report(self, report: WorkerReport) -> bool:
        """Add a report. Return whether the workers should save and stop."""
        self._reports.append(report)
        return self._stopping

    def drain_reports(self) -> list[WorkerReport]:
        """Return the reports since the last call."""
        found, self._reports = self._reports, []
        return found

    def request_stop(self) -> bool:
        """Ask the workers to save and stop. Return whether they have started."""
        self._stopping = True
        return self._started


class SharedWork:
    """Implements `Work` for one trial that `workers` processes train."""

    def __init__(self, task: SharedTask, workers: int) -> None:
        self._task = task
        self._mailbox = Mailbox.remote()  # type: ignore[attr-defined]
        self._error: BaseException | None = None
        self._done = False
        self._thread = threading.Thread(target=self._run_workers, args=(workers,), daemon=True)
        self._thread.start()

    def train_for(self, seconds: float) -> list[WorkerReport]:
        """Wait for about `seconds` and return the reports since. Raises the error that ended the training."""
        self._thread.join(timeout=seconds)
        alive = self._thread.is_alive()
        try:
            reports: list[WorkerReport] = ray.get(self._mailbox.drain_reports.remote())
        except RayError as lost:
            raise find_training_error(lost, self._task.trial) from lost
        self._done = any(report["done"] for report in reports)
        if not alive and not self._done:
            raise find_training_error(self._error, self._task.trial)
        if not reports:
            return []
        reports[-1]["rows"] = tuple(row for report in reports for row in report["rows"])
        return reports[-1:]

    @property
    def unfinished(self) -> list[Trial]:
        """The trial, until its last report has come."""
        return [] if self._done else [self._task.trial]

    def save_and_stop(self) -> None:
        """Ask the workers to save and stop, and wait for them. Workers that never started have nothing to save."""
        with suppress(RayError):
            if self._thread.is_alive() and ray.get(self._mailbox.request_stop.remote()):
                self._thread.join(timeout=GRACE_SECONDS)

    def _run_workers(self, workers: int) -> None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        task = self._task
        resources = {"CPU": float(task.threads), **({"GPU": 1.0} if task.gpu else {})}
        scaling = ScalingConfig(num_workers=workers, use_gpu=task.gpu, resources_per_worker=resources)
        try:
            with tempfile.TemporaryDirectory(prefix="gapctl-train-") as scratch:
                TorchTrainer(
                    run_shared_worker,
                    train_loop_config={"task": task, "mailbox": self._mailbox},
                    scaling_config=scaling,
                    # Features and gradients meet on GPUs, a batch's caption numbers on the host.
                    torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if task.gpu else "gloo"),
                    run_config=RunConfig(
                        name=task.trial.id, storage_path=scratch, failure_config=FailureConfig(max_failures=0)
                    ),
                ).fit()
        except BaseException as error:
            self._error = error


def run_shared_worker(config: dict[str, Any]) -> None:
    """Train on one worker, in step with the others. The first worker evaluates, saves and reports.

    Ray Train drops the traceback of an error, so it is added as a note.
    """
    try:
        _train_shared_trial(config["task"], config["mailbox"], get_worker_group())
    except GapctlError:
        raise
    except Exception as error:
        error.add_note(traceback.format_exc().rstrip())
        raise


def _train_shared_trial(task: SharedTask, mailbox: Any, group: WorkerGroup) -> None:
    import torch

    from gapctl.sweep.worker import PackWork

    if group.rank == 0:
        ray.get(mailbox.note_start.remote())
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
    stop = False
    while work.unfinished and not stop:
        (report,) = work.train_for(0.0, steps=STEPS_PER_STOP_CHECK)
        wish = group.rank == 0 and ray.get(mailbox.post_report.remote(report))
        flag = torch.tensor([float(wish)], device=work.device)
        stop = bool(group.mean(flag).item() > 0)
    if stop and group.rank == 0:
        work.save_and_stop()


def find_training_error(error: BaseException | None, trial: Trial) -> BaseException:
    """Return the error that ended a training: its own, or WorkError if workers or machines were lost.

    The loss of one worker shows up several times: in Ray's error, and in those of the other workers' collectives.
    """
    causes = [_extract_error(cause) for cause in list(getattr(error, "worker_failures", {}).values()) or [error]]
    # Ray's own errors are about a process or machine, and a collective's about a lost peer.
    own = [
        cause
        for cause in causes
        if cause is not None
        and type(cause).__module__.partition(".")[0] != ray.__name__
        and not is_lost_worker_error(cause)
    ]
    own.sort(key=lambda cause: not isinstance(cause, GapctlError))  # the others only noticed that one stopped
    if any(isinstance(cause, RayActorError) for cause in causes) or not own:
        return WorkError(f"workers of {trial.label} were lost ({error}); it goes on from its last checkpoint")
    return own[0]


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
