"""Prometheus metrics of a sweep, exported by Ray (`ray_gapctl_...`), and each trial's log of its machine.

`dashboards/grafana.json` is a board that shows them beside Ray's own.
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Final

from ray.util.metrics import Gauge

from gapctl.ledger import Lease, Result, TrialFolder
from gapctl.ledger.trial import MACHINE
from gapctl.plan.plan import Trial
from gapctl.sweep.progress import SweepProgress, TrialReport, WorkerReport

TRIAL_TAGS: Final = ("gapctl_trial", "treatment")


class TrialGauges:
    """Gauges of the trials in this process; tags name the trial in training."""

    def __init__(self) -> None:
        self._samples = Gauge("gapctl_samples_seen", "Pairs that the trial was trained on so far", TRIAL_TAGS)
        self._rate = Gauge("gapctl_samples_per_second", "Pairs trained on per second of work", TRIAL_TAGS)
        self._loss = Gauge("gapctl_train_loss", "Contrastive loss of the latest batch, nats", TRIAL_TAGS)
        self._rmg = Gauge("gapctl_gap_rmg", "Relative modality gap at the latest evaluation", TRIAL_TAGS)

    def show_report(self, trial: Trial, report: WorkerReport) -> None:
        """Set the gauges to the numbers of a report."""
        tags = _build_tags(trial)
        self._samples.set(report["samples_seen"], tags)
        self._rate.set(0.0 if report["done"] else report["samples_per_second"], tags)
        if math.isfinite(report["loss"]):
            self._loss.set(report["loss"], tags)
        if report["rows"]:
            self._rmg.set(report["rows"][-1]["gap/rmg"], tags)

    def clear_rate(self, trial: Trial) -> None:
        """Set the rate to zero when the trial is no longer trained here."""
        self._rate.set(0.0, _build_tags(trial))


def _build_tags(trial: Trial) -> dict[str, str]:
    return {"gapctl_trial": trial.id, "treatment": trial.label}


SWEEP_TAG: Final = "gapctl_sweep"
STATE_TAG: Final = "state"
SWEEP_GAUGES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "gapctl_trials": ("Trials of the sweep by state: done, running, failed or waiting", (SWEEP_TAG, STATE_TAG)),
    "gapctl_lost_processes": ("Processes of trials that vanished and were begun anew", (SWEEP_TAG,)),
    "gapctl_nodes": ("Nodes: alive now, or lost since the sweep began", (SWEEP_TAG, STATE_TAG)),
}
"""Each metric's description and tags."""
NODES_SECONDS: Final = 5.0


class SweepGauges(SweepProgress):
    """A `Watcher` that counts trials and nodes. Gauges are created at the first event, since Ray has to run by then."""

    def __init__(self, sweep: str, trials: Sequence[Trial], done_before: int) -> None:
        super().__init__(trials, done_before)
        self._sweep = sweep
        self._gauges: dict[str, Gauge] = {}
        self._lost_processes = 0
        self._dead_before: frozenset[str] | None = None
        self._looked_at = -math.inf

    def note_start(self, trial: Trial) -> None:
        """Count a trial as running."""
        super().note_start(trial)
        self._show_counts()

    def note_progress(self, report: TrialReport) -> None:
        """Update the counts of nodes."""
        super().note_progress(report)
        self._count_nodes()

    def note_lease(self, trial: Trial, lease: Lease) -> None:
        """Count a trial as waiting, as another sweep trains it."""
        super().note_lease(trial, lease)
        self._show_counts()

    def note_result(self, trial: Trial, result: Result) -> None:
        """Count a trial as done."""
        super().note_result(trial, result)
        self._show_counts()

    def note_failure(self, trial: Trial, message: str) -> None:
        """Count a trial as failed."""
        super().note_failure(trial, message)
        self._show_counts()

    def note_worker_loss(self, trial: Trial) -> None:
        """Count a lost process. Tune starts another."""
        self._lost_processes += 1
        self._show_counts()

    def _show_counts(self) -> None:
        states = {"done": self.done, "running": len(self.running), "failed": self.failed, "waiting": self.waiting}
        for state, count in states.items():
            self._set_gauge("gapctl_trials", count, {STATE_TAG: state})
        self._set_gauge("gapctl_lost_processes", self._lost_processes, {})
        self._count_nodes()

    def _count_nodes(self) -> None:
        if time.monotonic() - self._looked_at < NODES_SECONDS:
            return
        import ray

        self._looked_at = time.monotonic()
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        dead = frozenset(node["NodeID"] for node in nodes if not node["Alive"])
        self._dead_before = dead if self._dead_before is None else self._dead_before
        self._set_gauge("gapctl_nodes", len(nodes) - len(dead), {STATE_TAG: "alive"})
        self._set_gauge("gapctl_nodes", len(dead - self._dead_before), {STATE_TAG: "lost"})

    def _set_gauge(self, name: str, value: float, tags: Mapping[str, str]) -> None:
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, *SWEEP_GAUGES[name])
        self._gauges[name].set(value, {SWEEP_TAG: self._sweep, **tags})


class MachineLog:
    """The rows of `machine.parquet`, continued from an earlier attempt up to `samples_seen`."""

    def __init__(self, folder: TrialFolder, samples_seen: int) -> None:
        self._folder = folder
        self._rows = [row for row in folder.read_rows_or_empty(MACHINE) if row["samples_seen"] <= samples_seen]
        self._kept = len(self._rows)

    def add_row(self, samples_seen: int, seconds: float, measures: Mapping[str, float]) -> None:
        """Add a row with measures after `seconds` of work."""
        self._rows.append({"samples_seen": samples_seen, "seconds": seconds, **measures})

    def save_rows(self) -> None:
        """Write the rows if there are new ones."""
        if len(self._rows) > self._kept:
            self._folder.save_rows(MACHINE, self._rows)
            self._kept = len(self._rows)
