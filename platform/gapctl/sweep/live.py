"""The live table of a sweep on a terminal: progress, speed, loss, RMG and time left of every trial in training."""

import math
from collections.abc import Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gapctl.ledger import Lease, Result
from gapctl.plan.trials import Trial
from gapctl.sweep.events import Report
from gapctl.sweep.progress import HeldTrial, Progress, RunningTrial, clock, outcome, reason

RECENT: Final = 5
"""Ended trials that stay in sight."""
OTHER_LINES: Final = 4
"""The table's head, the line on further trials, the summary, and the cursor's."""
REFRESH_PER_SECOND: Final = 4
WIDE: Final = 120
NARROW_BAR: Final = 12
WIDE_BAR: Final = 40


class LiveTable:
    """A `Watcher` that draws; use it as a context manager around the sweep."""

    def __init__(self, trials: Sequence[Trial], done_before: int, console: Console) -> None:
        self._console = console
        self._progress = Progress(trials, done_before)
        self._ended: list[str] = []
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=REFRESH_PER_SECOND)

    def __enter__(self) -> "LiveTable":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def started(self, trial: Trial) -> None:
        """A trial got its process."""
        self._progress.started(trial)

    def progressed(self, report: Report) -> None:
        """A trial told how far it is."""
        self._progress.progressed(report)

    def held(self, trial: Trial, lease: Lease) -> None:
        """Another sweep trains it."""
        self._progress.held(trial, lease)

    def finished(self, trial: Trial, result: Result) -> None:
        """A trial's result is in the ledger."""
        self._progress.finished(trial)
        self._ended.append(f"{trial.label}: {outcome(result)}")

    def failed(self, trial: Trial, message: str) -> None:
        """A trial went wrong."""
        self._progress.fail(trial)
        self._ended.append(f"{trial.label}: failed: {reason(message)}")

    def lost(self, trial: Trial) -> None:
        """A trial's process vanished; Tune starts another."""
        self._ended.append(f"{trial.label}: its process was lost; another goes on from its checkpoint")

    def _draw(self) -> RenderableType:
        recent = self._ended[-RECENT:]
        lines = [Text(text, style="dim", no_wrap=True, overflow="ellipsis") for text in recent]
        room = max(1, self._console.height - len(recent) - OTHER_LINES)
        rows: list[RunningTrial | HeldTrial] = [*self._progress.running.values(), *self._progress.elsewhere.values()]
        more = [Text(f"and {len(rows) - room} more in training")] if len(rows) > room else []
        return Group(*lines, self._table(rows[:room]), *more, Text(self._progress.in_words()))

    def _table(self, rows: Sequence[RunningTrial | HeldTrial]) -> Table:
        table = Table(box=None, pad_edge=False)
        table.add_column("trial", overflow="fold")
        for name in ("", "", "samples/s", "loss", "RMG", "left"):
            table.add_column(name, no_wrap=True, justify="right")
        width = WIDE_BAR if self._console.width >= WIDE else NARROW_BAR
        for row in rows:
            bar = ProgressBar(total=1.0, completed=row.share, width=width)
            if isinstance(row, HeldTrial):
                table.add_row(Text(f"{row.trial.label} {row.words}", style="dim"), bar, f"{row.share:.0%}")
            else:
                table.add_row(Text(row.trial.label), bar, f"{row.share:.0%}", *_figures(row))
        return table


def _figures(row: RunningTrial) -> list[str]:
    return [_number(row.rate, ",.0f"), _number(row.loss, ".3f"), _number(row.rmg, ".3f"), clock(row.seconds_left)]


def _number(value: float, form: str) -> str:
    return format(value, form) if value and math.isfinite(value) else "-"
