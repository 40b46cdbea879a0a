"""Train trials inside a Ray process: one pack after another, each trial resumed from the ledger.

1. Tune starts a `TrialWorker` and calls `step` about once a second.
2. The worker acquires the leases of the pack's trials and starts their work: `PackWork` (pack_work.py) in this process,
   or `SharedWork` (distributed.py) if several workers train one trial.
3. Each step trains for `REPORT_SECONDS` and returns a report per trial. A finished trial is in the ledger before its
   last report.
4. A training that raises fails its trial; a lost lease leaves the trial to the process that has it now. Where the
   machine is to be taken away (spot_notice.py), the trial saves and leaves it.

What trains is imported where a trial begins: the sweep's own process knows the class `TrialWorker`, and starts sooner
without torch and open_clip.
"""

import math
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, Protocol

from ray import tune

from gapctl.errors import WorkError
from gapctl.imports import import_without_garbage_collection
from gapctl.ledger import Lease, LeaseLostError, LeaseOwner, Ledger, Result, TrialFolder
from gapctl.plan.plan import Trial
from gapctl.sweep.gauges import TrialGauges
from gapctl.sweep.lease_watch import LeaseRenewer
from gapctl.sweep.progress import WorkerReport
from gapctl.sweep.spot_notice import MACHINE_TAKEN_TEXT, MachineTakenError, SpotWatch

if TYPE_CHECKING:
    from gapctl.data.load import Dataset
    from gapctl.training.trial_state import TrialProgress

REPORT_SECONDS = 1.0
HARMED_KEY: Final = "harmed"
"""Key of a Tune result: true in the last report of a process that must not train another pack."""


class HarmedProcessError(Exception):
    """Ends a process in which a training has failed, after it has reported the failure."""


