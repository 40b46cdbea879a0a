"""Update MLflow from a thread during a sweep, so that training never waits for it.

The ledger is the queue: what a missing server could not receive is sent again by the thread during the sweep, or
afterwards by `gapctl track sync`.
"""

import shlex
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from gapctl.io.passwords import hide_password
from gapctl.ledger import Ledger
from gapctl.plan.plan import Plan, Trial
from gapctl.tracking.mlflow_sync import Projection
from gapctl.tracking.store import explain_error
from gapctl.tracking.views import SweepFindings


def format_sync_command(plan: Plan, ledger: Ledger) -> str:
    """Return the `gapctl track sync` command for this sweep. Its `--set` options are only mentioned."""
    sweep = plan.sweep
    scale = [] if sweep.scale in (None, sweep.spec.default_scale) else ["--scale", str(sweep.scale)]
    command = shlex.join(["gapctl", "track", "sync", str(sweep.path), *scale, "--runs", ledger.root])
    overridden = any(isinstance(setting.source, str) for setting in sweep.settings)
    return f"`{command}`" + (" with the same --set" if overridden else "")


STARTING_SECONDS = 10.0
"""The longest time for which the thread waits until a trial trains; the imports of both would hinder each other."""
BATCH_SECONDS = 2.0
FEW_TRIALS = 64
"""The most trials whose folders are looked into one by one, begun or not; for more, the ledger is listed."""
RETRY_SECONDS = 5.0
STALLED_SECONDS = 60.0
"""Longer than any step takes, even the creation of a database on a busy machine."""


@dataclass(frozen=True)
class TrackingOutcome:
    """Where the runs are shown, and the problem if MLflow does not show everything."""

    uri: str
    problem: str | None


class EvaluationReport(Protocol):
    """A report of a sweep on one of its trials, with the evaluations since the last one."""

    @property
    def trial(self) -> Trial:
        """The trial."""
        ...

    @property
    def rows(self) -> Sequence[object]:
        """Its evaluations since the last report."""
        ...


