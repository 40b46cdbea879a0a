"""What runs inside a Ray process: one trial after another, each continued from the ledger."""

import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray import tune

from gapctl.errors import WorkError
from gapctl.ledger import Ledger
from gapctl.plan.trials import Trial
from gapctl.sweep.gauges import TrialGauges

if TYPE_CHECKING:
    from gapctl.data.feed import TrialData
    from gapctl.sweep.work import TrialWork

REPORT_SECONDS = 1.0


class TrialWorker(tune.Trainable):
    """Advances the trial that Tune hands it; keeps its process for the next one.

    The ledger, not Tune, keeps checkpoints: a trial that Tune starts again finds its own.
    A training that raises is wrong and is reported as failed at once; a process or machine that vanishes, or a
    ledger that cannot be read or written, is an accident: Tune notices it, and tries again.
    """

    def setup(self, config: dict[str, Any], **shared: Any) -> None:
        """Receives the plan's `trials` by id, `data` by source, the ledger's address (`runs`), `threads` and `gpu`."""
        self._trials: Mapping[str, Trial] = shared["trials"]
        self._data: Mapping[str, TrialData] = shared["data"]
        self._runs: str = shared["runs"]
        self._threads: int = shared["threads"]
        self._gpu: bool = shared["gpu"]
        self._work: TrialWork | None = None
        self._harmed = False
        self._gauges = TrialGauges()
        self._begin(config)

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        """Takes the next trial into this process, unless a training went wrong in it, which may have harmed it."""
        if self._harmed:
            return False
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """A second or so of training, and how far it came."""
        from gapctl.sweep.work import TrialWork, finished_report

        try:
            if self._work is None:
                # A process may vanish between the result and its last report; then Tune hands the trial out again.
                if (result := Ledger(self._runs).result(self._trial.id)) is not None:
                    return finished_report(result)
                data = self._data[self._trial.config.data.source]
                self._work = TrialWork(self._trial, data, self._runs, threads=self._threads, gpu=self._gpu)
            report = self._work.advance(REPORT_SECONDS)
            self._gauges.show(self._trial, report)
            return report
        except WorkError:
            self._work = None
            raise
        except Exception:
            return self._failed(traceback.format_exc())

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Saves where the trial stands in the ledger, when Tune asks at an interruption; Tune itself keeps nothing."""
        self.cleanup()
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: a trial finds its checkpoint in the ledger when its work begins."""

    def cleanup(self) -> None:
        """Saves where an interrupted trial stands."""
        if self._work is not None:
            self._work.interrupt()

    def _begin(self, config: Mapping[str, Any]) -> None:
        self.cleanup()
        self._trial, self._work = self._trials[config["trial"]], None

    def _failed(self, message: str) -> dict[str, Any]:
        self._work, self._harmed = None, True
        Ledger(self._runs).trial(self._trial.id).fail(message)
        return {"trial": self._trial.id, "failure": message, "done": True}
