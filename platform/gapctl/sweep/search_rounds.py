"""When a search trains: all that it draws, and then what others held, once that was finished or let go."""

import time
from collections.abc import Callable, Mapping, Sequence

from gapctl.ledger import Lease
from gapctl.sweep.course import Course
from gapctl.sweep.events import Watcher
from gapctl.sweep.others import LOOK_SECONDS, FailedElsewhere, Free, Others, Standing
from gapctl.sweep.rounds import Outcome

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

    def run(self) -> Outcome:
        """Until every point has ended, or the search is interrupted."""
        going_on = not self._stopped()
        while going_on:
            self._failures |= self._train(self._expired)
            going_on = self._more_to_train()
        return Outcome(self._failures, interrupted=not self._course.complete)

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
