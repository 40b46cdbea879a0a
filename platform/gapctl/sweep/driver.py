"""Run the remaining trials of a sweep on Ray Tune and report their outcome.

1. `find_remaining_work` compares the plan with the ledger.
2. `run_trials` loads each data set once, opens Ray, and starts `SweepRounds`.
3. `SweepRounds` repeats rounds until no trial is left. A trial enters a round once its parent is done and no other
   process holds its lease. Between rounds it watches the leases of other processes.
4. `tuner.py` trains one round on Ray Tune. It is imported while Ray starts.

Results go from the workers to the ledger. Reports through Tune only say how far a trial is.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from gapctl.config.sweep import Resources
from gapctl.config.trial import Data
from gapctl.errors import WorkError
from gapctl.io.scratch import ScratchFolder
from gapctl.ledger import Lease, LeaseOwner, Ledger, Result
from gapctl.ledger.trial import WEIGHTS
from gapctl.plan.plan import Plan, Trial, list_remaining_trials
from gapctl.sweep.capacity import ClusterWatch, ResourceRequest, build_resource_request, build_trial_bundles
from gapctl.sweep.lease_watch import LEASE_CHECK_SECONDS, FailedRemotely, LeaseState, LeaseWatcher, Released
from gapctl.sweep.progress import Watcher
from gapctl.sweep.ray_session import open_ray_session

if TYPE_CHECKING:
    from gapctl.data.load import Dataset

TUNER: Final = "gapctl.sweep.tuner"
"""The module that trains a round; it imports Ray Tune, which takes a second."""


@dataclass(frozen=True)
class SweepOutcome:
    """Outcome of a sweep.

    `failures` maps a trial's id to its error. `interrupted` is true if trials are left to train. If the cluster was the
    cause, `reason` says why.
    """

    failures: Mapping[str, str] = field(default_factory=dict)
    interrupted: bool = False
    reason: str = ""


@dataclass(frozen=True)
class RemainingWork:
    """A plan's trials by their state in the ledger. `damaged` maps a trial's id to the error."""

    done: tuple[Trial, ...]
    left: tuple[Trial, ...]
    damaged: Mapping[str, str]


def find_remaining_work(plan: Plan, ledger: Ledger) -> RemainingWork:
    """Sort a plan's trials into done, remaining and damaged. A damaged folder is never trained over."""
    found = list(zip(plan.trainings, ledger.results([trial.id for trial in plan.trainings]), strict=True))
    done = tuple(trial for trial, result in found if isinstance(result, Result))
    bad = {trial.id: str(result) for trial, result in found if isinstance(result, WorkError)}
    left = list_remaining_trials(plan, {trial.id for trial in done})
    return RemainingWork(done, tuple(trial for trial in left if trial.id not in bad), bad)


def run_trials(
    trials: Sequence[Trial],
    ledger: Ledger,
    *,
    sweep: str,
    resources: Resources,
    load: "Callable[[Data], Dataset]",
    watchers: Sequence[Watcher],
    address: str | None,
    stopped: Callable[[], bool] = bool,
) -> SweepOutcome:
    """Train `trials` on Ray, parents before the trials that begin with their weights.

    `load` is called once per data source. `sweep` is the name written into leases. Trials that other processes hold are
    waited for. Once `stopped` returns true, or no machine can hold a trial any more, no further round begins, and what
    is left counts as interrupted.

    Raises InputError if Ray cannot offer the resources that a trial requests, and cannot scale up to them.
    """
    configs = {trial.config.data.address: trial.config.data for trial in trials}
    data = {address: load(config) for address, config in configs.items()}
    owner = LeaseOwner.for_sweep(sweep)
    with open_sweep_context(ledger, owner, resources, data, watchers, address=address, stopped=stopped) as context:
        from gapctl.sweep.tuner import train_round

        train, others = partial(train_round, context), LeaseWatcher(ledger)
        rounds = SweepRounds(trials, ledger, watchers, train, others, context.watch.has_ended)
        return replace(rounds.run(), reason=context.watch.reason)


class RoundOutcome(NamedTuple):
    """Outcome of a round: finished and failed trials, and those that other processes hold.

    A trial in none of the three was interrupted.
    """

    finished: Collection[str]
    failures: Mapping[str, str]
    held: Mapping[str, Lease]


TrainRound = Callable[[Sequence[Trial], Mapping[str, bytes]], RoundOutcome]
"""Trains trials side by side. The second argument maps trial ids to expired leases that may be taken over."""


