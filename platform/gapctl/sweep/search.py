"""Runs what is left of a search on Ray Tune: points are drawn as there is room, and the worst are stopped early."""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from gapctl.config.load import Sweep
from gapctl.config.sweep import Resources
from gapctl.config.trial import Data
from gapctl.errors import InputError, WorkError
from gapctl.ledger import Claimant, Lease, Ledger, Result, TrialFolder
from gapctl.ledger.lease import LEASE_SECONDS, runs_here
from gapctl.ledger.search_record import SearchRecord
from gapctl.plan.plan import Plan, Point, Trial, search_of, search_plan
from gapctl.sweep.capacity import ClusterWatch, request_of, trial_bundles
from gapctl.sweep.driver import Asked, SweepOutcome, fit
from gapctl.sweep.lease_watch import (
    EVERY,
    LOOK_SECONDS,
    FailedElsewhere,
    Free,
    Others,
    PatientScheduler,
    Renewals,
    Standing,
)
from gapctl.sweep.progress import Report, Watcher
from gapctl.sweep.ray_session import ray_session
from gapctl.sweep.study import InHand, Study
from gapctl.sweep.worker import TrialWorker
from gapctl.training.hardware import training_device

if TYPE_CHECKING:
    from gapctl.data.load import Material


BASE: Final = "base"


def search_name(sweep: Sweep) -> str:
    """What the ledger calls a search: `<sweep>.<scale>`."""
    return f"{sweep.spec.name}.{sweep.scale or BASE}"


