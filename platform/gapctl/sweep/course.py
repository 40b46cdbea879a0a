"""The course of a search: which point is trained next, what its measures mean, and what the ledger keeps of it all."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from gapctl.errors import WorkError
from gapctl.ledger import Lease, Ledger, Result
from gapctl.ledger.search_record import SearchRecord
from gapctl.plan.search import Point, search_of, search_plan
from gapctl.plan.trials import Plan, Trial
from gapctl.spec.data import Data
from gapctl.spec.load import Sweep
from gapctl.sweep.events import Report
from gapctl.sweep.study import InHand, Study

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