class Rounds(ABC):
    """Train in rounds, and wait for the trials that other processes hold.

    Subclasses say what is left to train. They train it in `_train_round`, which returns whether to go on, or None if
    there is nothing to train at the moment.
    """

    def __init__(self, watchers: Sequence[Watcher], others: LeaseWatcher, stopped: Callable[[], bool]) -> None:
        self._watchers, self._others, self._stopped = watchers, others, stopped
        self._held: dict[str, Lease] = {}
        self._expired: dict[str, bytes] = {}
        self._failures: dict[str, str] = {}

    def run(self) -> SweepOutcome:
        """Run rounds until no trial is left or the sweep is interrupted."""
        while self._has_work():
            if self._stopped():
                return SweepOutcome(self._failures, interrupted=True)
            held = self._list_trials_held_elsewhere()
            for trial_id, state in (self._others.check_leases(held) if held else {}).items():
                self._apply_lease_state(self._get_trial(trial_id), state)
            trained = self._train_round()
            if trained is None and self._has_work():
                try:
                    time.sleep(LEASE_CHECK_SECONDS)
                except KeyboardInterrupt:
                    trained = False
            if trained is False:
                return SweepOutcome(self._failures, interrupted=True)
        return SweepOutcome(self._failures)

    def _apply_lease_state(self, trial: Trial, state: LeaseState) -> None:
        if isinstance(state, Lease):
            if state != self._held.get(trial.id):
                self._held[trial.id] = state
                for watcher in self._watchers:
                    watcher.note_lease(trial, state)
            return
        self._held.pop(trial.id, None)
        if isinstance(state, Released):
            if state.expired is not None:
                self._expired[trial.id] = state.expired
            self._release_trial(trial.id)
        elif isinstance(state, FailedRemotely):
            self._fail_trial(trial, state.message)
        else:
            self._remove_trial(trial.id)
            for watcher in self._watchers:
                watcher.note_result(trial, state)

    def _fail_trial(self, trial: Trial, message: str) -> None:
        self._failures[trial.id] = message
        self._remove_trial(trial.id)
        for watcher in self._watchers:
            watcher.note_failure(trial, message)

    @abstractmethod
    def _has_work(self) -> bool:
        """Return whether a trial is left."""

    @abstractmethod
    def _train_round(self) -> bool | None:
        """Train what is ready, and return whether to go on, or None if nothing is ready."""

    @abstractmethod
    def _get_trial(self, trial_id: str) -> Trial:
        """Return a trial by its id."""

    def _list_trials_held_elsewhere(self) -> list[str]:
        return list(self._held)

    def _release_trial(self, trial_id: str) -> None:  # noqa: B027  a search alone needs it
        """Make a trial that nobody holds any more ready for the next round."""

    def _remove_trial(self, trial_id: str) -> None:  # noqa: B027  a sweep alone needs it
        """Remove a trial that has ended from what is left."""


class SweepRounds(Rounds):
    """Rounds over trials that are all known from the start."""

    def __init__(
        self,
        trials: Sequence[Trial],
        ledger: Ledger,
        watchers: Sequence[Watcher],
        train: TrainRound,
        others: LeaseWatcher,
        stopped: Callable[[], bool] = bool,
    ) -> None:
        """Train with `train`. End the sweep as interrupted if `stopped`, called before each round, is true."""
        super().__init__(watchers, others, stopped)
        self._left = {trial.id: trial for trial in trials}
        self._ledger, self._train = ledger, train

    def _has_work(self) -> bool:
        return bool(self._left)

    def _get_trial(self, trial_id: str) -> Trial:
        return self._left[trial_id]

    def _remove_trial(self, trial_id: str) -> None:
        del self._left[trial_id]

    def _train_round(self) -> bool | None:
        ready = self._select_ready_trials()
        if not ready:
            return None
        trained = self._train(ready, self._expired)
        self._failures |= trained.failures
        for trial_id in (*trained.finished, *trained.failures):
            self._left.pop(trial_id, None)
        self._held |= {trial_id: lease for trial_id, lease in trained.held.items() if trial_id in self._left}
        unreported = [trial.id for trial in ready if trial.id in self._left and trial.id not in self._held]
        return all(isinstance(result, Result) for result in self._ledger.results(unreported))

    def _select_ready_trials(self) -> list[Trial]:
        """Return the trials that can begin now. Fail those that never can."""
        begin = [
            trial for trial in self._left.values() if trial.id not in self._held and trial.parent not in self._left
        ]
        hindrances = {trial.id: why for trial in begin if (why := explain_missing_parent(trial, self._ledger))}
        for trial_id, why in hindrances.items():
            self._ledger.trial(trial_id).fail(why)
            self._fail_trial(self._left[trial_id], why)
        return [trial for trial in begin if trial.id not in hindrances]


def explain_missing_parent(trial: Trial, ledger: Ledger) -> str:
    """Return why a trial cannot begin with its parent's weights, or "" if it can or has no parent."""
    if trial.parent is None:
        return ""
    folder = ledger.trial(trial.parent)
    try:
        if folder.result() is None:
            return f"it begins with the weights of {trial.parent}, which was not trained"
    except WorkError as error:
        return f"it begins with the weights of {trial.parent}: {error}"
    if folder.read(WEIGHTS) is None:
        return (
            f"it begins with the weights of {trial.parent}, which are gone. Move {folder.path()} away and run the "
            "sweep again: it trains that one anew"
        )
    return ""


class SweepContext(NamedTuple):
    """What all rounds of a sweep share.

    `data` holds the data sets by address, `scratch` is a folder for Tune's own files, `request` what each trial
    requests of Ray. `watch` ends the sweep if no machine can hold a trial any more.
    """

    ledger: Ledger
    claimant: LeaseOwner
    resources: Resources
    data: "Mapping[str, Dataset]"
    watchers: Sequence[Watcher]
    scratch: str
    request: ResourceRequest
    watch: ClusterWatch


@contextmanager
def open_sweep_context(
    ledger: Ledger,
    claimant: LeaseOwner,
    resources: Resources,
    data: "Mapping[str, Dataset]",
    watchers: Sequence[Watcher],
    *,
    address: str | None,
    stopped: Callable[[], bool],
) -> Iterator[SweepContext]:
    """Open Ray and yield the context of a sweep on it. Raises InputError if Ray cannot offer what a trial requests."""
    elastic = address is not None
    with open_ray_session(address, TUNER), ScratchFolder("tune") as scratch:
        request = build_resource_request(resources, elastic=elastic)
        if request.gpu and not elastic:  # fail before a trial begins; on a cluster each worker selects its own device
            from gapctl.training.hardware import select_training_device

            select_training_device(gpu=request.gpu)
        watch = ClusterWatch(build_trial_bundles(resources, request), elastic=elastic, stopped=stopped)
        yield SweepContext(ledger, claimant, resources, data, watchers, str(scratch), request, watch)