class Course:
    """Hands out the points of a study as trials, and is a `Watcher` of them: it tells the study what became of each.

    A point that was drawn before is not trained again: it has the result that the ledger has, or ends as its twin
    does.
    """

    def __init__(
        self,
        sweep: Sweep,
        study: Study,
        ledger: Ledger,
        fingerprint_of: Callable[[Data], str],
        require: Callable[[], None] = lambda: None,
    ) -> None:
        """`require` raises, before the ledger's record is written, where another process runs the search by now."""
        self._sweep, self._study, self._ledger = sweep, study, ledger
        self._search = search_of(sweep)
        self._fingerprints: dict[str, str] = {}
        self._read, self._require = fingerprint_of, require
        self._changed: Callable[[Plan, SearchRecord], None] = lambda plan, record: None
        self._numbers: dict[str, list[int]] = {}
        self._points: dict[int, Point] = {}
        self._ids: dict[int, str] = {}
        self._finished: dict[int, float] = {}
        self._stopped: dict[str, int] = {}
        self._training: set[str] = set()
        self.trials: dict[str, Trial] = {}
        self.damaged: dict[str, str] = {}
        self.elsewhere: dict[str, str] = {}
        earlier = ledger.search_of_study(search_name(sweep), study.name)
        if earlier is not None:
            study.fill(earlier)
        self._remember()
        study.repeat_failed()
        self._left: list[InHand] = study.in_hand()
        for number, point in self._left:
            self._drawn(number, point)
        self._require()
        ledger.set_aside_search(search_name(sweep), besides=study.name)
        self._write()

    def tell(self, changed: Callable[[Plan, SearchRecord], None]) -> None:
        """From now on `changed` hears how the search stands, with every point that is drawn and every end."""
        self._changed = changed
        changed(self.plan, self.record)

    def close(self) -> SearchRecord:
        """The search as it stands, with how much each path decides; the ledger keeps it."""
        record = replace(self.record, importance=self._study.importance())
        self._require()
        self._ledger.keep_search(search_name(self._sweep), record)
        return record

    @property
    def record(self) -> SearchRecord:
        """The search as it stands."""
        return self._study.record(self._ids, self._finished, self._sweep.spec.base.train.samples)

    @property
    def plan(self) -> Plan:
        """All points so far as trials."""
        return search_plan(self._sweep, [self._points[number] for number in sorted(self._points)], self._fingerprint_of)

    @property
    def complete(self) -> bool:
        """Whether every point that was asked for is drawn, and none is in training, here or by another sweep."""
        return not self.elsewhere and self._all_handed_out

    @property
    def waits_for_others(self) -> bool:
        """Whether all that is left is in training by another sweep."""
        return bool(self.elsewhere) and self._all_handed_out

    @property
    def _all_handed_out(self) -> bool:
        return not self._left and not self._training and not self._study.waiting() and not self._wanted

    @property
    def _wanted(self) -> bool:
        return self._study.counted() < self._search.trials

    def next(self) -> Trial | None:
        """The next trial to train; None where there is none."""
        while self._left or self._study.waiting() or self._wanted:
            number, point = self._left.pop(0) if self._left else self._study.ask()
            trial = self._drawn(number, point)
            if not self._known(trial, number):
                self._training.add(trial.id)
                self._write()
                return trial
            self._write()
        return None

    def stops(self, trial_id: str, rows: Sequence[Mapping[str, float]]) -> bool:
        """Whether a training is to be stopped by what it measured, which is kept."""
        for row in rows:
            value, seen = row.get(self._search.metric), int(row["samples_seen"])
            if value is not None and seen > 0 and self._study.measure(self._numbers[trial_id][0], value, seen):
                self._stop(trial_id, value, seen)
                return True
        return False

    def started(self, trial: Trial) -> None:
        """Nothing to keep: its process goes on from wherever it stood."""

    def progressed(self, report: Report) -> None:
        """Nothing to keep: `stops` is asked of its measures."""

    def held(self, trial: Trial, lease: Lease) -> None:
        """Another sweep trains it: the point stays in hand until that has ended it or let go of it."""
        self._training.discard(trial.id)
        self.elsewhere[trial.id] = (
            f"{trial.label} ({trial.id}) is trained by another sweep on {lease.host}; once it is done, the same "
            "command takes its result"
        )

    def let_go(self, trial_id: str) -> None:
        """No other sweep trains it any more: its points are handed out before all others."""
        self._left[:0] = [InHand(number, self._points[number]) for number in self._end(trial_id)]

    def finished(self, trial: Trial, result: Result) -> None:
        """A trial's result is in the ledger."""
        for number in self._end(trial.id):
            self._tell(number, result)
        self._write()

    def failed(self, trial: Trial, message: str) -> None:
        """A trial went wrong."""
        for number in self._end(trial.id):
            self._study.tell_failed(number)
        self._write()

    def lost(self, trial: Trial) -> None:
        """Nothing to keep: another process goes on with it."""

    def _remember(self) -> None:
        """The trials of points that ended before."""
        told = [(number, self._drawn(number, point)) for number, point in self._study.told()]
        results = self._ledger.results([trial.id for _, trial in told])
        for (number, trial), result in zip(told, results, strict=True):
            if isinstance(result, Result):
                self._finished[number] = result.metrics.get(self._search.metric, math.nan)
            elif self._ledger.trial(trial.id).stopped() is not None:
                self._stopped[trial.id] = number

    def _fingerprint_of(self, data: Data) -> str:
        """Each source is read once."""
        if data.address not in self._fingerprints:
            self._fingerprints[data.address] = self._read(data)
        return self._fingerprints[data.address]

    def _drawn(self, number: int, point: Point) -> Trial:
        (trial,) = search_plan(self._sweep, [point], self._fingerprint_of).trials
        self.trials[trial.id] = trial
        self._points[number], self._ids[number] = point, trial.id
        return trial

    def _known(self, trial: Trial, number: int) -> bool:
        """Whether a point needs no training: its end is told, or will be with that of its twin."""
        if trial.id in self._training or trial.id in self.elsewhere:
            self._numbers[trial.id].append(number)
            return True
        try:
            result = self._ledger.result(trial.id)
        except WorkError as error:
            self.damaged[trial.id] = str(error)
            self._study.tell_failed(number)
            return True
        if result is not None:
            self._tell(number, result)
            return True
        if trial.id in self._stopped:
            self._study.tell_stopped(number, like=self._stopped[trial.id])
            return True
        self._numbers[trial.id] = [number]
        return False

    def _tell(self, number: int, result: Result) -> None:
        value = result.metrics.get(self._search.metric, math.nan)
        self._finished[number] = value
        self._study.tell(number, value)

    def _stop(self, trial_id: str, value: float, seen: int) -> None:
        asked = self._sweep.spec.base.train.samples
        self._ledger.trial(trial_id).stop(
            f"stopped by the search {search_name(self._sweep)} at {seen:,} of {asked:,} samples: {self._search.metric} "
            f"was {value:.4g} and not among the best"
        )
        numbers = self._end(trial_id)
        self._stopped[trial_id] = numbers[0]
        for number in numbers:
            self._study.tell_stopped(number, like=None if number == numbers[0] else numbers[0])
        self._write()

    def _end(self, trial_id: str) -> list[int]:
        """The numbers of a trial that is trained no more; none where that was told already."""
        if trial_id not in self._training and trial_id not in self.elsewhere:
            return []
        self._training.discard(trial_id)
        self.elsewhere.pop(trial_id, None)
        return self._numbers.pop(trial_id)

    def _write(self) -> None:
        record = self.record
        self._require()
        self._ledger.keep_search(search_name(self._sweep), record)
        self._changed(self.plan, record)


