"""Run a search on Ray Tune: draw points while there is room for trials, and stop the worst early.

1. `hold_search_lease` makes sure that one process runs the search.
2. `SearchController` turns points of the `Study` into trials and tells the study how they end. The ledger keeps its
   record after every change.
3. `run_search` opens Ray; `SearchRounds` trains until no point is left and waits for trials held by other processes.
4. Within a round, `PointSearcher` gives Tune the next trial, `PointWorker` trains it, and `SearchStopScheduler` stops
   it if the study says so.
"""

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
from gapctl.ledger import Lease, LeaseOwner, Ledger, Result, TrialFolder
from gapctl.ledger.lease import LEASE_SECONDS, is_running_here
from gapctl.ledger.search_record import SearchRecord
from gapctl.ledger.trial import STOPPED
from gapctl.plan.plan import Plan, SearchPoint, Trial, get_search, make_search_plan
from gapctl.sweep.capacity import ClusterWatch, build_resource_request, build_trial_bundles
from gapctl.sweep.driver import SweepContext, SweepOutcome, run_tuner
from gapctl.sweep.lease_watch import (
    LEASE_CHECK_SECONDS,
    RENEWAL_CHECK_SECONDS,
    FailedRemotely,
    GracefulStopScheduler,
    LeaseRenewer,
    LeaseState,
    LeaseWatcher,
    Released,
)
from gapctl.sweep.progress import TrialReport, Watcher
from gapctl.sweep.ray_session import open_ray_session
from gapctl.sweep.study import NumberedPoint, Study
from gapctl.sweep.worker import TrialWorker
from gapctl.training.hardware import select_training_device

if TYPE_CHECKING:
    from gapctl.data.load import Dataset


def format_search_name(sweep: Sweep) -> str:
    """Return the ledger's name of a search, `<sweep>.<scale>`."""
    return f"{sweep.spec.name}.{sweep.scale_name}"


