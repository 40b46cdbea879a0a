"""Show the progress of a sweep: the `Watcher` protocol and its displays.

The driver process tells each watcher what happens to every trial. `SweepProgress` counts trials for the live table
(`LiveTable`), the log (`ProgressLog`) and the gauges. `SearchLog` is the log of a search, and `TrackerWatcher` passes
changes on to MLflow's tracker.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

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


class Watcher(Protocol):
    """Is told in the driver process what happens to every trial. Each method must return quickly."""

    def note_start(self, trial: Trial) -> None: ...

    def note_progress(self, report: TrialReport) -> None: ...

    def note_lease(self, trial: Trial, lease: Lease) -> None:
        """Another sweep trains the trial; the lease says how far it is."""

    def note_result(self, trial: Trial, result: Result) -> None: ...

    def note_failure(self, trial: Trial, message: str) -> None: ...

    def note_worker_loss(self, trial: Trial) -> None:
        """The trial's process or machine vanished; it is retried."""


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


class SweepProgress:
    """Count a sweep's trials by state; `done_before` were finished when it began."""

    def __init__(self, trials: Sequence[Trial], done_before: int) -> None:
        self._samples = {trial.id: trial.config.train.samples for trial in trials}
        self._seen: dict[str, int] = dict.fromkeys(self._samples, 0)
        self._running: dict[str, RunningTrial] = {}
        self._failed: set[str] = set()
        self._remote: dict[str, RemoteTrial] = {}
        self._started_at: float | None = None
        self.done, self.total = done_before, done_before + len(trials)

    @property
    def running(self) -> Mapping[str, RunningTrial]:
        """The trials in training, by id."""
        return self._running

    @property
    def elsewhere(self) -> Mapping[str, RemoteTrial]:
        """The trials that other sweeps train, by id."""
        return self._remote

    @property
    def failed(self) -> int:
        """The number of failed trials."""
        return len(self._failed)

    @property
    def waiting(self) -> int:
        """The number of trials neither done, failed nor running."""
        return self.total - self.done - self.failed - len(self._running)

    @property
    def rate(self) -> float:
        """Samples per second over all trials in training."""
        return sum(row.rate for row in self._running.values())

    def note_start(self, trial: Trial) -> None:
        """Count a trial as running."""
        self._started_at = self._started_at or time.monotonic()
        self._failed.discard(trial.id)
        self._remote.pop(trial.id, None)
        self._running[trial.id] = RunningTrial(trial, samples_total=self._samples[trial.id])

    def note_progress(self, report: TrialReport) -> None:
        """Update a running trial from its report."""
        row = self._running.setdefault(report.trial.id, RunningTrial(report.trial))
        row.samples_seen, row.samples_total = report.samples_seen, report.samples_total
        row.rate = report.samples_per_second or row.rate
        row.loss = report.loss
        for evaluated in report.rows:
            row.rmg = evaluated.get(RMG, row.rmg)
        self._seen[report.trial.id] = report.samples_seen

    def note_lease(self, trial: Trial, lease: Lease) -> RemoteTrial:
        """Count a trial as trained elsewhere and return it."""
        self._running.pop(trial.id, None)
        self._remote[trial.id] = RemoteTrial(trial, lease, lease.samples_seen / self._samples[trial.id])
        return self._remote[trial.id]

    def note_result(self, trial: Trial) -> None:
        """Count a trial as done."""
        self.done += 1
        self._end_trial(trial)

    def note_failure(self, trial: Trial) -> None:
        """Count a trial as failed."""
        self._failed.add(trial.id)
        self._end_trial(trial)

    def describe_progress(self) -> str:
        """Return a line such as `3 of 18 trials done, 1 failed, 2:10 left`."""
        counts = f"{self.done} of {self.total} trials done"
        if self._started_at is None:
            return f"{counts}; {STARTING}"
        failed = f", {self.failed} failed" if self._failed else ""
        held = f", {len(self._remote)} trained by other sweeps" if self._remote else ""
        return f"{counts}{failed}{held}, {format_clock(self.remaining_seconds())} left"

    def remaining_seconds(self) -> float:
        """Return the seconds left at the mean rate of this run; NaN before anything is trained."""
        trained = sum(self._seen.values())
        if self._started_at is None or not trained:
            return math.nan
        elapsed = time.monotonic() - self._started_at
        return (sum(self._samples.values()) - trained) * elapsed / trained

    def _end_trial(self, trial: Trial) -> None:
        self._running.pop(trial.id, None)
        self._remote.pop(trial.id, None)
        self._seen[trial.id] = self._samples[trial.id]


def describe_outcome(result: Result) -> str:
    """Return the line for a trial whose result is in the ledger."""
    return f"done in {result.seconds:.0f} s, RMG {result.metrics.get(RMG, math.nan):.3f}"


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