TrainPoints = Callable[[Mapping[str, bytes]], Mapping[str, str]]
"""Trains what a course hands out; takes leases that expired, by trial, which it may take over, and returns failures."""


class SearchRounds:
    """Trains the points of a course with `train`, and waits for those that others hold."""

    def __init__(
        self,
        course: Course,
        watchers: Sequence[Watcher],
        train: TrainPoints,
        others: Others,
        stopped: Callable[[], bool] = bool,
    ) -> None:
        """`stopped` is asked before each round whether the search is to end, as an interruption ends it."""
        self._course, self._watchers = course, [course, *watchers]
        self._train, self._others, self._stopped = train, others, stopped
        self._holders: dict[str, str] = {}
        self._expired: dict[str, bytes] = {}
        self._failures: dict[str, str] = {}

    def run(self) -> SweepOutcome:
        """Until every point has ended, or the search is interrupted."""
        going_on = not self._stopped()
        while going_on:
            self._failures |= self._train(self._expired)
            going_on = self._more_to_train()
        return SweepOutcome(self._failures, interrupted=not self._course.complete)

    def _more_to_train(self) -> bool:
        """Waits while all that is left is held by others; whether they let go of any of it."""
        while self._course.waits_for_others and not self._stopped():
            if self._look() or not self._course.waits_for_others:
                return not self._course.complete
            try:
                time.sleep(LOOK_SECONDS)
            except KeyboardInterrupt:
                return False
        return False

    def _look(self) -> bool:
        """Whether a point that others held is to be trained here."""
        found = self._others.look(list(self._course.elsewhere))
        for trial_id, standing in found.items():
            self._note(trial_id, standing)
        return any(isinstance(standing, Free) for standing in found.values())

    def _note(self, trial_id: str, standing: Standing) -> None:
        trial = self._course.trials[trial_id]
        if isinstance(standing, Lease):
            if self._holders.setdefault(trial_id, standing.holder) != standing.holder:
                self._holders[trial_id] = standing.holder
                for watcher in self._watchers:
                    watcher.held(trial, standing)
        elif isinstance(standing, Free):
            if standing.expired is not None:
                self._expired[trial_id] = standing.expired
            self._course.let_go(trial_id)
        elif isinstance(standing, FailedElsewhere):
            self._failures[trial_id] = standing.message
            for watcher in self._watchers:
                watcher.failed(trial, standing.message)
        else:
            for watcher in self._watchers:
                watcher.finished(trial, standing)


def run_search(
    course: Course,
    ledger: Ledger,
    *,
    resources: Resources,
    data: "Mapping[str, Material]",
    watchers: Sequence[Watcher],
    address: str | None,
    stopped: Callable[[], bool] = bool,
) -> SweepOutcome:
    """Trains the points of a course on Ray until it has no more, and waits for what other sweeps train of them.

    `data` is by address, and shared by all. Once `stopped` says so, or no machine can hold a trial any more, no round
    begins.
    """
    with ray_session(address), tempfile.TemporaryDirectory(prefix="gapctl-tune-") as scratch:
        claimant = Claimant.for_sweep(course.plan.sweep.spec.name)
        request = request_of(resources, elastic=address is not None)
        if address is None:
            training_device(gpu=request.gpu)
        watch = ClusterWatch(trial_bundles(resources, request), elastic=address is not None)
        asked = Asked(ledger, claimant, resources, data, [course, *watchers], scratch, request, watch)
        train, ends = partial(_tune, course, asked), watch.or_when(stopped)
        return replace(SearchRounds(course, watchers, train, Others(ledger), ends).run(), reason=watch.reason)


