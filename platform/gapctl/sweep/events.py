"""What a running sweep tells whoever watches: the live table, the log, the tracker, the gauges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gapctl.ledger import Lease, Result
from gapctl.plan.trials import Trial


@dataclass(frozen=True)
class Report:
    """How far one trial has come; `rows` are the evaluations since its last report."""

    trial: Trial
    samples_seen: int
    samples_total: int
    samples_per_second: float
    loss: float
    rows: Sequence[Mapping[str, float]]


class Watcher(Protocol):
    """Hears of every trial in the driver process; must return quickly."""

    def started(self, trial: Trial) -> None: ...

    def progressed(self, report: Report) -> None: ...

    def held(self, trial: Trial, lease: Lease) -> None:
        """Another sweep trains it, and is so far."""

    def finished(self, trial: Trial, result: Result) -> None: ...

    def failed(self, trial: Trial, message: str) -> None: ...

    def lost(self, trial: Trial) -> None:
        """Its process or machine vanished; it is tried again."""
