"""How far a sweep has come, from what its watchers hear: which trials run, how fast, and when the last one is done."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from gapctl.ledger import Lease, Result
from gapctl.plan.trials import Trial
from gapctl.sweep.events import Report

RMG: Final = "gap/rmg"
STARTING: Final = "loading the data and starting Ray"


@dataclass
class RunningTrial:
    """A trial in training, as its last report left it."""

    trial: Trial
    samples_seen: int = 0
    samples_total: int = 1
    rate: float = 0.0
    loss: float = math.nan
    rmg: float = math.nan

    @property
    def share(self) -> float:
        """How much of it is trained, 0 to 1."""
        return self.samples_seen / max(1, self.samples_total)

    @property
    def seconds_left(self) -> float:
        """At its present speed; NaN while that is unknown."""
        return (self.samples_total - self.samples_seen) / self.rate if self.rate else math.nan


class HeldTrial(NamedTuple):
    """A trial that another sweep trains."""

    trial: Trial
    lease: Lease
    share: float

    @property
    def words(self) -> str:
        """Whose it is."""
        return f"{self.lease.held_by} (another sweep)"


class Progress:
    """Keeps count of a sweep's trials; `done_before` were finished when it began."""

    def __init__(self, trials: Sequence[Trial], done_before: int) -> None:
        self._samples = {trial.id: trial.config.train.samples for trial in trials}
        self._seen: dict[str, int] = dict.fromkeys(self._samples, 0)
        self._running: dict[str, RunningTrial] = {}
        self._failed: set[str] = set()
        self._held: dict[str, HeldTrial] = {}
        self._started_at: float | None = None
        self.done, self.total = done_before, done_before + len(trials)

    @property
    def running(self) -> Mapping[str, RunningTrial]:
        """The trials in training, by id."""
        return self._running

    @property
    def elsewhere(self) -> Mapping[str, HeldTrial]:
        """The trials that other sweeps train, by id."""
        return self._held

    @property
    def failed(self) -> int:
        """How many trials went wrong."""
        return len(self._failed)

    @property
    def waiting(self) -> int:
        """How many trials wait for their turn."""
        return self.total - self.done - self.failed - len(self._running)

    @property
    def rate(self) -> float:
        """Pairs per second over all trials in training."""
        return sum(row.rate for row in self._running.values())

    def started(self, trial: Trial) -> None:
        """A trial got its process."""
        self._started_at = self._started_at or time.monotonic()
        self._failed.discard(trial.id)
        self._held.pop(trial.id, None)
        self._running[trial.id] = RunningTrial(trial, samples_total=self._samples[trial.id])

    def progressed(self, report: Report) -> None:
        """A trial told how far it is."""
        row = self._running.setdefault(report.trial.id, RunningTrial(report.trial))
        row.samples_seen, row.samples_total = report.samples_seen, report.samples_total
        row.rate = report.samples_per_second or row.rate
        row.loss = report.loss
        for evaluated in report.rows:
            row.rmg = evaluated.get(RMG, row.rmg)
        self._seen[report.trial.id] = report.samples_seen

    def held(self, trial: Trial, lease: Lease) -> HeldTrial:
        """Another sweep trains it."""
        self._running.pop(trial.id, None)
        self._held[trial.id] = HeldTrial(trial, lease, lease.samples_seen / self._samples[trial.id])
        return self._held[trial.id]

    def finished(self, trial: Trial) -> None:
        """A trial's result is in the ledger."""
        self.done += 1
        self._end(trial)

    def fail(self, trial: Trial) -> None:
        """A trial went wrong."""
        self._failed.add(trial.id)
        self._end(trial)

    def in_words(self) -> str:
        """`3 of 18 trials done, 1 failed, 2:10 left`."""
        counts = f"{self.done} of {self.total} trials done"
        if self._started_at is None:
            return f"{counts}; {STARTING}"
        failed = f", {self.failed} failed" if self._failed else ""
        held = f", {len(self._held)} trained by other sweeps" if self._held else ""
        return f"{counts}{failed}{held}, {clock(self.seconds_left())} left"

    def seconds_left(self) -> float:
        """From the speed of everything trained since the start of this run; NaN before anything is."""
        trained = sum(self._seen.values())
        if self._started_at is None or not trained:
            return math.nan
        elapsed = time.monotonic() - self._started_at
        return (sum(self._samples.values()) - trained) * elapsed / trained

    def _end(self, trial: Trial) -> None:
        self._running.pop(trial.id, None)
        self._held.pop(trial.id, None)
        self._seen[trial.id] = self._samples[trial.id]


def outcome(result: Result) -> str:
    """What is said of a trial whose result is in the ledger."""
    return f"done in {result.seconds:.0f} s, RMG {result.metrics.get(RMG, math.nan):.3f}"


def reason(message: str) -> str:
    """The line of a traceback that says what went wrong."""
    lines = message.strip().splitlines()
    return lines[-1] if lines else "it gave no reason"


def clock(seconds: float) -> str:
    """Minutes and seconds, or hours, minutes and seconds; a dash for what is not known."""
    if not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