def _tune(course: Course, asked: Asked, expired: Mapping[str, bytes]) -> Mapping[str, str]:
    choosing: dict[str, Any] = {"search_alg": Points(course), "scheduler": Stops(course), "num_samples": -1}
    return fit(asked, PointWorker, course.trials, expired, told={}, **choosing).failures


class PointWorker(TrialWorker):
    """A trial worker whose trials come with what Tune hands it, as points are drawn while others are trained."""

    def _begin(self, config: Mapping[str, Any]) -> None:
        self.cleanup()  # of the trial before, which these trials do not name
        self._work = None
        self._trials = {trial.id: trial for trial in config["drawn"]}
        super()._begin(config)


class Points(Searcher):
    """Asks a course for the next trial whenever Tune has room for one."""

    def __init__(self, course: Course) -> None:
        super().__init__()
        self._course = course

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searchers for its own resumption, which the study takes the place of."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """A trial, or that there is none."""
        trial = self._course.next()
        return Searcher.FINISHED if trial is None else {"pack": [trial.id], "drawn": [trial]}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the course hears of it as a watcher."""

    def save(self, checkpoint_path: str) -> None:
        """Leaves an empty file: the study has it all."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study has it all."""


class Stops(PatientScheduler):
    """Stops the trainings of which a course says so."""

    def __init__(self, course: Course) -> None:
        super().__init__()
        self._course = course

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as of `Points`."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether a training goes on after a report."""
        told = (report for report in result["reports"] if "rows" in report)
        stops = [self._course.stops(report["trial"], report["rows"]) for report in told]
        return str(FIFOScheduler.STOP if any(stops) else FIFOScheduler.CONTINUE)


SEARCH_LOOK_SECONDS: Final = 2.0


@contextmanager
def alone_in_ledger(
    ledger: Ledger,
    search: str,
    say: Callable[[str], None],
    *,
    lease_seconds: float = LEASE_SECONDS,
    every: float = EVERY,
) -> Iterator[Callable[[], None]]:
    """Holds the search named `<sweep>.<scale>`; gives what raises LeaseLostError once another process has it.

    Raises InputError where another process runs it. Whether one of another machine still does, its renewals show: that
    is waited for, which `say` is told of, and a lease that nobody renews is taken over.
    """
    folder = ledger.search_folder(search)
    _take(folder, Claimant.for_sweep(search), Others(ledger, lease_seconds), say)
    hold = folder.hold
    assert hold is not None
    renewals = Renewals(lambda: [folder], every)
    try:
        yield hold.require
    finally:
        renewals.close()
        with suppress(WorkError):  # it ends by itself
            folder.rest()


def _take(folder: TrialFolder, claimant: Claimant, others: Others, say: Callable[[str], None]) -> None:
    first = other = folder.take(claimant)
    if first is not None and not runs_here(first.process):
        say(
            f"{folder.trial_id} is {first.held_by}: waiting to see whether that still runs it, which takes "
            f"{LEASE_SECONDS:.0f} s at most"
        )
    while other is not None:
        if other != first or runs_here(other.process):
            raise InputError(
                f"{folder.path()}: another gapctl runs this search: it is {other.held_by}; expected one at a time, as "
                "each would draw the other's points. Wait for it, or end it: the same command then goes on"
            )
        time.sleep(SEARCH_LOOK_SECONDS)
        standing = others.look([folder.trial_id]).get(folder.trial_id)
        if isinstance(standing, Lease):
            other = standing
        elif isinstance(standing, Free):
            other = folder.take(claimant, standing.expired)
