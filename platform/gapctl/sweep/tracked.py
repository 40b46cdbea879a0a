"""What a running sweep tells, passed on to the tracker."""

from typing import Protocol

from gapctl.ledger import Lease, Result
from gapctl.plan.trials import Trial
from gapctl.sweep.events import Report


class Marks(Protocol):
    """A tracker: hears that a trial changed, and reads from the ledger what changed."""

    def started(self, trial: Trial) -> None: ...

    def progressed(self, trial: Trial) -> None: ...

    def held(self, trial: Trial) -> None: ...

    def finished(self, trial: Trial) -> None: ...

    def failed(self, trial: Trial) -> None: ...


class Tracked:
    """A `Watcher` that marks trials for a tracker."""

    def __init__(self, tracker: Marks) -> None:
        self._tracker = tracker

    def started(self, trial: Trial) -> None:
        """A trial got its process."""
        self._tracker.started(trial)

    def progressed(self, report: Report) -> None:
        """A trial was evaluated; reports without an evaluation bring nothing to show."""
        if report.rows:
            self._tracker.progressed(report.trial)

    def held(self, trial: Trial, lease: Lease) -> None:
        """Another sweep trains it."""
        self._tracker.held(trial)

    def finished(self, trial: Trial, result: Result) -> None:
        """A trial's result is in the ledger."""
        self._tracker.finished(trial)

    def failed(self, trial: Trial, message: str) -> None:
        """A trial went wrong."""
        self._tracker.failed(trial)

    def lost(self, trial: Trial) -> None:
        """Nothing to show: the trial goes on as the same run."""