class LiveTable:
    """A `Watcher` that draws a live table, as a context manager around the sweep."""

    def __init__(self, trials: Sequence[Trial], done_before: int, console: Console) -> None:
        self._console = console
        self._progress = SweepProgress(trials, done_before)
        self._ended: list[str] = []
        self._live = Live(get_renderable=self._draw_screen, console=console, refresh_per_second=REFRESH_PER_SECOND)

    def __enter__(self) -> "LiveTable":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def note_start(self, trial: Trial) -> None:
        """Show a trial as running."""
        self._progress.note_start(trial)

    def note_progress(self, report: TrialReport) -> None:
        """Update a running trial's row."""
        self._progress.note_progress(report)

    def note_lease(self, trial: Trial, lease: Lease) -> None:
        """Show a trial that another sweep trains."""
        self._progress.note_lease(trial, lease)

    def note_result(self, trial: Trial, result: Result) -> None:
        """Show a trial's outcome."""
        self._progress.note_result(trial)
        self._ended.append(f"{trial.label}: {describe_outcome(result)}")

    def note_failure(self, trial: Trial, message: str) -> None:
        """Show a trial's error."""
        self._progress.note_failure(trial)
        self._ended.append(f"{trial.label}: failed: {extract_reason(message)}")

    def note_worker_loss(self, trial: Trial) -> None:
        """Show that a trial's process was lost."""
        self._ended.append(f"{trial.label}: its process was lost; another goes on from its checkpoint")

    def _draw_screen(self) -> RenderableType:
        recent = self._ended[-RECENT_TRIALS:]
        lines = [Text(text, style="dim", no_wrap=True, overflow="ellipsis") for text in recent]
        room = max(1, self._console.height - len(recent) - OTHER_LINES)
        rows: list[RunningTrial | RemoteTrial] = [*self._progress.running.values(), *self._progress.elsewhere.values()]
        more = [Text(f"and {len(rows) - room} more in training")] if len(rows) > room else []
        return Group(*lines, self._build_table(rows[:room]), *more, Text(self._progress.describe_progress()))

    def _build_table(self, rows: Sequence[RunningTrial | RemoteTrial]) -> Table:
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
                table.add_row(Text(row.trial.label), bar, f"{row.share:.0%}", *_format_figures(row))
        return table


def _format_figures(row: RunningTrial) -> list[str]:
    return [
        _format_number(row.rate, ",.0f"),
        _format_number(row.loss, ".3f"),
        _format_number(row.rmg, ".3f"),
        format_clock(row.remaining_seconds),
    ]


def _format_number(value: float, form: str) -> str:
    return format(value, form) if value and math.isfinite(value) else "-"


SILENCE_SECONDS: Final = 30.0
"""Longest time without a line while trials report."""


class ProgressLog:
    """A `Watcher` that prints lines with the time of day, as a context manager around the sweep."""

    def __init__(self, trials: Sequence[Trial], done_before: int, console: Console) -> None:
        self._console = console
        self._progress = SweepProgress(trials, done_before)
        self._printed_at = time.monotonic()
        self._holders: dict[str, str] = {}

    def __enter__(self) -> "ProgressLog":
        self._print_line(STARTING)
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: no resource is open."""

    def note_start(self, trial: Trial) -> None:
        """Print the first trial in training."""
        first = not self._progress.running
        self._progress.note_start(trial)
        if first:
            self._print_line(f"in training: {trial.label}")

    def note_progress(self, report: TrialReport) -> None:
        """Print a summary after a long silence."""
        self._progress.note_progress(report)
        if time.monotonic() - self._printed_at >= SILENCE_SECONDS:
            running, rate = len(self._progress.running), self._progress.rate
            self._print_line(f"{self._progress.describe_progress()}; {running} in training at {rate:,.0f} samples/s")

    def note_lease(self, trial: Trial, lease: Lease) -> None:
        """Print that another sweep trains the trial, once per holder."""
        words = self._progress.note_lease(trial, lease).words
        if self._holders.get(trial.id) != lease.holder:
            self._holders[trial.id] = lease.holder
            self._print_line(f"{trial.label}: {words}")

    def note_result(self, trial: Trial, result: Result) -> None:
        """Print a trial's outcome."""
        self._progress.note_result(trial)
        self._print_end(trial, describe_outcome(result))

    def note_failure(self, trial: Trial, message: str) -> None:
        """Print a trial's error."""
        self._progress.note_failure(trial)
        self._print_end(trial, f"failed: {extract_reason(message)}")

    def note_worker_loss(self, trial: Trial) -> None:
        """Print that a trial's process was lost."""
        self._print_line(f"{trial.label}: its process was lost; another goes on from its checkpoint")

    def _print_end(self, trial: Trial, text: str) -> None:
        self._print_line(
            f"[{self._progress.done + self._progress.failed}/{self._progress.total}] {trial.label}: {text}"
        )

    def _print_line(self, text: str) -> None:
        self._printed_at = time.monotonic()
        line = f"{time.strftime('%H:%M:%S')} {text}"
        self._console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


