"""Show the progress of a sweep: the `Watcher` protocol and its displays.

The driver process tells each watcher what happens to every trial. `SweepProgress` counts trials; the live table
(`LiveTable`), the log (`ProgressLog`) and the gauges are built on it. `SearchLog` is the log of a search.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, Required, TypedDict

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gapctl.ledger import Lease, Result
from gapctl.ledger.search_record import PointRecord, SearchRecord
from gapctl.plan.plan import Plan, Trial


@dataclass(frozen=True)
class TrialReport:
    """How far one trial has come; `rows` are the evaluations since its last report."""

    trial: Trial
    samples_seen: int
    samples_total: int
    samples_per_second: float
    loss: float
    rows: Sequence[Mapping[str, float]]


class WorkerReport(TypedDict, total=False):
    """A worker's report on one trial, as it travels through Tune.

    It has either a trial's progress (with the samples at its checkpoint in `saved`), or the traceback of its `failure`,
    or the lease by which another process has `held` it, or that workers were `lost` and others go on.
    """

    trial: Required[str]
    samples_seen: int
    samples_total: int
    samples_per_second: float
    loss: float
    rows: Sequence[Mapping[str, float]]
    done: bool
    saved: int
    failure: str
    held: dict[str, Any]
    lost: bool


class Watcher(Protocol):
    """Is told in the driver process what happens to every trial. Each method must return quickly."""

    def note_start(self, trial: Trial) -> None:
        """Note that a process begins or resumes the trial."""
        return

    def note_progress(self, report: TrialReport) -> None:
        """Note how far the trial is."""
        return

    def note_lease(self, trial: Trial, lease: Lease) -> None:
        """Note that another sweep trains the trial; the lease says how far it is."""
        return

    def note_result(self, trial: Trial, result: Result) -> None:
        """Note that the trial's result is in the ledger."""
        return

    def note_failure(self, trial: Trial, message: str) -> None:
        """Note that the trial failed, with a traceback or a reason."""
        return

    def note_worker_loss(self, trial: Trial) -> None:
        """Note that the trial's process or machine vanished; it is retried."""
        return


RMG: Final = "gap/rmg"
STARTING: Final = "loading the data and starting Ray"


@dataclass
class RunningTrial:
    """A trial in training, as of its last report."""

    trial: Trial
    samples_seen: int = 0
    samples_total: int = 1
    rate: float = 0.0
    loss: float = math.nan
    rmg: float = math.nan

    @property
    def share(self) -> float:
        """The trained share of its samples, 0 to 1."""
        return self.samples_seen / max(1, self.samples_total)

    @property
    def remaining_seconds(self) -> float:
        """Seconds left at its present rate; NaN while that is unknown."""
        return (self.samples_total - self.samples_seen) / self.rate if self.rate else math.nan


class RemoteTrial(NamedTuple):
    """A trial that another sweep trains."""

    trial: Trial
    lease: Lease
    share: float

    @property
    def words(self) -> str:
        """A phrase that names the holder."""
        return f"{self.lease.held_by} (another sweep)"