class TrialWorker(tune.Trainable):
    """Train the pack of trials that Tune passes (`pack`, their ids), and keep the process for the next pack.

    The ledger, not Tune, keeps checkpoints: a restarted trial finds its own there. A trial whose lease another process
    has is reported as held and left to it.

    If a training raises, the trials packed with it are tried alone, and the one that raises again is reported as
    failed. The failure may have harmed the process, so it exits and never trains another pack. A process or machine
    that vanishes, or a ledger that cannot be read or written, is an accident: Tune notices it and retries.
    """

    def setup(self, config: dict[str, Any], **shared: Any) -> None:
        """Receive what all packs share.

        `trials` by id, `data` by address, the ledger's address (`runs`), each trial's `threads`, `gpu`, `readers` and
        `workers`, the owner of leases (`claimant`), and leases that `expired`, by trial.
        """
        self._trials: Mapping[str, Trial] = shared["trials"]
        self._data: Mapping[str, Dataset] = shared["data"]
        self._runs: str = shared["runs"]
        self._threads: int = shared["threads"]
        self._gpu: bool = shared["gpu"]
        self._readers: int = shared["readers"]
        self._workers: int = shared["workers"]
        self._claimant: LeaseOwner = shared["claimant"]
        self._expired: Mapping[str, bytes] = shared["expired"]
        self._folders: dict[str, TrialFolder] = {}
        self._renewals = LeaseRenewer(lambda: self._folders.values())
        self._spot = SpotWatch()
        self._packs: list[list[Trial]] = []
        self._reported: set[str] = set()
        self._work: Work | None = None
        self._harmed = False
        self._gauges = TrialGauges()
        self._next_config: dict[str, Any] | None = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Accept the next pack, which begins at the next step.

        If this returned False or raised, Tune would give the trial up without a retry.
        """
        self._next_config = new_config
        return True

    def step(self) -> dict[str, object]:
        """Train for about `REPORT_SECONDS` and return a report per trial.

        The last report of a harmed process is not `done`, as Tune would otherwise reuse the process. The next step
        raises, and Tune removes the process.
        """
        if self._next_config is not None:
            config, self._next_config = self._next_config, None
            self._begin_pack(config)
        if self._must_exit:
            raise HarmedProcessError("a training went wrong in this process, so no other trial is trained in it")
        if self._spot.announced and self._packs:
            self._leave_machine()
        reports = self._collect_reports()
        self._reported |= {report["trial"] for report in reports if report.get("done")}
        if self._work is not None and not self._work.unfinished:
            self._work = None
            self._release_leases(self._packs.pop(0))
        return {"reports": reports, "done": not self._packs and not self._harmed, HARMED_KEY: self._must_exit}

    @property
    def _must_exit(self) -> bool:
        return self._harmed and not self._packs

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, object]:
        """Save the trials' checkpoints in the ledger when Tune is interrupted. Tune itself stores nothing."""
        self.cleanup()
        return {}

    def load_checkpoint(self, checkpoint: object) -> None:
        """Do nothing: a trial finds its checkpoint in the ledger."""

    def cleanup(self) -> None:
        """Save checkpoints of unfinished trials and release their leases."""
        if self._work is not None:
            self._work.save_and_stop()
        self._release_leases([self._trials[trial_id] for trial_id in self._folders])

    def _begin_pack(self, config: Mapping[str, Any]) -> None:
        self.cleanup()
        self._packs, self._work = [[self._trials[trial_id] for trial_id in config["pack"]]], None

    def _leave_machine(self) -> None:
        label = ", ".join(trial.label for trial in self._packs[0])
        self.cleanup()
        self._work = None
        raise MachineTakenError(f"{label}: {MACHINE_TAKEN_TEXT}; it saved a checkpoint and goes on elsewhere")

    def _collect_reports(self) -> list[WorkerReport]:
        try:
            if self._work is None and (found := self._acquire_pack()):
                return found
            if self._work is None:
                self._work = self._start_work(self._packs[0])
            reports = self._work.train_for(REPORT_SECONDS)
        except LeaseLostError as lost:
            return self._leave_lost_trial(lost)
        except WorkError:
            self._work = None
            raise
        except Exception:
            return self._fail_pack(traceback.format_exc())
        for report in reports:
            if "lost" not in report:
                self._gauges.show_report(self._trials[report["trial"]], report)
        return reports

    def _start_work(self, pack: list[Trial]) -> "Work":
        """Start the work on a pack, in this process or on workers of Ray Train."""
        data = self._data[pack[0].config.data.address]
        if self._workers == 1:
            import_without_garbage_collection("gapctl.sweep.pack_work")
            from gapctl.sweep.pack_work import PackWork

            return PackWork(
                pack,
                data,
                self._runs,
                threads=self._threads,
                gpu=self._gpu,
                readers=self._readers,
                folders=self._folders,
            )
        from gapctl.sweep.distributed import SharedTask, SharedWork

        (trial,) = pack
        hold = self._folders[trial.id].handle
        assert hold is not None
        task = SharedTask(trial, data, self._runs, self._threads, self._gpu, self._readers, hold.lease)
        return SharedWork(task, self._workers)

    def _acquire_pack(self) -> list[WorkerReport]:
        """Acquire the leases of the current pack. Remove and report trials that are held elsewhere or finished.

        Results are read after the lease is acquired: another process may have finished the trial in between, or a
        process of this sweep may have vanished between the result and its last report.
        """
        pack = self._packs[0]
        reports = [report for trial in pack if trial.id not in self._folders and (report := self._acquire_trial(trial))]
        self._packs[0] = [trial for trial in pack if trial.id in self._folders]
        if not self._packs[0]:
            self._packs.pop(0)
        return reports

    def _acquire_trial(self, trial: Trial) -> WorkerReport | None:
        """Return None if this process may train the trial, otherwise the report of why not."""
        folder = Ledger(self._runs).trial(trial.id)
        other = folder.acquire(self._claimant, self._expired.get(trial.id))
        if other is not None:
            return build_lease_report(trial, other)
        self._folders[trial.id] = folder
        result = folder.result()
        if result is None:
            return None
        self._release_leases([trial])
        return build_result_report(result)

    def _leave_lost_trial(self, lost: LeaseLostError) -> list[WorkerReport]:
        """Leave a trial to the process that has its lease now. Those packed with it resume from their checkpoints."""
        self._work = None
        left = [trial for trial in self._packs.pop(0) if trial.id not in self._reported]
        self._release_leases(left)
        others = [trial for trial in left if trial.id != lost.trial_id]
        self._packs = [others] if others else []
        return [self._report_lost_trial(lost)]

    def _report_lost_trial(self, lost: LeaseLostError) -> WorkerReport:
        trial = self._trials[lost.trial_id]
        self._gauges.clear_rate(trial)
        result = Ledger(self._runs).trial(trial.id).result()
        return build_lease_report(trial, lost.lease) if result is None else build_result_report(result)

    def _release_leases(self, trials: list[Trial]) -> None:
        for trial in trials:
            folder = self._folders.pop(trial.id, None)
            if folder is not None:
                folder.release()

    def _fail_pack(self, message: str) -> list[WorkerReport]:
        """Fail a trial that was alone. If there are several, each resumes alone from its checkpoint."""
        left = [trial for trial in self._packs.pop(0) if trial.id not in self._reported]
        self._work, self._harmed = None, True
        for trial in left:
            self._gauges.clear_rate(trial)
        if len(left) > 1:
            self._release_leases(left)
            self._packs = [[trial] for trial in left]
            return []
        (trial,) = left
        try:
            (self._folders.pop(trial.id, None) or Ledger(self._runs).trial(trial.id)).fail(message)
        except LeaseLostError as lost:
            return [self._report_lost_trial(lost)]
        return [{"trial": trial.id, "failure": message}]


def build_lease_report(trial: Trial, lease: Lease) -> WorkerReport:
    """Return the report of a trial that another process holds."""
    return {"trial": trial.id, "held": asdict(lease)}


class Work(Protocol):
    """Trials in training, in this process or on other workers."""

    @property
    def unfinished(self) -> list[Trial]:
        """The trials without a result in the ledger."""
        ...

    def train_for(self, seconds: float) -> list[WorkerReport]:
        """Train for about `seconds` and return a report per trial."""
        ...

    def save_and_stop(self) -> None:
        """Save checkpoints of unfinished trials and stop."""
        ...


def build_result_report(result: Result) -> WorkerReport:
    """Return the last report of a trial whose result is in the ledger."""
    from gapctl.training.trial_state import TrialProgress

    seen, loss = result.samples_seen, result.metrics.get("train/loss", math.nan)
    return build_progress_report(result.trial, seen, TrialProgress(seen, seen, 0.0, loss, rows=(), done=True))


def build_progress_report(trial_id: str, saved: int, progress: "TrialProgress") -> WorkerReport:
    """Return the report of a trial whose last checkpoint is at `saved` samples."""
    return {
        "trial": trial_id,
        "saved": saved,
        "samples_seen": progress.samples_seen,
        "samples_total": progress.samples_total,
        "samples_per_second": progress.samples_per_second,
        "loss": progress.loss,
        "rows": progress.rows,
        "done": progress.done,
    }
