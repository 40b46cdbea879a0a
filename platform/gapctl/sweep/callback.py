"""Ray Tune's callbacks, turned into events about our trials."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ray.tune import Callback

from gapctl.errors import WorkError
from gapctl.ledger import Lease, Ledger
from gapctl.plan.trials import Trial
from gapctl.sweep.events import Report, Watcher
from gapctl.sweep.losses import Losses
from gapctl.sweep.worker import HARMED


class TuneEvents(Callback):
    """Forwards what Tune notices, and remembers the trials that failed and those that others hold."""

    def __init__(self, trials: Mapping[str, Trial], ledger: Ledger, watchers: Sequence[Watcher], run: str = "") -> None:
        """`run` is what the leases of these trials name."""
        self._trials, self._ledger, self._watchers, self._run = trials, ledger, watchers, run
        self._losses = Losses()
        self.finished: set[str] = set()
        self.failures: dict[str, str] = {}
        self.held: dict[str, Lease] = {}

    @property
    def untold(self) -> list[str]:
        """The trials of which nothing was heard in the end."""
        told = {*self.finished, *self.failures, *self.held}
        return [trial_id for trial_id in self._trials if trial_id not in told]

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks for its own resumption, which the ledger takes the place of."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        for trial_id in set(trial.config["pack"]) - self.finished:
            for watcher in self._watchers:
                watcher.started(self._trials[trial_id])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._losses.progressed(trial, result["reports"])
        for report in result["reports"]:
            self._take(self._trials[report["trial"]], report)
        if result.get(HARMED):
            trial.max_failures = trial.num_failures  # its process now ends itself, and nothing is left to retry

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._losses.lost(trial)
        for trial_id in set(trial.config["pack"]) - self.finished:
            for watcher in self._watchers:
                watcher.lost(self._trials[trial_id])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if trial.status != "ERROR":
            return
        message = self._losses.explained(trial)
        for mine in (self._trials[trial_id] for trial_id in trial.config["pack"]):
            if mine.id not in {*self.failures, *self.held} and not self._is_done(mine):
                self._give_up(mine, message)

    def _give_up(self, trial: Trial, message: str) -> None:
        with suppress(WorkError):  # the disk that ended the training is as full for this
            other = self._ledger.trial(trial.id).give_up(self._run, message)
            if other is not None:
                self._leave(trial, other)
                return
        self._fail(trial, message)

    def _is_done(self, trial: Trial) -> bool:
        try:
            return self._ledger.result(trial.id) is not None
        except WorkError:
            return False

    def _take(self, trial: Trial, report: Mapping[str, Any]) -> None:
        if trial.id in self.finished:
            return  # a pack that lost its process tells of its finished trials once more
        if "failure" in report:
            self._fail(trial, report["failure"])
            return
        if "held" in report:
            self._leave(trial, Lease(**report["held"]))
            return
        for watcher in self._watchers:
            watcher.progressed(_report(trial, report))
        if report["done"]:
            self._finish(trial)

    def _finish(self, trial: Trial) -> None:
        result = self._ledger.result(trial.id)
        if result is None:
            self._fail(trial, f"it is done, but not in {self._ledger.root}; expected a folder that every node sees")
            return
        self.finished.add(trial.id)
        self.failures.pop(trial.id, None)
        for watcher in self._watchers:
            watcher.finished(trial, result)

    def _leave(self, trial: Trial, lease: Lease) -> None:
        self.held[trial.id] = lease
        for watcher in self._watchers:
            watcher.held(trial, lease)

    def _fail(self, trial: Trial, message: str) -> None:
        self.failures[trial.id] = message
        for watcher in self._watchers:
            watcher.failed(trial, message)


def _report(trial: Trial, result: Mapping[str, Any]) -> Report:
    return Report(
        trial=trial,
        samples_seen=result["samples_seen"],
        samples_total=result["samples_total"],
        samples_per_second=result["samples_per_second"],
        loss=result["loss"],
        rows=result["rows"],
    )
