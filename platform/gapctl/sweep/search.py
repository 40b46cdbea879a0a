"""Run a search on Ray Tune: draw points while there is room for trials, and stop the worst early.

1. `hold_search_lease` makes sure that one process runs the search.
2. `SearchController` turns points of the `Study` into trials and records how they end. Its record is written to the
   ledger after every change, and is all that the next process needs.
3. `run_search` opens Ray; `SearchRounds` trains until no point is left and waits for trials held by other processes.
4. Within a round, `PointSearcher` gives Tune the next trial, `PointWorker` trains it, and `SearchStopScheduler` stops
   it if the study says so.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from gapctl.config.load import LoadedSweep
from gapctl.config.sweep import Resources
from gapctl.errors import InputError, WorkError
from gapctl.ledger import Lease, LeaseOwner, Ledger, Result
from gapctl.ledger.lease import LEASE_SECONDS, is_running_here
from gapctl.ledger.search_record import PointRecord, SearchRecord
from gapctl.ledger.trial import HISTORY, STOPPED
from gapctl.plan.plan import DataSource, Plan, SearchPoint, Trial, get_search, make_search_plan
from gapctl.sweep.driver import Rounds, SweepContext, SweepOutcome, open_sweep_context
from gapctl.sweep.lease_watch import (
    RENEWAL_CHECK_SECONDS,
    LeaseRenewer,
    LeaseWatcher,
    Released,
)
from gapctl.sweep.progress import Watcher
from gapctl.sweep.study import Study
from gapctl.sweep.tuner import GracefulStopScheduler, run_tuner
from gapctl.sweep.worker import TrialWorker

if TYPE_CHECKING:
    from gapctl.data.load import Dataset


def format_search_name(sweep: LoadedSweep) -> str:
    """Return the ledger's name of a search, `<sweep>.<scale>`."""
    return f"{sweep.spec.name}.{sweep.scale_name_or_base}"