END_STATES: Final = ("done", "stopped", "failed")


class SearchLog:
    """A `Watcher` of a search that prints lines with the time of day; `note_change` passes it the search's record."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._labels: dict[str, str] = {}
        self._ended: set[int] = set()
        self._rates: dict[str, float] = {}
        self._first = True
        self._printed_at = time.monotonic()

    def note_change(self, plan: Plan, record: SearchRecord) -> None:
        """Print each point that has ended since the last call."""
        self._labels = {trial.id: trial.label for trial in plan.trials}
        ended = [drawn for drawn in record.drawn if drawn.state in END_STATES]
        if self._first:
            self._first = False
            self._ended = {drawn.number for drawn in ended}
            self._print_line(STARTING)
            return
        for drawn in ended:
            if drawn.number not in self._ended:
                self._ended.add(drawn.number)
                self._rates.pop(drawn.trial, None)
                self._print_line(
                    f"[{len(self._ended)}/{record.asked}] {self._labels[drawn.trial]}: {_describe_point(drawn, record)}"
                )

    def note_start(self, trial: Trial) -> None:
        """Count a trial as running."""
        self._rates[trial.id] = 0.0

    def note_progress(self, report: TrialReport) -> None:
        """Print the total rate after a long silence."""
        if report.trial.id in self._rates:
            self._rates[report.trial.id] = report.samples_per_second
        rate = sum(self._rates.values())
        if rate and time.monotonic() - self._printed_at >= SILENCE_SECONDS:
            self._print_line(f"{len(self._rates)} in training at {rate:,.0f} samples/s")

    def note_lease(self, trial: Trial, lease: Lease) -> None:
        """Print that another sweep trains the trial."""
        self._rates.pop(trial.id, None)
        self._print_line(f"{trial.label}: {lease.host} trains it for another sweep")

    def note_result(self, trial: Trial, result: Result) -> None:
        """Do nothing: `note_change` prints the outcome."""

    def note_failure(self, trial: Trial, message: str) -> None:
        """Print a trial's error; `note_change` prints that its point ended."""
        self._print_line(f"{trial.label}: {extract_reason(message)}")

    def note_worker_loss(self, trial: Trial) -> None:
        """Print that a trial's process was lost."""
        self._print_line(f"{trial.label}: its process was lost; another goes on from its checkpoint")

    def _print_line(self, text: str) -> None:
        self._printed_at = time.monotonic()
        line = f"{time.strftime('%H:%M:%S')} {text}"
        self._console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _describe_point(drawn: PointRecord, record: SearchRecord) -> str:
    if drawn.state == "failed":
        return "failed"
    if drawn.state == "stopped":
        return f"stopped after {drawn.samples_seen:,} samples at {drawn.value:.4g}"
    best = record.best
    return f"{drawn.value:.4g}" + (", the best so far" if best is not None and best.number == drawn.number else "")


class TrackerHooks(Protocol):
    """What a tracker implements. It is told which trial changed, and reads the change from the ledger."""

    def note_start(self, trial: Trial) -> None: ...

    def note_progress(self, trial: Trial) -> None: ...

    def note_lease(self, trial: Trial) -> None: ...

    def note_result(self, trial: Trial) -> None: ...

    def note_failure(self, trial: Trial) -> None: ...


class TrackerWatcher:
    """A `Watcher` that marks changed trials for a tracker."""

    def __init__(self, tracker: TrackerHooks) -> None:
        self._tracker = tracker

    def note_start(self, trial: Trial) -> None:
        """Mark a trial that has started."""
        self._tracker.note_start(trial)

    def note_progress(self, report: TrialReport) -> None:
        """Mark a trial that was evaluated; other reports change nothing in the ledger."""
        if report.rows:
            self._tracker.note_progress(report.trial)

    def note_lease(self, trial: Trial, lease: Lease) -> None:
        """Mark a trial that another sweep trains."""
        self._tracker.note_lease(trial)

    def note_result(self, trial: Trial, result: Result) -> None:
        """Mark a trial whose result is in the ledger."""
        self._tracker.note_result(trial)

    def note_failure(self, trial: Trial, message: str) -> None:
        """Mark a trial that failed."""
        self._tracker.note_failure(trial)

    def note_worker_loss(self, trial: Trial) -> None:
        """Do nothing: the trial continues as the same run."""