class SweepProgress(Watcher):
    """Count a sweep's trials by state; `done_before` were finished when it began.

    `running` and `elsewhere` are the trials in training here and in other sweeps, by id.
    """

    def __init__(self, trials: Sequence[Trial], done_before: int) -> None:
        self._samples = {trial.id: trial.config.train.samples for trial in trials}
        self._seen: dict[str, int] = dict.fromkeys(self._samples, 0)
        self._failed: set[str] = set()
        self._started_at: float | None = None
        self.running: dict[str, RunningTrial] = {}
        self.elsewhere: dict[str, RemoteTrial] = {}
        self.done, self.total = done_before, done_before + len(trials)

    @property
    def failed(self) -> int:
        """The number of failed trials."""
        return len(self._failed)

    @property
    def waiting(self) -> int:
        """The number of trials neither done, failed nor running."""
        return self.total - self.done - self.failed - len(self.running)

    @property
    def rate(self) -> float:
        """Samples per second over all trials in training."""
        return sum(row.rate for row in self.running.values())

    def note_start(self, trial: Trial) -> None:
        """Count a trial as running."""
        self._started_at = self._started_at or time.monotonic()
        self._failed.discard(trial.id)
        self.elsewhere.pop(trial.id, None)
        self.running[trial.id] = RunningTrial(trial, samples_total=self._samples[trial.id])

    def note_progress(self, report: TrialReport) -> None:
        """Update a running trial from its report."""
        row = self.running.setdefault(report.trial.id, RunningTrial(report.trial))
        row.samples_seen, row.samples_total = report.samples_seen, report.samples_total
        row.rate = report.samples_per_second or row.rate
        row.loss = report.loss
        for evaluated in report.rows:
            row.rmg = evaluated.get(RMG, row.rmg)
        self._seen[report.trial.id] = report.samples_seen

    def note_lease(self, trial: Trial, lease: Lease) -> None:
        """Count a trial as trained elsewhere."""
        self.running.pop(trial.id, None)
        self.elsewhere[trial.id] = RemoteTrial(trial, lease, lease.samples_seen / self._samples[trial.id])

    def note_result(self, trial: Trial, result: Result) -> None:
        """Count a trial as done."""
        self.done += 1
        self._end_trial(trial)

    def note_failure(self, trial: Trial, message: str) -> None:
        """Count a trial as failed."""
        self._failed.add(trial.id)
        self._end_trial(trial)

    def describe_progress(self) -> str:
        """Return a line such as `3 of 18 trials done, 1 failed, 2:10 left`."""
        counts = f"{self.done} of {self.total} trials done"
        if self._started_at is None:
            return f"{counts}; {STARTING}"
        failed = f", {self.failed} failed" if self._failed else ""
        held = f", {len(self.elsewhere)} trained by other sweeps" if self.elsewhere else ""
        return f"{counts}{failed}{held}, {format_clock(self.remaining_seconds())} left"

    def remaining_seconds(self) -> float:
        """Return the seconds left at the mean rate of this run; NaN before anything is trained."""
        trained = sum(self._seen.values())
        if self._started_at is None or not trained:
            return math.nan
        elapsed = time.monotonic() - self._started_at
        return (sum(self._samples.values()) - trained) * elapsed / trained

    def _end_trial(self, trial: Trial) -> None:
        self.running.pop(trial.id, None)
        self.elsewhere.pop(trial.id, None)
        self._seen[trial.id] = self._samples[trial.id]


def describe_outcome(result: Result) -> str:
    """Return the line for a trial whose result is in the ledger."""
    return f"done in {result.seconds:.0f} s, RMG {result.metrics.get(RMG, math.nan):.3f}"


def describe_loss(trial: Trial) -> str:
    """Return the line for a trial whose process vanished."""
    return f"{trial.label}: its process was lost; another goes on from its checkpoint"


def extract_reason(message: str) -> str:
    """Return the last line of a traceback, which names the error."""
    lines = message.strip().splitlines()
    return lines[-1] if lines else "it gave no reason"


def format_clock(seconds: float) -> str:
    """Return `m:ss` or `h:mm:ss`, or a dash if the time is unknown."""
    if not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


RECENT_TRIALS: Final = 5
"""Ended trials that stay on screen."""
OTHER_LINES: Final = 4
"""Lines besides trials: the table's head, the line on further trials, the summary, and the cursor's."""
REFRESH_PER_SECOND: Final = 4
WIDE_CONSOLE: Final = 120
NARROW_BAR: Final = 12
WIDE_BAR: Final = 40


