"""A search's progress: a line for every point that ends, with the best so far, and one now and then."""

import time
from typing import Final

from rich.console import Console

from gapctl.ledger import Lease, Result
from gapctl.ledger.search_record import Drawn, SearchRecord
from gapctl.plan.trials import Plan, Trial
from gapctl.sweep.events import Report
from gapctl.sweep.log_lines import QUIET_SECONDS
from gapctl.sweep.progress import STARTING, reason

ENDED: Final = ("done", "stopped", "failed")


class SearchLines:
    """A `Watcher` that prints lines with the time of day; `changed` tells it how the search stands."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._labels: dict[str, str] = {}
        self._ended: set[int] = set()
        self._rates: dict[str, float] = {}
        self._first = True
        self._said_at = time.monotonic()

    def changed(self, plan: Plan, record: SearchRecord) -> None:
        """A point was drawn, or ended."""
        self._labels = {trial.id: trial.label for trial in plan.trials}
        ended = [drawn for drawn in record.drawn if drawn.state in ENDED]
        if self._first:
            self._first = False
            self._ended = {drawn.number for drawn in ended}
            self._say(STARTING)
            return
        for drawn in ended:
            if drawn.number not in self._ended:
                self._ended.add(drawn.number)
                self._rates.pop(drawn.trial, None)
                self._say(f"[{len(self._ended)}/{record.asked}] {self._labels[drawn.trial]}: {_outcome(drawn, record)}")

    def started(self, trial: Trial) -> None:
        """A trial got its process."""
        self._rates[trial.id] = 0.0

    def progressed(self, report: Report) -> None:
        """A trial told how far it is."""
        if report.trial.id in self._rates:
            self._rates[report.trial.id] = report.samples_per_second
        rate = sum(self._rates.values())
        if rate and time.monotonic() - self._said_at >= QUIET_SECONDS:
            self._say(f"{len(self._rates)} in training at {rate:,.0f} samples/s")

    def held(self, trial: Trial, lease: Lease) -> None:
        """Another sweep trains it, and is so far."""
        self._rates.pop(trial.id, None)
        self._say(f"{trial.label}: {lease.host} trains it for another sweep")

    def finished(self, trial: Trial, result: Result) -> None:
        """Told by `changed`."""

    def failed(self, trial: Trial, message: str) -> None:
        """A trial went wrong; `changed` tells that it ended."""
        self._say(f"{trial.label}: {reason(message)}")

    def lost(self, trial: Trial) -> None:
        """A trial's process vanished; Tune starts another."""
        self._say(f"{trial.label}: its process was lost; another goes on from its checkpoint")

    def _say(self, text: str) -> None:
        self._said_at = time.monotonic()
        line = f"{time.strftime('%H:%M:%S')} {text}"
        self._console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _outcome(drawn: Drawn, record: SearchRecord) -> str:
    if drawn.state == "failed":
        return "failed"
    if drawn.state == "stopped":
        return f"stopped after {drawn.samples_seen:,} samples at {drawn.value:.4g}"
    best = record.best
    return f"{drawn.value:.4g}" + (", the best so far" if best is not None and best.number == drawn.number else "")
