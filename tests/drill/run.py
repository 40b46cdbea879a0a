"""The drill from its quiet run to its last question: is everything done once, the same, shown, and let go?"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from drill.accidents import Accidents
from drill.drilled_sweep import DrilledSweep, kill_sweeps
from drill.local_cluster import LocalCluster
from drill.outcome import Happened, Outcome
from drill.processes import Running, adopt_orphans, below, came_true, signalled
from drill.promises import in_the_ledger, in_the_tracking_server, reserved
from drill.schedule import Fault
from drill.services import TrackingServer
from drill.watch import Watch
from object_store import BUCKET, object_store
from small_disk import small_disk

NODES: Final = 2
SPARE: Final = 1
"""Trials at the end that no fault waits for, so that the last one still finds something in training."""
END_SECONDS: Final = 60.0
MEGABYTES_A_TRIAL: Final = 20
"""Of the small disk: a sweep on a cluster asks for room for the checkpoints of all trials at once."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """How many trials of how many samples, where their ledger lies, and how long, in seconds, to wait at most: for a
    sweep to go on after a fault (`patience`), and for the whole (`longest`)."""

    trials: int
    samples: int
    in_bucket: bool
    patience: float
    longest: float


def drill(folder: Path, faults: Sequence[Fault], size: Size, tell: Tell = print) -> Outcome:
    """Trains a sweep quietly, then another of the same trials among `faults`, and compares.

    The ledger lies on a small disk and MLflow's files in an object store; with `in_bucket` the ledger lies there too,
    and the disk has MLflow's database. Processes that are left in the end are named in the outcome, then ended.
    """
    adopt_orphans()
    with (
        pytest.MonkeyPatch.context() as patch,
        object_store() as store,
        small_disk(folder / "disk", patch, 100 + MEGABYTES_A_TRIAL * size.trials) as disk,
    ):
        if not disk.real:
            faults = [fault for fault in faults if fault.kind != "disk full"]
            tell("this process may not mount a small disk, so none is filled")
        tracking = TrackingServer(disk.folder if size.in_bucket else folder)
        cluster = LocalCluster(folder)
        root = f"s3://{BUCKET}" if size.in_bucket else str(disk.folder)
        quiet, drilled = (
            DrilledSweep(folder, name, f"{root}/{name}", tracking.uri, size.trials, size.samples)
            for name in ("quiet", "drill")
        )
        try:
            tracking.start()
            cluster.start_head()
            cluster.replace_lost_nodes(NODES)
            cluster.wait_for_nodes()
            outcome = Outcome(size.trials, _quietly(quiet, cluster, size.longest))
            tell(f"the quiet sweep took {outcome.quiet_seconds:.0f} s")
            attended = _Attended(cluster, drilled, size, outcome, tell)
            attended.run(faults, Accidents(cluster, drilled, tracking, store, disk))
            outcome.problems += in_the_ledger(drilled, quiet)
            outcome.problems += in_the_tracking_server(drilled, tracking.uri)
            outcome.problems += reserved(cluster)
            outcome.problems += [f"still running: {each.command[:80]}" for each in _trainings()]
        finally:
            kill_sweeps(quiet, drilled)
            cluster.stop()
            tracking.kill()
            stray = _left()
            signalled([each.pid for each in stray], signal.SIGKILL)
        outcome.problems += [f"still there when all was stopped: {each.command[:80]}" for each in stray]
    return outcome


def _quietly(sweep: DrilledSweep, cluster: LocalCluster, longest: float) -> float:
    """Seconds that it takes without a fault."""
    began = time.monotonic()
    sweep.start(cluster.address, cluster.environment)

    def ended() -> bool:
        cluster.replace_lost_nodes(NODES)
        return sweep.code() is not None

    if not came_true(ended, longest) or sweep.code() != 0:
        raise AssertionError(f"the quiet sweep did not end well: {sweep.log.read_text()}")
    return time.monotonic() - began


class _AtRisk(NamedTuple):
    """What a fault may cost a trial: how many had held it when it struck, and seconds of its training not saved."""

    fault_number: int
    holders: int
    unsaved: float


class _Attended:
    """A sweep and whoever looks after it: gives its command again, and puts new machines in the place of lost ones."""

    def __init__(self, cluster: LocalCluster, sweep: DrilledSweep, size: Size, outcome: Outcome, tell: Tell) -> None:
        self._cluster, self._sweep, self._size, self._outcome, self._tell = cluster, sweep, size, outcome, tell
        self._watch = Watch(sweep.runs, sweep.ids)
        self._began = time.time()
        self._at_risk: dict[str, _AtRisk] = {}

    def run(self, faults: Sequence[Fault], accidents: Accidents) -> None:
        """Until the sweep has ended by itself, or the time is over."""
        self._sweep.start(self._cluster.address, self._cluster.environment)
        for number, fault in enumerate(faults):
            due = number * (self._size.trials - SPARE) // len(faults)
            if not self._reached(due) or not self._strike(fault, accidents):
                self._outcome.problems.append(f"only {number} of {len(faults)} faults found a trial in training")
                break
        if not came_true(self._ended, max(self._left_over, self._size.patience)):
            self._outcome.problems.append(f"the sweep had not ended after {time.time() - self._began:.0f} s")
        self._settle()
        self._watch.end()
        self._outcome.seconds = time.time() - self._began
        self._outcome.commands = self._sweep.commands
        seen = self._watch.trials
        self._outcome.attempts = sum(len(each.holders) for each in seen.values())
        self._outcome.problems += [f"{trial} was finished twice" for trial, each in seen.items() if each.finished_twice]

    @property
    def _left_over(self) -> float:
        return self._size.longest - (time.time() - self._began)

    def _reached(self, due: int) -> bool:
        """Waits until so many trials are done and one is in training."""

        def reached() -> bool:
            return self._ended() or (self._watch.finished >= due and bool(self._watch.in_training()))

        return came_true(reached, self._left_over) and not self._ended()

    def _strike(self, fault: Fault, accidents: Accidents) -> bool:
        time.sleep(fault.wait)
        if not self._reached(0):
            return False
        training = self._watch.in_training()
        if not training:
            return self._strike(fault, accidents)
        self._settle()
        fault_number = len(self._outcome.happened)
        self._at_risk |= {
            trial: _AtRisk(fault_number, len(self._watch.trials[trial].holders), self._watch.unsaved_seconds(trial))
            for trial in training
        }
        victim = sorted(training)[int(fault.choice * len(training))]
        struck = time.time()
        accidents.happen(fault, training[victim])
        mended, holders = time.time(), len(self._watch.trials[victim].holders)
        went_on = came_true(lambda: self._goes_on(victim, holders, mended), self._size.patience)
        found = Happened(fault.kind, struck - self._began, time.time() - struck if went_on else None, 0.0)
        self._outcome.happened.append(found)
        if not went_on:
            self._outcome.problems.append(f"nothing went on {self._size.patience:.0f} s after: {fault.kind}")
        self._tell(
            f"{len(self._outcome.happened):3d} {found.at:6.0f} s {fault.kind}: "
            + (f"went on after {found.recovered:.0f} s" if found.recovered is not None else "did not go on")
            + f", {self._watch.finished} of {self._size.trials} done"
        )
        return True

    def _goes_on(self, victim: str, holders: int, since: float) -> bool:
        """Whether the trial that was hit is done, or in training again, or another one has begun in its place.

        Ray Tune puts a trial whose process vanished behind those that have not begun.
        """
        self._attend()
        seen = self._watch.trials[victim]
        renewed = seen.lease is not None and seen.lease.renewed > since
        taken_up = len(seen.holders) > holders or self._watch.begun_since(since)
        return seen.result is not None or renewed or taken_up

    def _ended(self) -> bool:
        self._attend()
        return self._sweep.code() == 0

    def _attend(self) -> None:
        self._cluster.replace_lost_nodes(NODES)
        if self._sweep.code() not in (None, 0):
            self._sweep.start(self._cluster.address, self._cluster.environment)

    def _settle(self) -> None:
        """Counts what each fault cost: the unsaved work of the trials that another process took up since."""
        happened = self._outcome.happened
        for trial, (fault_number, holders, unsaved) in list(self._at_risk.items()):
            if len(self._watch.trials[trial].holders) > holders:
                struck = happened[fault_number]
                happened[fault_number] = struck._replace(lost=struck.lost + unsaved)
                del self._at_risk[trial]


def _trainings() -> list[Running]:
    """Processes that still train a while after the sweep has ended."""
    came_true(lambda: not _training_now(), END_SECONDS)
    return _training_now()


def _training_now() -> list[Running]:
    return [each for each in below(os.getpid()) if "Trainable" in each.command]


def _left() -> list[Running]:
    """What still runs a while after everything was stopped."""
    came_true(lambda: not below(os.getpid()), END_SECONDS)
    return below(os.getpid())