class SearchController:
    """Turn the points of a study into trials and, as a `Watcher`, tell the study how each ends.

    A point drawn before is not trained again: it gets the result in the ledger, or ends together with its twin.
    """

    def __init__(
        self,
        sweep: Sweep,
        study: Study,
        ledger: Ledger,
        fingerprint_of: Callable[[Data], str],
        require: Callable[[], None] = lambda: None,
    ) -> None:
        """Restore the search from the ledger. `require` is called before each write of the record.

        It raises if another process runs the search by now.
        """
        self._sweep, self._study, self._ledger = sweep, study, ledger
        self._search = get_search(sweep)
        self._fingerprints: dict[str, str] = {}
        self._read, self._require = fingerprint_of, require
        self._changed: Callable[[Plan, SearchRecord], None] = lambda plan, record: None
        self._numbers: dict[str, list[int]] = {}
        self._points: dict[int, SearchPoint] = {}
        self._ids: dict[int, str] = {}
        self._finished: dict[int, float] = {}
        self._stopped: dict[str, int] = {}
        self._training: set[str] = set()
        self.trials: dict[str, Trial] = {}
        self.damaged: dict[str, str] = {}
        self.elsewhere: dict[str, str] = {}
        earlier = ledger.read_study_search(format_search_name(sweep), study.name)
        if earlier is not None:
            study.restore_record(earlier)
        self._load_ended_points()
        study.requeue_failures()
        self._left: list[NumberedPoint] = study.list_open_points()
        for number, point in self._left:
            self._add_point(number, point)
        self._require()
        ledger.set_aside_search(format_search_name(sweep), besides=study.name)
        self._write_record()

    def set_listener(self, changed: Callable[[Plan, SearchRecord], None]) -> None:
        """Call `changed` now and after every change with the plan and the record."""
        self._changed = changed
        changed(self.plan, self.record)

    def close_search(self) -> SearchRecord:
        """Return the final record with each path's importance, and write it to the ledger."""
        record = replace(self.record, importance=self._study.compute_importance())
        self._require()
        self._ledger.save_search(format_search_name(self._sweep), record)
        return record

    @property
    def record(self) -> SearchRecord:
        """The current record of the search."""
        return self._study.build_record(self._ids, self._finished, self._sweep.spec.base.train.samples)

    @property
    def plan(self) -> Plan:
        """All points so far, as trials."""
        return make_search_plan(
            self._sweep, [self._points[number] for number in sorted(self._points)], self._read_fingerprint
        )

    @property
    def complete(self) -> bool:
        """Whether all points are drawn and none is in training, here or in another sweep."""
        return not self.elsewhere and self._is_exhausted

    @property
    def waits_on_leases(self) -> bool:
        """Whether all that is left is in training in other sweeps."""
        return bool(self.elsewhere) and self._is_exhausted

    @property
    def _is_exhausted(self) -> bool:
        return not self._left and not self._training and not self._study.count_waiting() and not self._needs_points

    @property
    def _needs_points(self) -> bool:
        return self._study.count_points() < self._search.trials

    def pick_trial(self) -> Trial | None:
        """Return the next trial to train, or None."""
        while self._left or self._study.count_waiting() or self._needs_points:
            number, point = self._left.pop(0) if self._left else self._study.ask()
            trial = self._add_point(number, point)
            if not self._try_settle_point(trial, number):
                self._training.add(trial.id)
                self._write_record()
                return trial
            self._write_record()
        return None

    def should_stop(self, trial_id: str, rows: Sequence[Mapping[str, float]]) -> bool:
        """Record a trial's measures in the study and return whether it should stop."""
        for row in rows:
            value, seen = row.get(self._search.metric), int(row["samples_seen"])
            if value is not None and seen > 0 and self._study.record_measure(self._numbers[trial_id][0], value, seen):
                self._stop_trial(trial_id, value, seen)
                return True
        return False

    def note_start(self, trial: Trial) -> None:
        """Do nothing: the study already counts the point as running."""

    def note_progress(self, report: TrialReport) -> None:
        """Do nothing: `should_stop` receives the measures."""

    def note_lease(self, trial: Trial, lease: Lease) -> None:
        """Note that another sweep trains the trial. Its point stays open until that sweep finishes or releases it."""
        self._training.discard(trial.id)
        self.elsewhere[trial.id] = (
            f"{trial.label} ({trial.id}) is trained by another sweep on {lease.host}; once it is done, the same "
            "command takes its result"
        )

    def requeue_trial(self, trial_id: str) -> None:
        """Put the points of a trial that no other sweep trains any more before all others."""
        self._left[:0] = [NumberedPoint(number, self._points[number]) for number in self._end_trial(trial_id)]

    def note_result(self, trial: Trial, result: Result) -> None:
        """Tell the study the result of a trial's points."""
        for number in self._end_trial(trial.id):
            self._tell_value(number, result)
        self._write_record()

    def note_failure(self, trial: Trial, message: str) -> None:
        """Tell the study that a trial's points failed."""
        for number in self._end_trial(trial.id):
            self._study.tell_failure(number)
        self._write_record()

    def note_worker_loss(self, trial: Trial) -> None:
        """Do nothing: another process resumes the trial."""

    def _load_ended_points(self) -> None:
        ended = [(number, self._add_point(number, point)) for number, point in self._study.list_ended_points()]
        results = self._ledger.results([trial.id for _, trial in ended])
        for (number, trial), result in zip(ended, results, strict=True):
            if isinstance(result, Result):
                self._finished[number] = result.metrics.get(self._search.metric, math.nan)
            elif self._ledger.trial(trial.id).read(STOPPED) is not None:
                self._stopped[trial.id] = number

    def _read_fingerprint(self, data: Data) -> str:
        """Return the fingerprint of a data source, reading each source once."""
        if data.address not in self._fingerprints:
            self._fingerprints[data.address] = self._read(data)
        return self._fingerprints[data.address]

    def _add_point(self, number: int, point: SearchPoint) -> Trial:
        (trial,) = make_search_plan(self._sweep, [point], self._read_fingerprint).trials
        self.trials[trial.id] = trial
        self._points[number], self._ids[number] = point, trial.id
        return trial

    def _try_settle_point(self, trial: Trial, number: int) -> bool:
        """Return whether a point needs no training: it has ended, or ends together with its twin."""
        if trial.id in self._training or trial.id in self.elsewhere:
            self._numbers[trial.id].append(number)
            return True
        try:
            result = self._ledger.result(trial.id)
        except WorkError as error:
            self.damaged[trial.id] = str(error)
            self._study.tell_failure(number)
            return True
        if result is not None:
            self._tell_value(number, result)
            return True
        if trial.id in self._stopped:
            self._study.tell_stop(number, like=self._stopped[trial.id])
            return True
        self._numbers[trial.id] = [number]
        return False

    def _tell_value(self, number: int, result: Result) -> None:
        value = result.metrics.get(self._search.metric, math.nan)
        self._finished[number] = value
        self._study.tell(number, value)

    def _stop_trial(self, trial_id: str, value: float, seen: int) -> None:
        asked = self._sweep.spec.base.train.samples
        reason = (
            f"stopped by the search {format_search_name(self._sweep)} at {seen:,} of {asked:,} samples: "
            f"{self._search.metric} was {value:.4g} and not among the best"
        )
        self._ledger.trial(trial_id).write(STOPPED, reason.encode())
        numbers = self._end_trial(trial_id)
        self._stopped[trial_id] = numbers[0]
        for number in numbers:
            self._study.tell_stop(number, like=None if number == numbers[0] else numbers[0])
        self._write_record()

    def _end_trial(self, trial_id: str) -> list[int]:
        """Mark a trial as ended and return its point numbers, [] if it had already ended."""
        if trial_id not in self._training and trial_id not in self.elsewhere:
            return []
        self._training.discard(trial_id)
        self.elsewhere.pop(trial_id, None)
        return self._numbers.pop(trial_id)

    def _write_record(self) -> None:
        record = self.record
        self._require()
        self._ledger.save_search(format_search_name(self._sweep), record)
        self._changed(self.plan, record)


