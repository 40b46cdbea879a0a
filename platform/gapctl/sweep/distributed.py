"""One trial on several workers: Ray Train starts them, and they tell this process how far they come.

The trial's own process only waits: the first worker writes to the ledger, as a trial alone does.
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
from gapctl.training.workers import WorkerGroup, get_current_group, is_peer_loss

STEPS_PER_STOP_CHECK: Final = 16
"""Training steps between two looks at whether to stop, which all workers take together."""
GRACE_SECONDS: Final = 60.0
CAUSE_ATTRIBUTES: Final = ("cause", "health_check_failure", "controller_failure", "__cause__")
"""Where errors of Ray Core, Ray Train and Python keep the error that they were made of."""


class SharedTask(NamedTuple):
    """What each worker is told."""

    trial: Trial
    material: Dataset
    runs: str
    threads: int
    gpu: bool
    readers: int
    lease: Lease


@ray.remote(num_cpus=0)
class Mailbox:
    """Passes reports from the first worker to the trial's process, and the wish to stop back."""

    def __init__(self) -> None:
        self._reports: list[dict[str, Any]] = []
        self._begun = self._stopping = False

    def begin(self) -> None:
        """Takes note that the workers are there."""
        self._begun = True

    def tell(self, report: dict[str, Any]) -> bool:
        """Leaves a report; whether the workers are to save and stop."""
        self._reports.append(report)
        return self._stopping

    def collect(self) -> list[dict[str, Any]]:
        """The reports since this was last called."""
        found, self._reports = self._reports, []
        return found

    def stop(self) -> bool:
        """Asks the workers to save and stop; whether there are any yet."""
        self._stopping = True
        return self._begun


class SharedWork:
    """Has what `PackWork` has, for one trial that `workers` processes train."""

    def __init__(self, asked: SharedTask, workers: int) -> None:
        self._asked = asked
        self._mailbox = Mailbox.remote()  # type: ignore[attr-defined]
        self._error: BaseException | None = None
        self._done = False
        self._thread = threading.Thread(target=self._run_trainer, args=(workers,), daemon=True)
        self._thread.start()

    def train_for(self, seconds: float) -> list[dict[str, Any]]:
        """Waits for about `seconds`; the reports that came meanwhile. Raises what ended the training."""
        self._thread.join(timeout=seconds)
        alive = self._thread.is_alive()
        try:
            reports: list[dict[str, Any]] = ray.get(self._mailbox.collect.remote())
        except RayError as lost:
            raise find_training_error(lost, self._asked.trial) from lost
        self._done = any(report["done"] for report in reports)
        if not alive and not self._done:
            raise find_training_error(self._error, self._asked.trial)
        return _merge_reports(reports)

    @property
    def unfinished(self) -> list[Trial]:
        """The trial, as long as its result is not in the ledger."""
        return [] if self._done else [self._asked.trial]

    def save_and_stop(self) -> None:
        """Has the workers save where they stand, and waits for it; those that never came have nothing to save."""
        with suppress(RayError):
            if self._thread.is_alive() and ray.get(self._mailbox.stop.remote()):
                self._thread.join(timeout=GRACE_SECONDS)

    def _run_trainer(self, workers: int) -> None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        asked = self._asked
        resources = {"CPU": float(asked.threads), **({"GPU": 1.0} if asked.gpu else {})}
        scaling = ScalingConfig(num_workers=workers, use_gpu=asked.gpu, resources_per_worker=resources)
        try:
            with tempfile.TemporaryDirectory(prefix="gapctl-train-") as scratch:
                TorchTrainer(
                    run_shared_worker,
                    train_loop_config={"asked": asked, "mailbox": self._mailbox},
                    scaling_config=scaling,
                    # Features and gradients meet on GPUs, a batch's caption numbers on the host.
                    torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if asked.gpu else "gloo"),
                    run_config=RunConfig(
                        name=asked.trial.id, storage_path=scratch, failure_config=FailureConfig(max_failures=0)
                    ),
                ).fit()
        except BaseException as error:
            self._error = error


def run_shared_worker(told: dict[str, Any]) -> None:
    """What each worker does: steps with the others; the first one evaluates, saves and reports.

    Ray Train passes on what a worker raises without its traceback, which is therefore added as a note.
    """
    try:
        _train_shared_trial(told["asked"], told["mailbox"], get_current_group())
    except GapctlError:
        raise
    except Exception as error:
        error.add_note(traceback.format_exc().rstrip())
        raise


def _train_shared_trial(asked: SharedTask, mailbox: Any, group: WorkerGroup) -> None:
    import torch

    from gapctl.sweep.worker import PackWork

    if group.rank == 0:
        ray.get(mailbox.begin.remote())
    folder = Ledger(asked.runs).trial(asked.trial.id)
    folder.share(asked.lease)
    work = PackWork(
        [asked.trial],
        asked.material,
        asked.runs,
        threads=asked.threads,
        gpu=asked.gpu,
        readers=asked.readers,
        group=group,
        folders={asked.trial.id: folder},
    )
    stop = False
    while work.unfinished and not stop:
        (report,) = work.train_for(0.0, steps=STEPS_PER_STOP_CHECK)
        wish = group.rank == 0 and ray.get(mailbox.tell.remote(report))
        flag = torch.tensor([float(wish)], device=work.device)
        stop = bool(group.mean(flag).item() > 0)
    if stop and group.rank == 0:
        work.save_and_stop()


def find_training_error(error: BaseException | None, trial: Trial) -> BaseException:
    """What ended a training: an error of its own, or WorkError where workers or their machines were lost.

    One worker's loss is told in several ways at once: by Ray, and by the others' collectives.
    """
    causes = [_extract_error(cause) for cause in list(getattr(error, "worker_failures", {}).values()) or [error]]
    own = [cause for cause in causes if cause is not None and not _is_worker_loss(cause)]
    own.sort(key=lambda cause: not isinstance(cause, GapctlError))  # the others only noticed that one stopped
    if any(isinstance(cause, RayActorError) for cause in causes) or not own:
        return WorkError(f"workers of {trial.label} were lost ({error}); it goes on from its last checkpoint")
    return own[0]


def _is_worker_loss(error: BaseException) -> bool:
    """Whether Ray says it of a process or machine, or a collective of a worker that has gone."""
    return type(error).__module__.partition(".")[0] == ray.__name__ or is_peer_loss(error)


def _extract_error(error: BaseException | None) -> BaseException | None:
    """What a worker raised, out of what Ray wraps it in."""
    while error is not None:
        if isinstance(error, GapctlError):
            return error
        wrapped = [getattr(error, name, None) for name in CAUSE_ATTRIBUTES]
        inner = next((found for found in wrapped if isinstance(found, BaseException)), None)
        if inner is None:
            return error
        error = inner
    return None


def _merge_reports(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One report that stands for several: the last, with all their evaluations."""
    if not reports:
        return []
    rows = tuple(row for report in reports for row in report["rows"])
    return [{**reports[-1], "rows": rows}]