class LiveTable(SweepProgress):
    """A `Watcher` that draws a live table, as a context manager around the sweep."""

    def __init__(self, trials: Sequence[Trial], done_before: int, console: Console) -> None:
        super().__init__(trials, done_before)
        self._console = console
        self._ended: list[str] = []
        self._live = Live(get_renderable=self._draw_screen, console=console, refresh_per_second=REFRESH_PER_SECOND)

    def __enter__(self) -> "LiveTable":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def note_result(self, trial: Trial, result: Result) -> None:
        """Show a trial's outcome."""
        super().note_result(trial, result)
        self._ended.append(f"{trial.label}: {describe_outcome(result)}")

    def note_failure(self, trial: Trial, message: str) -> None:
        """Show a trial's error."""
        super().note_failure(trial, message)
        self._ended.append(f"{trial.label}: failed: {extract_reason(message)}")

    def note_worker_loss(self, trial: Trial) -> None:
        """Show that a trial's process was lost."""
        self._ended.append(describe_loss(trial))

    def _draw_screen(self) -> RenderableType:
        recent = self._ended[-RECENT_TRIALS:]
        lines = [Text(text, style="dim", no_wrap=True, overflow="ellipsis") for text in recent]
        room = max(1, self._console.height - len(recent) - OTHER_LINES)
        rows: list[RunningTrial | RemoteTrial] = [*self.running.values(), *self.elsewhere.values()]
        more = [Text(f"and {len(rows) - room} more in training")] if len(rows) > room else []
        return Group(*lines, self._build_progress_table(rows[:room]), *more, Text(self.describe_progress()))

    def _build_progress_table(self, rows: Sequence[RunningTrial | RemoteTrial]) -> Table:
        table = Table(box=None, pad_edge=False)
        table.add_column("trial", overflow="fold")
        for name in ("", "", "samples/s", "loss", "RMG", "left"):
            table.add_column(name, no_wrap=True, justify="right")
        width = WIDE_BAR if self._console.width >= WIDE_CONSOLE else NARROW_BAR
        for row in rows:
            bar = ProgressBar(total=1.0, completed=row.share, width=width)
            if isinstance(row, RemoteTrial):
                table.add_row(Text(f"{row.trial.label} {row.words}", style="dim"), bar, f"{row.share:.0%}")
            else:
                formats = (row.rate, ",.0f"), (row.loss, ".3f"), (row.rmg, ".3f")
                numbers = [_format_number(value, form) for value, form in formats]
                left = format_clock(row.remaining_seconds)
                table.add_row(Text(row.trial.label), bar, f"{row.share:.0%}", *numbers, left)
        return table


def _format_number(value: float, form: str) -> str:
    return format(value, form) if value and math.isfinite(value) else "-"


SILENCE_SECONDS: Final = 30.0
"""Longest time without a line while trials report."""


class TimedLines:
    """Print lines with the time of day to a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed_at = time.monotonic()

    def print_line(self, text: str) -> None:
        """Print a line."""
        self._printed_at = time.monotonic()
        line = f"{time.strftime('%H:%M:%S')} {text}"
        self._console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)

    @property
    def overdue(self) -> bool:
        """Whether nothing was printed for `SILENCE_SECONDS`."""
        return time.monotonic() - self._printed_at >= SILENCE_SECONDS


class ProgressLog(SweepProgress):
    """A `Watcher` that prints lines with the time of day, as a context manager around the sweep."""

    def __init__(self, trials: Sequence[Trial], done_before: int, console: Console) -> None:
        super().__init__(trials, done_before)
        self._lines = TimedLines(console)
        self._holders: dict[str, str] = {}

    def __enter__(self) -> "ProgressLog":
        self._lines.print_line(STARTING)
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: no resource is open."""

    def note_start(self, trial: Trial) -> None:
        """Print the first trial in training."""
        first = not self.running
        super().note_start(trial)
        if first:
            self._lines.print_line(f"in training: {trial.label}")

    def note_progress(self, report: TrialReport) -> None:
        """Print a summary after a long silence."""
        super().note_progress(report)
        if self._lines.overdue:
            summary = f"{self.describe_progress()}; {len(self.running)} in training at {self.rate:,.0f} samples/s"
            self._lines.print_line(summary)

    def note_lease(self, trial: Trial, lease: Lease) -> None:
        """Print that another sweep trains the trial, once per holder."""
        super().note_lease(trial, lease)
        if self._holders.get(trial.id) != lease.holder:
            self._holders[trial.id] = lease.holder
            self._lines.print_line(f"{trial.label}: {self.elsewhere[trial.id].words}")

    def note_result(self, trial: Trial, result: Result) -> None:
        """Print a trial's outcome."""
        super().note_result(trial, result)
        self._print_end(trial, describe_outcome(result))

    def note_failure(self, trial: Trial, message: str) -> None:
        """Print a trial's error."""
        super().note_failure(trial, message)
        self._print_end(trial, f"failed: {extract_reason(message)}")

    def note_worker_loss(self, trial: Trial) -> None:
        """Print that a trial's process was lost."""
        self._lines.print_line(describe_loss(trial))

    def _print_end(self, trial: Trial, text: str) -> None:
        self._lines.print_line(f"[{self.done + self.failed}/{self.total}] {trial.label}: {text}")