class SearchController(Watcher):
    """Turn the points of a study into trials and, as a `Watcher`, record how each ends.

    The record in the ledger is the whole state of the search. A point drawn before is not trained again: it gets the
    result in the ledger, or ends together with its twin.
    """

    def __init__(
        self,
        sweep: LoadedSweep,
        study: Study,
        ledger: Ledger,
        fingerprint_of: Callable[[DataSource], str],
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
        self._drawn: list[PointRecord] = []
        self._open: list[int] = []
        self._numbers: dict[str, list[int]] = {}
        self.trials: dict[str, Trial] = {}
        self.damaged: dict[str, str] = {}
        self.elsewhere: dict[str, str] = {}
        earlier = ledger.read_study_search(format_search_name(sweep), study.name)
        if earlier is not None:
            self._restore_points(sorted(earlier.drawn, key=lambda point: point.number))
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
        """The current record of the search; `importance` is left empty, as it takes longest to compute."""
        search = self._search
        return SearchRecord(self._study.name, search.metric, search.direction, search.trials, list(self._drawn))

    @property
    def plan(self) -> Plan:
        """All points so far, as trials."""
        return make_search_plan(self._sweep, [point.point for point in self._drawn], self._read_fingerprint)

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
        return not self._open and not self._needs_points and self._numbers.keys() <= self.elsewhere.keys()

    @property
    def _needs_points(self) -> bool:
        return len(self._drawn) < self._search.trials

    def pick_trial(self) -> Trial | None:
        """Return the next trial to train, or None."""
        while self._open or self._needs_points:
            number = self._open.pop(0) if self._open else self._add_point(self._study.draw_point())
            trial = self.trials[self._drawn[number].trial]
            settled = self._try_settle_point(trial, number)
            self._write_record()
            if not settled:
                return trial
        return None

    def should_stop(self, trial_id: str, rows: Sequence[Mapping[str, float]]) -> bool:
        """Record a trial's measures and return whether it should stop. A measure known before stays as it is."""
        number = self._numbers[trial_id][0]
        for row in rows:
            value, seen = row.get(self._search.metric), int(row["samples_seen"])
            if value is not None and seen > self._drawn[number].samples_seen:
                self._drawn[number] = replace(self._drawn[number], value=value, samples_seen=seen)
                train = self.trials[trial_id].config.train
                at_end = seen >= train.steps * train.batch_size  # a training that is done cannot be stopped
                if self._study.record_measure(number, value, seen) and not at_end:
                    self._stop_trial(trial_id)
                    return True
        return False

    def note_lease(self, trial: Trial, lease: Lease) -> None:
        """Note that another sweep trains the trial. Its point stays open until that sweep finishes or releases it."""
        self.elsewhere[trial.id] = (
            f"{trial.label} ({trial.id}) is trained by another sweep on {lease.host}; once it is done, the same "
            "command takes its result"
        )

    def requeue_trial(self, trial_id: str) -> None:
        """Put the points of a trial that no other sweep trains any more before all others."""
        self._open[:0] = self._end_trial(trial_id)

    def note_result(self, trial: Trial, result: Result) -> None:
        """Record the result of a trial's points."""
        for number in self._end_trial(trial.id):
            self._finish_point(number, result)
        self._write_record()

    def note_failure(self, trial: Trial, message: str) -> None:
        """Record that a trial's points failed. The next command trains them again."""
        for number in self._end_trial(trial.id):
            self._end_point(replace(self._drawn[number], state="failed"))
        self._write_record()

    def _restore_points(self, earlier: Sequence[PointRecord]) -> None:
        """Replay points of an earlier process. Those in training, then failed ones, are to be trained again.

        Their measures are those of their histories, up to where an ended one counted.
        """
        numbers = [self._add_point(point.point) for point in earlier]
        results = self._ledger.results([self._drawn[number].trial for number in numbers])
        for number, point, result in zip(numbers, earlier, results, strict=True):
            ended = point.state in ("done", "stopped")
            measured = self._read_measures(self._drawn[number].trial)
            measures = {seen: value for seen, value in measured.items() if seen <= point.samples_seen or not ended}
            if not measures and point.samples_seen:
                measures = {point.samples_seen: point.value}
            for seen, value in sorted(measures.items()):
                self._study.record_measure(number, value, seen)
                self._drawn[number] = replace(self._drawn[number], value=value, samples_seen=seen)
            if ended and isinstance(result, Result):
                self._finish_point(number, result)
            elif ended:
                self._end_point(replace(point, number=number, trial=self._drawn[number].trial))
        failed = [number for number, point in zip(numbers, earlier, strict=True) if point.state == "failed"]
        running = [number for number in numbers if self._drawn[number].state == "running"]
        self._open = sorted(running, key=lambda number: number in failed)

    def _read_measures(self, trial_id: str) -> dict[int, float]:
        """Return a trial's metric by samples seen. Only early stopping needs more than the record has."""
        history = None
        if self._search.stop_early is not None:
            with suppress(WorkError):  # whoever trains the trial names a damaged history
                history = self._ledger.trial(trial_id).read_table(HISTORY)
        if history is None or self._search.metric not in history.columns:
            return {}
        rows = history.select("samples_seen", self._search.metric).drop_nulls().iter_rows()
        return {int(seen): float(value) for seen, value in rows if seen > 0}

    def _read_fingerprint(self, data: DataSource) -> str:
        """Return the fingerprint of a data source, reading each source once."""
        if data.address not in self._fingerprints:
            self._fingerprints[data.address] = self._read(data)
        return self._fingerprints[data.address]

    def _add_point(self, point: SearchPoint) -> int:
        number = self._study.add_point(point)
        (trial,) = make_search_plan(self._sweep, [point], self._read_fingerprint).trials
        self.trials[trial.id] = trial
        self._drawn.append(PointRecord(number, trial.id, dict(point), "running", math.nan, 0))
        return number

    def _try_settle_point(self, trial: Trial, number: int) -> bool:
        """Return whether a point needs no training: it has ended, or ends together with its twin."""
        if trial.id in self._numbers:
            self._numbers[trial.id].append(number)
            return True
        try:
            result = self._ledger.result(trial.id)
        except WorkError as error:
            self.damaged[trial.id] = str(error)
            self._end_point(replace(self._drawn[number], state="failed"))
            return True
        if result is not None:
            self._finish_point(number, result)
            return True
        stopped = [point for point in self._drawn if point.trial == trial.id and point.state == "stopped"]
        if stopped:
            self._stop_twin(number, stopped[0])
            return True
        self._numbers[trial.id] = [number]
        return False

    def _finish_point(self, number: int, result: Result) -> None:
        value, samples = result.metrics.get(self._search.metric, math.nan), self._sweep.spec.base.train.samples
        self._end_point(replace(self._drawn[number], state="done", value=value, samples_seen=samples))

    def _stop_trial(self, trial_id: str) -> None:
        first, *twins = self._end_trial(trial_id)
        point = replace(self._drawn[first], state="stopped")
        reason = (
            f"stopped by the search {format_search_name(self._sweep)} at {point.samples_seen:,} of "
            f"{self._sweep.spec.base.train.samples:,} samples: {self._search.metric} was {point.value:.4g} and not "
            "among the best"
        )
        self._ledger.trial(trial_id).write(STOPPED, reason.encode())
        self._end_point(point)
        for number in twins:
            self._stop_twin(number, point)
        self._write_record()

    def _stop_twin(self, number: int, point: PointRecord) -> None:
        """End a point like its twin `point`, which was stopped."""
        self._study.record_measure(number, point.value, point.samples_seen)
        self._end_point(replace(point, number=number))

    def _end_point(self, point: PointRecord) -> None:
        self._drawn[point.number] = point
        self._study.end_point(point.number, point.state, point.value)

    def _end_trial(self, trial_id: str) -> list[int]:
        """Mark a trial as ended and return its point numbers, [] if it had already ended."""
        self.elsewhere.pop(trial_id, None)
        return self._numbers.pop(trial_id, [])

    def _write_record(self) -> None:
        self._require()
        self._ledger.save_search(format_search_name(self._sweep), self.record)
        self._changed(self.plan, self.record)


TrainPoints = Callable[[Mapping[str, bytes]], Mapping[str, str]]
"""Trains the controller's points and returns failures. Its argument maps trials to leases that it may take over."""


class SearchRounds(Rounds):
    """Rounds over the points of a search."""

    def __init__(
        self,
        controller: SearchController,
        watchers: Sequence[Watcher],
        train: TrainPoints,
        others: LeaseWatcher,
        stopped: Callable[[], bool] = bool,
    ) -> None:
        """Train with `train`. End the search as interrupted if `stopped`, called before each round, is true."""
        super().__init__([controller, *watchers], others, stopped)
        self._controller, self._train = controller, train

    def _has_work(self) -> bool:
        return not self._controller.complete

    def _get_trial(self, trial_id: str) -> Trial:
        return self._controller.trials[trial_id]

    def _list_trials_held_elsewhere(self) -> list[str]:
        return list(self._controller.elsewhere)

    def _release_trial(self, trial_id: str) -> None:
        self._controller.requeue_trial(trial_id)

    def _train_round(self) -> bool | None:
        if self._controller.waits_on_leases:
            return None
        self._failures |= self._train(self._expired)
        return self._controller.complete or self._controller.waits_on_leases


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
    owner, every = LeaseOwner.for_sweep(controller.plan.sweep.spec.name), [controller, *watchers]
    with open_sweep_context(ledger, owner, resources, data, every, address=address, stopped=stopped) as context:
        train, others = partial(_train_points, controller, context), LeaseWatcher(ledger)
        rounds = SearchRounds(controller, watchers, train, others, context.watch.has_ended)
        return replace(rounds.run(), reason=context.watch.reason)


def _train_points(
    controller: SearchController, context: SweepContext, expired: Mapping[str, bytes]
) -> Mapping[str, str]:
    return run_tuner(
        context,
        PointWorker,
        controller.trials,
        expired,
        known_trials={},
        search_alg=PointSearcher(controller),
        scheduler=SearchStopScheduler(controller),
        num_samples=-1,
    ).failures


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

    def __getstate__(self) -> dict[str, object]:
        """Return {}: Tune pickles its searchers to resume by itself, but a search resumes from its study."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """Return the next trial, or that the search is finished."""
        trial = self._controller.pick_trial()
        return Searcher.FINISHED if trial is None else {"pack": [trial.id], "drawn": [trial]}

    def on_trial_complete(self, trial_id: str, result: object = None, error: bool = False) -> None:
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

    def __getstate__(self) -> dict[str, object]:
        """Return {}, as `PointSearcher` does."""
        return {}

    def on_trial_result(self, tune_controller: object, trial: object, result: Mapping[str, Any]) -> str:
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
    claimant, others = LeaseOwner.for_sweep(search), LeaseWatcher(ledger, lease_seconds)
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
    hold = folder.handle
    assert hold is not None
    renewals = LeaseRenewer(lambda: [folder], every)
    try:
        yield hold.require_ownership
    finally:
        renewals.close()
        with suppress(WorkError):  # an unreleased lease expires by itself
            folder.release()