TrainPoints = Callable[[Mapping[str, bytes]], Mapping[str, str]]
"""Trains the controller's points and returns failures. Its argument maps trials to leases that it may take over."""


class SearchRounds:
    """Train the points of a search with `train`, and wait for those that other processes hold."""

    def __init__(
        self,
        controller: SearchController,
        watchers: Sequence[Watcher],
        train: TrainPoints,
        others: LeaseWatcher,
        stopped: Callable[[], bool] = bool,
    ) -> None:
        """Train with `train`. End the search as interrupted if `stopped`, called before each round, is true."""
        self._controller, self._watchers = controller, [controller, *watchers]
        self._train, self._others, self._stopped = train, others, stopped
        self._holders: dict[str, str] = {}
        self._expired: dict[str, bytes] = {}
        self._failures: dict[str, str] = {}

    def run(self) -> SweepOutcome:
        """Run rounds until every point has ended or the search is interrupted."""
        proceed = not self._stopped()
        while proceed:
            self._failures |= self._train(self._expired)
            proceed = self._wait_for_leases()
        return SweepOutcome(self._failures, interrupted=not self._controller.complete)

    def _wait_for_leases(self) -> bool:
        """Wait while other processes hold all that is left. Return whether a point can be trained here again."""
        while self._controller.waits_on_leases and not self._stopped():
            if self._check_leases() or not self._controller.waits_on_leases:
                return not self._controller.complete
            try:
                time.sleep(LEASE_CHECK_SECONDS)
            except KeyboardInterrupt:
                return False
        return False

    def _check_leases(self) -> bool:
        """Return whether a trial held elsewhere can be trained here."""
        found = self._others.check_leases(list(self._controller.elsewhere))
        for trial_id, state in found.items():
            self._apply_lease_state(trial_id, state)
        return any(isinstance(state, Released) for state in found.values())

    def _apply_lease_state(self, trial_id: str, state: LeaseState) -> None:
        trial = self._controller.trials[trial_id]
        if isinstance(state, Lease):
            if self._holders.setdefault(trial_id, state.holder) != state.holder:
                self._holders[trial_id] = state.holder
                for watcher in self._watchers:
                    watcher.note_lease(trial, state)
        elif isinstance(state, Released):
            if state.expired is not None:
                self._expired[trial_id] = state.expired
            self._controller.requeue_trial(trial_id)
        elif isinstance(state, FailedRemotely):
            self._failures[trial_id] = state.message
            for watcher in self._watchers:
                watcher.note_failure(trial, state.message)
        else:
            for watcher in self._watchers:
                watcher.note_result(trial, state)


def run_search(
    controller: SearchController,
    ledger: Ledger,
    *,
    resources: Resources,
    data: "Mapping[str, Dataset]",
    watchers: Sequence[Watcher],
    address: str | None,
    stopped: Callable[[], bool] = bool,
) -> SweepOutcome:
    """Train the points of a search on Ray until none is left, and wait for those that other sweeps train.

    `data` is by address. Once `stopped` returns true, or no machine can hold a trial any more, no further round begins.
    """
    with open_ray_session(address), tempfile.TemporaryDirectory(prefix="gapctl-tune-") as scratch:
        claimant = LeaseOwner.for_sweep(controller.plan.sweep.spec.name)
        request = build_resource_request(resources, elastic=address is not None)
        if address is None:
            select_training_device(gpu=request.gpu)
        watch = ClusterWatch(build_trial_bundles(resources, request), elastic=address is not None)
        context = SweepContext(ledger, claimant, resources, data, [controller, *watchers], scratch, request, watch)
        train, ends = partial(_train_points, controller, context), watch.combine_stop_checks(stopped)
        return replace(SearchRounds(controller, watchers, train, LeaseWatcher(ledger), ends).run(), reason=watch.reason)