END_STATES: Final = ("done", "stopped", "failed")


class SearchLog(Watcher):
    """A `Watcher` of a search that prints lines with the time of day; `note_change` passes it the search's record."""

    def __init__(self, console: Console) -> None:
        self._lines = TimedLines(console)
        self._ended: set[int] | None = None
        self._rates: dict[str, float] = {}
        self._holders: dict[str, str] = {}

    def note_change(self, plan: Plan, record: SearchRecord) -> None:
        """Print each point that has ended since the last call."""
        ended = [drawn for drawn in record.drawn if drawn.state in END_STATES]
        if self._ended is None:
            self._ended = {drawn.number for drawn in ended}
            self._lines.print_line(STARTING)
            return
        labels = {trial.id: trial.label for trial in plan.trials}
        for drawn in ended:
            if drawn.number not in self._ended:
                self._ended.add(drawn.number)
                self._rates.pop(drawn.trial, None)
                place = f"[{len(self._ended)}/{record.asked}]"
                self._lines.print_line(f"{place} {labels[drawn.trial]}: {_describe_point(drawn, record)}")

    def note_start(self, trial: Trial) -> None:
        """Count a trial as running."""
        self._rates[trial.id] = 0.0

    def note_progress(self, report: TrialReport) -> None:
        """Print the total rate after a long silence."""
        if report.trial.id in self._rates:
            self._rates[report.trial.id] = report.samples_per_second
        rate = sum(self._rates.values())
        if rate and self._lines.overdue:
            self._lines.print_line(f"{len(self._rates)} in training at {rate:,.0f} samples/s")

    def note_lease(self, trial: Trial, lease: Lease) -> None:
        """Print that another sweep trains the trial, once per holder."""
        self._rates.pop(trial.id, None)
        if self._holders.get(trial.id) != lease.holder:
            self._holders[trial.id] = lease.holder
            self._lines.print_line(f"{trial.label}: {lease.host} trains it for another sweep")

    def note_failure(self, trial: Trial, message: str) -> None:
        """Print a trial's error; `note_change` prints that its point ended."""
        self._lines.print_line(f"{trial.label}: {extract_reason(message)}")

    def note_worker_loss(self, trial: Trial) -> None:
        """Print that a trial's process was lost."""
        self._lines.print_line(describe_loss(trial))


def _describe_point(drawn: PointRecord, record: SearchRecord) -> str:
    if drawn.state == "failed":
        return "failed"
    if drawn.state == "stopped":
        return f"stopped after {drawn.samples_seen:,} samples at {drawn.value:.4g}"
    best = record.best
    return f"{drawn.value:.4g}" + (", the best so far" if best is not None and best.number == drawn.number else "")
