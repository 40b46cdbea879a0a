"""What runs inside a Ray process: one pack of trials after another, each trial continued from the ledger."""

import traceback
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from ray import tune

from gapctl.errors import WorkError
from gapctl.ledger import Claimant, Lease, LeaseLostError, Ledger, TrialFolder
from gapctl.plan.trials import Trial
from gapctl.sweep.gauges import TrialGauges
from gapctl.sweep.renewals import Renewals

if TYPE_CHECKING:
    from gapctl.data.load import Material
    from gapctl.sweep.work import Work

REPORT_SECONDS = 1.0
HARMED: Final = "harmed"
"""Key of a result of Tune: whether this was the last of a process that must not be given another pack."""


class HarmedProcessError(Exception):
    """Ends a process in which a training went wrong, once it has reported that."""


class TrialWorker(tune.Trainable):
    """Advances the pack of trials that Tune hands it (`pack`, their ids); keeps its process for the next one.

    The ledger, not Tune, keeps checkpoints: a trial that Tune starts again finds its own. A trial whose lease another
    process has is reported as held and left to it.
    A training that raises is wrong and is reported as failed at once, after the trials that were packed with it have
    been tried alone. It may have harmed its process, which then ends itself and is never given another pack. A process
    or machine that vanishes, or a ledger that cannot be read or written, is an accident: Tune notices it, and tries
    again.
    """

    def setup(self, config: dict[str, Any], **shared: Any) -> None:
        """Receives the plan's `trials` by id, `data` by address, the ledger's address (`runs`), each trial's `threads`,
        `gpu`, `readers` and `workers`, for whom leases are taken (`claimant`), and those that `expired`, by trial."""
        self._trials: Mapping[str, Trial] = shared["trials"]
        self._data: Mapping[str, Material] = shared["data"]
        self._runs: str = shared["runs"]
        self._threads: int = shared["threads"]
        self._gpu: bool = shared["gpu"]
        self._readers: int = shared["readers"]
        self._workers: int = shared["workers"]
        self._claimant: Claimant = shared["claimant"]
        self._expired: Mapping[str, bytes] = shared["expired"]
        self._folders: dict[str, TrialFolder] = {}
        self._renewals = Renewals(lambda: self._folders.values())
        self._packs: list[list[Trial]] = []
        self._told: set[str] = set()
        self._work: Work | None = None
        self._harmed = False
        self._gauges = TrialGauges()
        self._next_config: Mapping[str, Any] | None = config

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        """Take the next pack into this process; it begins with the next step.

        Tune gives up the next trial at once, without a retry, where this returns False or raises.
        """
        self._next_config = new_config
        return True

    def step(self) -> dict[str, Any]:
        """A second or so of training, and how far each trial came.

        The last report of a harmed process says so and is not `done`: Tune would keep the process for another pack.
        The step after it raises, and Tune removes the process.
        """
        if self._next_config is not None:
            config, self._next_config = self._next_config, None
            self._begin(config)
        if self._ends_itself:
            raise HarmedProcessError("a training went wrong in this process, so no other trial is trained in it")
        reports = self._reports()
        self._told |= {report["trial"] for report in reports if report.get("done")}
        if self._work is not None and not self._work.unfinished:
            self._work = None
            self._let_go(self._packs.pop(0))
        return {"reports": reports, "done": not self._packs and not self._harmed, HARMED: self._ends_itself}

    @property
    def _ends_itself(self) -> bool:
        return self._harmed and not self._packs

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Saves where the trials stand in the ledger, when Tune asks at an interruption; Tune itself keeps nothing."""
        self.cleanup()
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: a trial finds its checkpoint in the ledger when its work begins."""

    def cleanup(self) -> None:
        """Saves where interrupted trials stand, and lets others train them."""
        if self._work is not None:
            self._work.interrupt()
        self._let_go([self._trials[trial_id] for trial_id in self._folders])

    def _begin(self, config: Mapping[str, Any]) -> None:
        self.cleanup()
        self._packs, self._work = [[self._trials[trial_id] for trial_id in config["pack"]]], None

    def _reports(self) -> list[dict[str, Any]]:
        try:
            if self._work is None and (found := self._not_ours()):
                return found
            if self._work is None:
                self._work = self._begun(self._packs[0])
            reports = self._work.advance(REPORT_SECONDS)
        except LeaseLostError as lost:
            return self._taken_over(lost)
        except WorkError:
            self._work = None
            raise
        except Exception:
            return self._failed(traceback.format_exc())
        for report in reports:
            self._gauges.show(self._trials[report["trial"]], report)
        return reports

    def _begun(self, pack: list[Trial]) -> "Work":
        """The work on a pack, in this process, or on workers that Ray Train starts."""
        from gapctl.sweep.shared_work import Asked, SharedWork
        from gapctl.sweep.work import PackWork

        data = self._data[pack[0].config.data.address]
        if self._workers == 1:
            return PackWork(
                pack,
                data,
                self._runs,
                threads=self._threads,
                gpu=self._gpu,
                readers=self._readers,
                folders=self._folders,
            )
        (trial,) = pack
        hold = self._folders[trial.id].hold
        assert hold is not None
        asked = Asked(trial, data, self._runs, self._threads, self._gpu, self._readers, hold.lease)
        return SharedWork(asked, self._workers)

    def _not_ours(self) -> list[dict[str, Any]]:
        """Takes the pack's leases; reports, and takes out of it, the trials that others hold and those with a result.

        A result is looked for once the lease is had, as another may have finished it until then. A process of this
        sweep may also have vanished between a result and its last report.
        """
        pack = self._packs[0]
        reports = [report for trial in pack if trial.id not in self._folders and (report := self._taken(trial))]
        self._packs[0] = [trial for trial in pack if trial.id in self._folders]
        if not self._packs[0]:
            self._packs.pop(0)
        return reports

    def _taken(self, trial: Trial) -> dict[str, Any] | None:
        """Nothing where the trial is ours to train, else the report that says why not."""
        from gapctl.sweep.work import finished_report

        folder = Ledger(self._runs).trial(trial.id)
        other = folder.take(self._claimant, self._expired.get(trial.id))
        if other is not None:
            return held_report(trial, other)
        self._folders[trial.id] = folder
        result = folder.result()
        if result is None:
            return None
        self._let_go([trial])
        return finished_report(result)

    def _taken_over(self, lost: LeaseLostError) -> list[dict[str, Any]]:
        """Leaves a trial to who has it now, unwritten; those packed with it go on from their checkpoints."""
        self._work = None
        left = [trial for trial in self._packs.pop(0) if trial.id not in self._told]
        self._let_go(left)
        others = [trial for trial in left if trial.id != lost.trial_id]
        self._packs = [others] if others else []
        return [self._of_another(lost)]

    def _of_another(self, lost: LeaseLostError) -> dict[str, Any]:
        """The report of a trial that was lost to another process, which trains it or has finished it."""
        from gapctl.sweep.work import finished_report

        trial = self._trials[lost.trial_id]
        self._gauges.rest(trial)
        result = Ledger(self._runs).trial(trial.id).result()
        return held_report(trial, lost.lease) if result is None else finished_report(result)

    def _let_go(self, trials: list[Trial]) -> None:
        for trial in trials:
            folder = self._folders.pop(trial.id, None)
            if folder is not None:
                folder.rest()

    def _failed(self, message: str) -> list[dict[str, Any]]:
        """A trial alone has failed; of several, each goes on alone from its checkpoint."""
        left = [trial for trial in self._packs.pop(0) if trial.id not in self._told]
        self._work, self._harmed = None, True
        for trial in left:
            self._gauges.rest(trial)
        if len(left) > 1:
            self._let_go(left)
            self._packs = [[trial] for trial in left]
            return []
        (trial,) = left
        try:
            (self._folders.pop(trial.id, None) or Ledger(self._runs).trial(trial.id)).fail(message)
        except LeaseLostError as lost:
            return [self._of_another(lost)]
        return [{"trial": trial.id, "failure": message}]


def held_report(trial: Trial, lease: Lease) -> dict[str, Any]:
    """The report of a trial that another process trains."""
    return {"trial": trial.id, "held": asdict(lease)}
