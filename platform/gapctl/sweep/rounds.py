"""Which trials are trained when: those whose parents are done, round by round, beside what other sweeps train."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gapctl.errors import WorkError
from gapctl.ledger import Lease, Ledger, Result
from gapctl.plan.trials import Trial
from gapctl.sweep.events import Watcher
from gapctl.sweep.others import LOOK_SECONDS, FailedElsewhere, Free, Others, Standing


@dataclass(frozen=True)
class Outcome:
    """What a sweep did: failures by trial id, whether it was stopped before its end, and why if the cluster did it."""

    failures: Mapping[str, str] = field(default_factory=dict)
    interrupted: bool = False
    reason: str = ""


class Trained(NamedTuple):
    """What became of the trials of a round; of those in none of these, nothing, as it was interrupted."""

    finished: Collection[str]
    failures: Mapping[str, str]
    held: Mapping[str, Lease]


Train = Callable[[Sequence[Trial], Mapping[str, bytes]], Trained]
"""Trains trials beside each other; the second argument are leases that expired, by trial, which it may take over."""


class Rounds:
    """Trains all that is left, with `train`, and waits for what others hold until they have finished or let go."""

    def __init__(
        self,
        trials: Sequence[Trial],
        ledger: Ledger,
        watchers: Sequence[Watcher],
        train: Train,
        others: Others,
        stopped: Callable[[], bool] = bool,
    ) -> None:
        """`stopped` is asked before each round whether the sweep is to end, as an interruption ends it."""
        self._left = {trial.id: trial for trial in trials}
        self._ledger, self._watchers, self._train, self._others = ledger, watchers, train, others
        self._stopped = stopped
        self._held: dict[str, Lease] = {}
        self._expired: dict[str, bytes] = {}
        self._failures: dict[str, str] = {}

    def run(self) -> Outcome:
        """Until nothing is left, or the sweep is interrupted."""
        while self._left:
            if self._stopped():
                return Outcome(self._failures, interrupted=True)
            self._look()
            ready = self._ready()
            if ready:
                if self._interrupted(ready, self._train(ready, self._expired)):
                    return Outcome(self._failures, interrupted=True)
            elif self._left:
                try:
                    time.sleep(LOOK_SECONDS)
                except KeyboardInterrupt:
                    return Outcome(self._failures, interrupted=True)
        return Outcome(self._failures)

    def _ready(self) -> list[Trial]:
        """What nobody is known to hold and can begin; what never can has failed."""
        begin = [
            trial for trial in self._left.values() if trial.id not in self._held and trial.parent not in self._left
        ]
        hindrances = {trial.id: why for trial in begin if (why := hindrance(trial, self._ledger))}
        for trial_id, why in hindrances.items():
            self._ledger.trial(trial_id).fail(why)
            self._fail(trial_id, why)
        return [trial for trial in begin if trial.id not in hindrances]

    def _interrupted(self, ready: Sequence[Trial], trained: Trained) -> bool:
        self._failures |= trained.failures
        for trial_id in (*trained.finished, *trained.failures):
            self._left.pop(trial_id, None)
        self._held |= {trial_id: lease for trial_id, lease in trained.held.items() if trial_id in self._left}
        untold = [trial.id for trial in ready if trial.id in self._left and trial.id not in self._held]
        return any(not isinstance(result, Result) for result in self._ledger.results(untold))

    def _look(self) -> None:
        if self._held:
            for trial_id, standing in self._others.look(list(self._held)).items():
                self._note(self._left[trial_id], standing)

    def _note(self, trial: Trial, standing: Standing) -> None:
        if isinstance(standing, Lease):
            if standing != self._held[trial.id]:
                self._held[trial.id] = standing
                for watcher in self._watchers:
                    watcher.held(trial, standing)
            return
        del self._held[trial.id]
        if isinstance(standing, Free):
            if standing.expired is not None:
                self._expired[trial.id] = standing.expired
        elif isinstance(standing, FailedElsewhere):
            self._fail(trial.id, standing.message)
        else:
            del self._left[trial.id]
            for watcher in self._watchers:
                watcher.finished(trial, standing)

    def _fail(self, trial_id: str, message: str) -> None:
        self._failures[trial_id] = message
        trial = self._left.pop(trial_id)
        for watcher in self._watchers:
            watcher.failed(trial, message)


def hindrance(trial: Trial, ledger: Ledger) -> str:
    """Why a trial cannot begin with its parent's weights; nothing where it can, or has no parent."""
    if trial.parent is None:
        return ""
    folder = ledger.trial(trial.parent)
    try:
        if folder.result() is None:
            return f"it begins with the weights of {trial.parent}, which was not trained"
    except WorkError as error:
        return f"it begins with the weights of {trial.parent}: {error}"
    if folder.weights() is None:
        return (
            f"it begins with the weights of {trial.parent}, which are gone. Move {folder.path()} away and run the "
            "sweep again: it trains that one anew"
        )
    return ""