def _train_points(
    controller: SearchController, context: SweepContext, expired: Mapping[str, bytes]
) -> Mapping[str, str]:
    choosing: dict[str, Any] = {
        "search_alg": PointSearcher(controller),
        "scheduler": SearchStopScheduler(controller),
        "num_samples": -1,
    }
    return run_tuner(context, PointWorker, controller.trials, expired, known_trials={}, **choosing).failures


class PointWorker(TrialWorker):
    """A trial worker that receives its trials from Tune, as points are drawn during the search."""

    def _begin_pack(self, config: Mapping[str, Any]) -> None:
        self.cleanup()  # release the former trial before its id is forgotten
        self._work = None
        self._trials = {trial.id: trial for trial in config["drawn"]}
        super()._begin_pack(config)


class PointSearcher(Searcher):
    """Give Tune the search's next trial whenever there is room."""

    def __init__(self, controller: SearchController) -> None:
        super().__init__()
        self._controller = controller

    def __getstate__(self) -> dict[str, Any]:
        """Return {}: Tune pickles its searchers to resume by itself, but a search resumes from its study."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """Return the next trial, or that the search is finished."""
        trial = self._controller.pick_trial()
        return Searcher.FINISHED if trial is None else {"pack": [trial.id], "drawn": [trial]}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the controller is told as a watcher."""

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file: the study keeps the state."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the study keeps the state."""


class SearchStopScheduler(GracefulStopScheduler):
    """Stop trials that the search's controller wants stopped."""

    def __init__(self, controller: SearchController) -> None:
        super().__init__()
        self._controller = controller

    def __getstate__(self) -> dict[str, Any]:
        """Return {}, as `PointSearcher` does."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return whether Tune should stop or continue a trial after a report."""
        evaluated = (report for report in result["reports"] if "rows" in report)
        stops = [self._controller.should_stop(report["trial"], report["rows"]) for report in evaluated]
        return str(FIFOScheduler.STOP if any(stops) else FIFOScheduler.CONTINUE)


SEARCH_LEASE_CHECK_SECONDS: Final = 2.0


@contextmanager
def hold_search_lease(
    ledger: Ledger,
    search: str,
    say: Callable[[str], None],
    *,
    lease_seconds: float = LEASE_SECONDS,
    every: float = RENEWAL_CHECK_SECONDS,
) -> Iterator[Callable[[], None]]:
    """Hold the lease of a search named `<sweep>.<scale>`, and yield a check that raises LeaseLostError once it is lost.

    Raises InputError if another process runs the search. Whether a process on another machine still runs is judged by
    its renewals: this waits for them, says so through `say`, and takes a lease over that is not renewed.
    """
    folder = ledger.open_search_folder(search)
    _acquire_search_lease(folder, LeaseOwner.for_sweep(search), LeaseWatcher(ledger, lease_seconds), say)
    hold = folder.handle
    assert hold is not None
    renewals = LeaseRenewer(lambda: [folder], every)
    try:
        yield hold.require_ownership
    finally:
        renewals.close()
        with suppress(WorkError):  # an unreleased lease expires by itself
            folder.release()


def _acquire_search_lease(
    folder: TrialFolder, claimant: LeaseOwner, others: LeaseWatcher, say: Callable[[str], None]
) -> None:
    first = other = folder.acquire(claimant)
    if first is not None and not is_running_here(first.process):
        say(
            f"{folder.trial_id} is {first.held_by}: waiting to see whether that still runs it, which takes "
            f"{LEASE_SECONDS:.0f} s at most"
        )
    while other is not None:
        if other != first or is_running_here(other.process):
            raise InputError(
                f"{folder.path()}: another gapctl runs this search: it is {other.held_by}; expected one at a time, as "
                "each would draw the other's points. Wait for it, or end it: the same command then goes on"
            )
        time.sleep(SEARCH_LEASE_CHECK_SECONDS)
        state = others.check_leases([folder.trial_id]).get(folder.trial_id)
        if isinstance(state, Lease):
            other = state
        elif isinstance(state, Released):
            other = folder.acquire(claimant, state.expired)
