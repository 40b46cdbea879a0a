"""The live table of a sweep: progress, speed, loss, RMG and time left; plain lines where there is no terminal."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gapctl.ledger import Result
from gapctl.plan.trials import Trial
from gapctl.sweep.events import Report

RMG = "gap/rmg"
RECENT = 5
REFRESH_PER_SECOND = 4


@dataclass
class _Running:
    trial: Trial
    samples_seen: int = 0
    samples_total: int = 1
    rate: float = 0.0
    loss: float = math.nan
    rmg: float = math.nan

    @property
    def share(self) -> float:
        return self.samples_seen / self.samples_total

    @property
    def seconds_left(self) -> float:
        return (self.samples_total - self.samples_seen) / self.rate if self.rate else math.nan


@dataclass(frozen=True)
class _Ended:
    trial: Trial
    text: str


class LiveTable:
    """A `Watcher` that draws; use it as a context manager around the sweep."""

    def __init__(self, trials: Sequence[Trial], done_before: int, console: Console) -> None:
        self._console = console
        self._samples = {trial.id: trial.config.train.samples for trial in trials}
        self._seen: dict[str, int] = dict.fromkeys(self._samples, 0)
        self._done_before, self._total = done_before, done_before + len(trials)
        self._running: dict[str, _Running] = {}
        self._ended: list[_Ended] = []
        self._started_at: float | None = None
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=REFRESH_PER_SECOND)

    def __enter__(self) -> "LiveTable":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def started(self, trial: Trial) -> None:
        """A trial got its process."""
        self._started_at = self._started_at or time.monotonic()
        self._running[trial.id] = _Running(trial, samples_total=self._samples[trial.id])

    def progressed(self, report: Report) -> None:
        """A trial told how far it is."""
        row = self._running.setdefault(report.trial.id, _Running(report.trial))
        row.samples_seen, row.samples_total = report.samples_seen, report.samples_total
        row.rate = report.samples_per_second or row.rate
        row.loss = report.loss
        for evaluated in report.rows:
            row.rmg = evaluated.get(RMG, row.rmg)
        self._seen[report.trial.id] = report.samples_seen

    def finished(self, trial: Trial, result: Result) -> None:
        """A trial's result is in the ledger."""
        rmg = result.metrics.get(RMG, math.nan)
        self._end(trial, f"done in {result.seconds:.0f} s, RMG {rmg:.3f}")

    def failed(self, trial: Trial, message: str) -> None:
        """A trial went wrong."""
        self._end(trial, f"failed: {message.strip().splitlines()[-1]}")

    def _end(self, trial: Trial, text: str) -> None:
        self._running.pop(trial.id, None)
        self._seen[trial.id] = self._samples[trial.id]
        self._ended.append(_Ended(trial, text))
        if not self._console.is_terminal:
            count = self._done_before + len(self._ended)
            self._console.print(f"[{count}/{self._total}] {trial.label}: {text}", markup=False, highlight=False)

    def _draw(self) -> RenderableType:
        lines = [Text(f"{ended.trial.label}: {ended.text}", style="dim") for ended in self._ended[-RECENT:]]
        return Group(*lines, self._table(), Text(self._summary()))

    def _table(self) -> Table:
        table = Table("trial", "", "", "samples/s", "loss", "RMG", "left", box=None, pad_edge=False)
        for row in self._running.values():
            bar = ProgressBar(total=1.0, completed=row.share, width=12)
            table.add_row(
                row.trial.label,
                bar,
                f"{row.share:4.0%}",
                _number(row.rate, ",.0f"),
                _number(row.loss, ".3f"),
                _number(row.rmg, ".3f"),
                _clock(row.seconds_left),
            )
        return table

    def _summary(self) -> str:
        done = self._done_before + len(self._ended)
        return f"{done} of {self._total} trials done, {_clock(self._seconds_left())} left"

    def _seconds_left(self) -> float:
        """From the speed of everything trained since the start of this run."""
        trained = sum(self._seen.values())
        if self._started_at is None or not trained:
            return math.nan
        elapsed = time.monotonic() - self._started_at
        return (sum(self._samples.values()) - trained) * elapsed / trained


def _number(value: float, form: str) -> str:
    return format(value, form) if value and math.isfinite(value) else "-"


def _clock(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
