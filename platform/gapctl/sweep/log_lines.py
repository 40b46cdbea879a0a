"""A sweep's progress where there is no terminal: a line for every trial that ends, and one now and then."""

import time
from collections.abc import Sequence
from typing import Final

from rich.console import Console

from gapctl.ledger import Lease, Result
from gapctl.plan.trials import Trial
from gapctl.sweep.events import Report
from gapctl.sweep.progress import STARTING, Progress, outcome, reason

QUIET_SECONDS: Final = 30.0
"""The longest silence while trials report."""


class LogLines:
    """A `Watcher` that prints lines with the time of day; use it as a context manager around the sweep."""

    def __init__(self, trials: Sequence[Trial], done_before: int, console: Console) -> None:
        self._console = console
        self._progress = Progress(trials, done_before)
        self._said_at = time.monotonic()
        self._holders: dict[str, str] = {}

    def __enter__(self) -> "LogLines":
        self._say(STARTING)
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left open."""

    def started(self, trial: Trial) -> None:
        """A trial got its process."""
        first = not self._progress.running
        self._progress.started(trial)
        if first:
            self._say(f"in training: {trial.label}")

    def progressed(self, report: Report) -> None:
        """A trial told how far it is."""
        self._progress.progressed(report)
        if time.monotonic() - self._said_at >= QUIET_SECONDS:
            running, rate = len(self._progress.running), self._progress.rate
            self._say(f"{self._progress.in_words()}; {running} in training at {rate:,.0f} samples/s")

    def held(self, trial: Trial, lease: Lease) -> None:
        """Another sweep trains it; said once of each holder."""
        words = self._progress.held(trial, lease).words
        if self._holders.get(trial.id) != lease.holder:
            self._holders[trial.id] = lease.holder
            self._say(f"{trial.label}: {words}")

    def finished(self, trial: Trial, result: Result) -> None:
        """A trial's result is in the ledger."""
        self._progress.finished(trial)
        self._end(trial, outcome(result))

    def failed(self, trial: Trial, message: str) -> None:
        """A trial went wrong."""
        self._progress.fail(trial)
        self._end(trial, f"failed: {reason(message)}")

    def lost(self, trial: Trial) -> None:
        """A trial's process vanished; Tune starts another."""
        self._say(f"{trial.label}: its process was lost; another goes on from its checkpoint")

    def _end(self, trial: Trial, text: str) -> None:
        self._say(f"[{self._progress.done + self._progress.failed}/{self._progress.total}] {trial.label}: {text}")

    def _say(self, text: str) -> None:
        self._said_at = time.monotonic()
        line = f"{time.strftime('%H:%M:%S')} {text}"
        self._console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