class Tracker:
    """Mark changed trials in the driver, as a watcher; a thread reads them from the ledger and writes MLflow.

    The thread starts with the first change, and imports MLflow once a trial trains: earlier that would compete with
    importing Ray and torch.
    """

    def __init__(self, plan: Plan, ledger: Ledger, uri: str) -> None:
        self._plan, self._ledger, self._uri = plan, ledger, uri
        # Single operations on a dictionary are atomic, so marks need no lock.
        self._pending: dict[str, Trial] = {}
        self._running: dict[str, bool] = {}
        self._findings: SweepFindings | None = None
        self._training, self._closing, self._wake = threading.Event(), threading.Event(), threading.Event()
        self._rounds_begun = self._rounds_done = 0
        self._thread: threading.Thread | None = None
        self._projection: Projection | None = None
        self._problem: str | None = None
        self._stepped = time.monotonic()
        self._outcome: TrackingOutcome | None = None

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None or self._thread is not None:
            self.close()

    def update_plan(self, plan: Plan) -> None:
        """Replace the plan, as a search adds trials over time."""
        self._plan = plan
        if self._projection is not None:
            self._projection.update_plan(plan)

    def note_start(self, trial: Trial) -> None:
        """Mark a trial as running."""
        self._running[trial.id] = True
        self._mark_trials(trial)

    def note_progress(self, report: EvaluationReport) -> None:
        """Mark a trial that was evaluated; other reports change nothing in the ledger."""
        self._training.set()
        if report.rows:
            self._mark_trials(report.trial)

    def note_lease(self, trial: Trial, lease: object = None) -> None:
        """Note that another sweep trains and shows the trial; its state is in its lease."""
        self._running.pop(trial.id, None)

    def note_result(self, trial: Trial, result: object = None) -> None:
        """Mark a trial that has ended, with a result or without."""
        self._training.set()
        self._running[trial.id] = False
        self._mark_trials(trial)

    def note_failure(self, trial: Trial, message: object = None) -> None:
        """Mark a trial that failed."""
        self.note_result(trial)

    def note_worker_loss(self, trial: Trial) -> None:
        """Do nothing: the trial continues as the same run."""

    def tell(self, findings: SweepFindings) -> None:
        """Show the verdicts and the report in the sweep's own run."""
        self._findings = findings
        self._training.set()
        self._start_thread()

    def wait_until_shown(self) -> None:
        """Wait until MLflow shows all changes so far and the run links are written beside the ledger.

        Returns at once if MLflow refused the last changes.
        """
        self._training.set()
        self._start_thread()
        if self._problem is None:
            wanted = self._rounds_begun + 1
            self._wake.set()
            self._wait_for_thread(lambda: self._rounds_done >= wanted)

    def close(self) -> TrackingOutcome:
        """Show all remaining changes and end the thread, within seconds if the server is dead."""
        if self._outcome is None:
            self._running.update(dict.fromkeys(self._running, False))
            self._mark_trials(*self._plan.trainings)
            self._closing.set()
            self._training.set()
            self._wake.set()
            self._wait_for_thread(lambda: False)
            problem = self._problem and (
                f"MLflow at {hide_password(self._uri)} does not show everything: {self._problem}. The results are safe "
                f"in the ledger ({self._ledger.root}); when this is mended, "
                f"{format_sync_command(self._plan, self._ledger)} "
                "shows them"
            )
            self._outcome = TrackingOutcome(self._uri, problem)
        return self._outcome

    def _mark_trials(self, *trials: Trial) -> None:
        self._pending.update({trial.id: trial for trial in trials})
        self._start_thread()

    def _start_thread(self) -> None:
        if self._thread is None and self._outcome is None:
            self._pending.update({trial.id: trial for trial in self._plan.trainings})
            self._thread = threading.Thread(target=self._run_rounds, name="gapctl-tracker", daemon=True)
            self._thread.start()

    def _wait_for_thread(self, enough: Callable[[], bool]) -> None:
        """Wait until `enough` is true, the thread ends, or one of its steps takes too long."""
        thread, self._stepped = self._thread, time.monotonic()
        while thread is not None and thread.is_alive() and not enough():
            thread.join(timeout=0.1)
            if thread.is_alive() and time.monotonic() - self._stepped > STALLED_SECONDS:
                self._problem = f"it has not answered for {STALLED_SECONDS:.0f} seconds"
                return

    def _run_rounds(self) -> None:
        self._training.wait(STARTING_SECONDS)
        while True:
            closing = self._closing.is_set()
            self._wake.clear()
            self._rounds_begun += 1
            self._try_round(closing)
            self._rounds_done += 1
            if closing:
                return
            self._wake.wait(RETRY_SECONDS if self._problem else BATCH_SECONDS)

    def _try_round(self, closing: bool) -> None:
        try:
            self._show_pending(closing)
            self._problem = None
        except Exception as error:  # MLflow, its database or the network: none of them may stop a sweep
            self._projection = None
            self._pending.update({trial.id: trial for trial in self._plan.trainings})
            self._problem = explain_error(error)

    def _show_pending(self, closing: bool) -> None:
        if not self._pending and self._findings is None and not closing:
            return
        projection = self._projection = self._projection or Projection(self._plan, self._ledger, self._uri)
        pending = list(self._pending)
        begun = set(self._ledger.list_trial_ids()) if len(pending) > FEW_TRIALS else set(pending)
        for trial_id in pending:
            trial = self._pending.pop(trial_id)  # later marks belong to the next batch
            running = self._running.get(trial_id)
            if projection.is_final(trial_id) or (trial_id not in begun and not running):
                continue
            if projection.show(trial, running=running) is None and running:
                self._pending.setdefault(trial_id, trial)  # its process has not written anything yet
            self._stepped = time.monotonic()
        if (findings := self._findings) is not None:
            projection.tell(findings)
            if self._findings is findings:
                self._findings = None
        projection.update_status(closing=closing)
