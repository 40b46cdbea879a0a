"""What runs inside a Ray process: one pack of trials after another, each trial continued from the ledger."""

import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray import tune

from gapctl.errors import WorkError
from gapctl.ledger import Ledger
from gapctl.plan.trials import Trial
from gapctl.sweep.gauges import TrialGauges

if TYPE_CHECKING:
    from gapctl.data.load import Material
    from gapctl.sweep.work import Work

REPORT_SECONDS = 1.0


class TrialWorker(tune.Trainable):
    """Advances the pack of trials that Tune hands it (`pack`, their ids); keeps its process for the next one.

    The ledger, not Tune, keeps checkpoints: a trial that Tune starts again finds its own.
    A training that raises is wrong and is reported as failed at once, after the trials that were packed with it have
    been tried alone; a process or machine that vanishes, or a ledger that cannot be read or written, is an accident:
    Tune notices it, and tries again.
    """

    def setup(self, config: dict[str, Any], **shared: Any) -> None:
        """Receives the plan's `trials` by id, `data` by address, the ledger's address (`runs`), and each trial's
        `threads`, `gpu`, `readers` and `workers`."""
        self._trials: Mapping[str, Trial] = shared["trials"]
        self._data: Mapping[str, Material] = shared["data"]
        self._runs: str = shared["runs"]
        self._threads: int = shared["threads"]
        self._gpu: bool = shared["gpu"]
        self._readers: int = shared["readers"]
        self._workers: int = shared["workers"]
        self._packs: list[list[Trial]] = []
        self._told: set[str] = set()
        self._work: Work | None = None
        self._harmed = False
        self._gauges = TrialGauges()
        self._begin(config)

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        """Takes the next pack into this process, unless a training went wrong in it, which may have harmed it."""
        if self._harmed:
            return False
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """A second or so of training, and how far each trial came."""
        reports = self._reports()
        self._told |= {report["trial"] for report in reports if report.get("done")}
        if self._work is not None and not self._work.unfinished:
            self._work = None
            self._packs.pop(0)
        return {"reports": reports, "done": not self._packs}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Saves where the trials stand in the ledger, when Tune asks at an interruption; Tune itself keeps nothing."""
        self.cleanup()
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: a trial finds its checkpoint in the ledger when its work begins."""

    def cleanup(self) -> None:
        """Saves where interrupted trials stand."""
        if self._work is not None:
            self._work.interrupt()

    def _begin(self, config: Mapping[str, Any]) -> None:
        self.cleanup()
        self._packs, self._work = [[self._trials[trial_id] for trial_id in config["pack"]]], None

    def _reports(self) -> list[dict[str, Any]]:
        try:
            if self._work is None and (found := self._finished_before()):
                return found
            if self._work is None:
                self._work = self._begun(self._packs[0])
            reports = self._work.advance(REPORT_SECONDS)
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
            return PackWork(pack, data, self._runs, threads=self._threads, gpu=self._gpu, readers=self._readers)
        (trial,) = pack
        asked = Asked(trial, data, self._runs, self._threads, self._gpu, self._readers)
        return SharedWork(asked, self._workers)

    def _finished_before(self) -> list[dict[str, Any]]:
        """Takes trials with a result out of the pack: a process may vanish between a result and its last report."""
        from gapctl.sweep.work import finished_report

        ledger, pack = Ledger(self._runs), self._packs[0]
        results = [result for trial in pack if (result := ledger.result(trial.id)) is not None]
        done = {result.trial for result in results}
        self._packs[0] = [trial for trial in pack if trial.id not in done]
        if not self._packs[0]:
            self._packs.pop(0)
        return [finished_report(result) for result in results]

    def _failed(self, message: str) -> list[dict[str, Any]]:
        """A trial alone has failed; of several, each goes on alone from its checkpoint."""
        left = [trial for trial in self._packs.pop(0) if trial.id not in self._told]
        self._work, self._harmed = None, True
        for trial in left:
            self._gauges.rest(trial)
        if len(left) > 1:
            for trial in left:
                Ledger(self._runs).trial(trial.id).rest()
            self._packs = [[trial] for trial in left]
            return []
        (trial,) = left
        Ledger(self._runs).trial(trial.id).fail(message)
        return [{"trial": trial.id, "failure": message}]
