"""Runs what is left of a plan and tells what became of it."""

import logging
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ray.tune import Callback

from gapctl.config.sweep import Resources
from gapctl.config.trial import Data
from gapctl.errors import GapctlError, WorkError
from gapctl.ledger import Lease, LeaseOwner, Ledger, Result
from gapctl.plan.plan import Plan, Trial, list_remaining_trials, pack_trials
from gapctl.sweep.capacity import build_resource_request, build_trial_bundles
from gapctl.sweep.lease_watch import LEASE_CHECK_SECONDS, FailedRemotely, LeaseState, LeaseWatcher, Released
from gapctl.sweep.progress import TrialReport, Watcher
from gapctl.sweep.ray_session import open_ray_session, restore_signals
from gapctl.sweep.retries import RETRIES, RetryBudget
from gapctl.sweep.worker import HARMED_KEY
from gapctl.training.hardware import select_training_device

if TYPE_CHECKING:
    from gapctl.data.load import Dataset
    from gapctl.sweep.capacity import ClusterWatch, ResourceRequest
    from gapctl.sweep.worker import TrialWorker


@dataclass(frozen=True)
class SweepOutcome:
    """What a sweep did: failures by trial id, whether it was stopped before its end, and why if the cluster did it."""

    failures: Mapping[str, str] = field(default_factory=dict)
    interrupted: bool = False
    reason: str = ""


class RoundOutcome(NamedTuple):
    """What became of the trials of a round; of those in none of these, nothing, as it was interrupted."""

    finished: Collection[str]
    failures: Mapping[str, str]
    held: Mapping[str, Lease]


TrainRound = Callable[[Sequence[Trial], Mapping[str, bytes]], RoundOutcome]
"""Trains trials beside each other; the second argument are leases that expired, by trial, which it may take over."""


class SweepRounds:
    """Trains all that is left, with `train`, and waits for what others hold until they have finished or let go."""

    def __init__(
        self,
        trials: Sequence[Trial],
        ledger: Ledger,
        watchers: Sequence[Watcher],
        train: TrainRound,
        others: LeaseWatcher,
        stopped: Callable[[], bool] = bool,
    ) -> None:
        """`stopped` is asked before each round whether the sweep is to end, as an interruption ends it."""
        self._left = {trial.id: trial for trial in trials}
        self._ledger, self._watchers, self._train, self._others = ledger, watchers, train, others
        self._stopped = stopped
        self._held: dict[str, Lease] = {}
        self._expired: dict[str, bytes] = {}
        self._failures: dict[str, str] = {}

    def run(self) -> SweepOutcome:
        """Until nothing is left, or the sweep is interrupted."""
        while self._left:
            if self._stopped():
                return SweepOutcome(self._failures, interrupted=True)
            self._check_leases()
            ready = self._select_ready_trials()
            if ready:
                if self._record_round(ready, self._train(ready, self._expired)):
                    return SweepOutcome(self._failures, interrupted=True)
            elif self._left:
                try:
                    time.sleep(LEASE_CHECK_SECONDS)
                except KeyboardInterrupt:
                    return SweepOutcome(self._failures, interrupted=True)
        return SweepOutcome(self._failures)

    def _select_ready_trials(self) -> list[Trial]:
        """What nobody is known to hold and can begin; what never can has failed."""
        begin = [
            trial for trial in self._left.values() if trial.id not in self._held and trial.parent not in self._left
        ]
        hindrances = {trial.id: why for trial in begin if (why := explain_hindrance(trial, self._ledger))}
        for trial_id, why in hindrances.items():
            self._ledger.trial(trial_id).fail(why)
            self._fail_trial(trial_id, why)
        return [trial for trial in begin if trial.id not in hindrances]

    def _record_round(self, ready: Sequence[Trial], trained: RoundOutcome) -> bool:
        self._failures |= trained.failures
        for trial_id in (*trained.finished, *trained.failures):
            self._left.pop(trial_id, None)
        self._held |= {trial_id: lease for trial_id, lease in trained.held.items() if trial_id in self._left}
        untold = [trial.id for trial in ready if trial.id in self._left and trial.id not in self._held]
        return any(not isinstance(result, Result) for result in self._ledger.results(untold))

    def _check_leases(self) -> None:
        if self._held:
            for trial_id, standing in self._others.look(list(self._held)).items():
                self._apply_lease_state(self._left[trial_id], standing)

    def _apply_lease_state(self, trial: Trial, standing: LeaseState) -> None:
        if isinstance(standing, Lease):
            if standing != self._held[trial.id]:
                self._held[trial.id] = standing
                for watcher in self._watchers:
                    watcher.held(trial, standing)
            return
        del self._held[trial.id]
        if isinstance(standing, Released):
            if standing.expired is not None:
                self._expired[trial.id] = standing.expired
        elif isinstance(standing, FailedRemotely):
            self._fail_trial(trial.id, standing.message)
        else:
            del self._left[trial.id]
            for watcher in self._watchers:
                watcher.finished(trial, standing)

    def _fail_trial(self, trial_id: str, message: str) -> None:
        self._failures[trial_id] = message
        trial = self._left.pop(trial_id)
        for watcher in self._watchers:
            watcher.failed(trial, message)


def explain_hindrance(trial: Trial, ledger: Ledger) -> str:
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


class SweepContext(NamedTuple):
    """What all rounds train with; `data` is by address, `scratch` a folder for what Tune keeps for itself;
    `request` is what each trial asks of Ray, `watch` ends all rounds where nothing can hold that any more."""

    ledger: Ledger
    claimant: LeaseOwner
    resources: Resources
    data: "Mapping[str, Dataset]"
    watchers: Sequence[Watcher]
    scratch: str
    request: "ResourceRequest"
    watch: "ClusterWatch"


def run_tuner(
    asked: SweepContext,
    worker: "type[TrialWorker]",
    trials: Mapping[str, Trial],
    expired: Mapping[str, bytes],
    *,
    told: Mapping[str, Trial],
    param_space: Mapping[str, Any] | None = None,
    **choosing: Any,
) -> "TuneEvents":
    """Has Tune train until it has no more, and gives what it noticed of `trials`, by id.

    `told` are those that processes of `worker` know from the beginning; leases in `expired` they may take over.
    `param_space` or `choosing`, more of Tune's configuration, say which pack of trials comes next.
    """
    from ray import tune

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures reach the user through the ledger
    from gapctl.sweep.lease_watch import GracefulStopScheduler, clear_dead_leases

    resources, request = asked.resources, asked.request
    events = TuneEvents(trials, asked.ledger, asked.watchers, asked.claimant.run)
    shared = {
        "trials": told,
        "data": asked.data,
        "runs": asked.ledger.everywhere,
        "threads": resources.cpus,
        "gpu": request.gpu,
        "readers": resources.readers,
        "workers": resources.workers,
        "claimant": asked.claimant,
        "expired": expired,
    }
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(worker, **shared), tune.PlacementGroupFactory(request.bundles)),
        param_space=dict(param_space) if param_space else None,
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.config["pack"][0],
            max_concurrent_trials=request.at_once,
            **{"scheduler": GracefulStopScheduler(), **choosing},
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=asked.scratch,
            verbose=0,
            stop=asked.watch,
            callbacks=[events],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
        ),
    )
    with restore_signals(), raise_own_errors():
        tuner.fit()
    clear_dead_leases(asked.ledger, events.trials_without_report, asked.claimant.run)
    return events


@contextmanager
def raise_own_errors() -> Iterator[None]:
    """Raises an error of ours as itself, where Tune has made it a traceback within one of its own."""
    from ray.tune.error import TuneError

    try:
        yield
    except TuneError as error:
        inner: BaseException | None = error
        while inner is not None:
            if isinstance(inner, GapctlError):
                raise inner from error
            inner = inner.__cause__ or inner.__context__
        raise


@dataclass(frozen=True)
class RemainingWork:
    """A plan's trials by what the ledger says of them; `damaged` maps an id to the reason."""

    done: tuple[Trial, ...]
    left: tuple[Trial, ...]
    damaged: Mapping[str, str]


def find_remaining_work(plan: Plan, ledger: Ledger) -> RemainingWork:
    """Sorts a plan's trainings; a damaged folder is neither done nor trained over."""
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
    """Trains `trials` on Ray, those that others begin with before them, and waits for what other sweeps train of them.

    `load` is called once for each data source, and the result is shared by all; `sweep` is named in leases.
    Raises InputError where Ray cannot offer what a trial asks for, nor will grow to.
    Once `stopped` says so, or no machine can hold a trial any more, no round begins, and what is left counts as
    interrupted.
    """
    data = {
        place: load(config)
        for place, config in {trial.config.data.address: trial.config.data for trial in trials}.items()
    }
    from gapctl.sweep.capacity import ClusterWatch

    with open_ray_session(address), tempfile.TemporaryDirectory(prefix="gapctl-tune-") as scratch:
        request = build_resource_request(resources, elastic=address is not None)
        if address is None:
            select_training_device(
                gpu=request.gpu
            )  # here, before a trial begins; on a cluster each worker asks for its own
        watch = ClusterWatch(build_trial_bundles(resources, request), elastic=address is not None)
        asked = SweepContext(ledger, LeaseOwner.for_sweep(sweep), resources, data, watchers, scratch, request, watch)
        rounds = SweepRounds(
            trials,
            ledger,
            watchers,
            partial(_train_round, asked),
            LeaseWatcher(ledger),
            watch.combine_stop_checks(stopped),
        )
        return replace(rounds.run(), reason=watch.reason)


def _train_round(asked: SweepContext, trials: Sequence[Trial], expired: Mapping[str, bytes]) -> RoundOutcome:
    from ray import tune

    from gapctl.sweep.worker import TrialWorker

    by_id = {trial.id: trial for trial in trials}
    packs = [[trial.id for trial in pack] for pack in pack_trials(trials, asked.resources.pack)]
    events = run_tuner(asked, TrialWorker, by_id, expired, told=by_id, param_space={"pack": tune.grid_search(packs)})
    return RoundOutcome(events.finished, events.failures, events.held)


class TuneEvents(Callback):
    """Forwards what Tune notices, and remembers the trials that failed and those that others hold."""

    def __init__(self, trials: Mapping[str, Trial], ledger: Ledger, watchers: Sequence[Watcher], run: str = "") -> None:
        """`run` is what the leases of these trials name."""
        self._trials, self._ledger, self._watchers, self._run = trials, ledger, watchers, run
        self._losses = RetryBudget()
        self.finished: set[str] = set()
        self.failures: dict[str, str] = {}
        self.held: dict[str, Lease] = {}

    @property
    def trials_without_report(self) -> list[str]:
        """The trials of which nothing was heard in the end."""
        told = {*self.finished, *self.failures, *self.held}
        return [trial_id for trial_id in self._trials if trial_id not in told]

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks for its own resumption, which the ledger takes the place of."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        for trial_id in set(trial.config["pack"]) - self.finished:
            for watcher in self._watchers:
                watcher.started(self._trials[trial_id])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._losses.progressed(trial, result["reports"])
        for report in result["reports"]:
            self._handle_report(self._trials[report["trial"]], report)
        if result.get(HARMED_KEY):
            trial.max_failures = trial.num_failures  # its process now ends itself, and nothing is left to retry

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._losses.lost(trial)
        for trial_id in set(trial.config["pack"]) - self.finished:
            for watcher in self._watchers:
                watcher.lost(self._trials[trial_id])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if trial.status != "ERROR":
            return
        message = self._losses.explain_failure(trial)
        for mine in (self._trials[trial_id] for trial_id in trial.config["pack"]):
            if mine.id not in {*self.failures, *self.held} and not self._is_done(mine):
                self._abandon_trial(mine, message)

    def _abandon_trial(self, trial: Trial, message: str) -> None:
        with suppress(WorkError):  # the disk that ended the training is as full for this
            other = self._ledger.trial(trial.id).abandon_trial(self._run, message)
            if other is not None:
                self._leave_to_holder(trial, other)
                return
        self._fail_trial(trial, message)

    def _is_done(self, trial: Trial) -> bool:
        try:
            return self._ledger.result(trial.id) is not None
        except WorkError:
            return False

    def _handle_report(self, trial: Trial, report: Mapping[str, Any]) -> None:
        if trial.id in self.finished:
            return  # a pack that lost its process tells of its finished trials once more
        if "failure" in report:
            self._fail_trial(trial, report["failure"])
            return
        if "held" in report:
            self._leave_to_holder(trial, Lease(**report["held"]))
            return
        for watcher in self._watchers:
            watcher.progressed(_build_report(trial, report))
        if report["done"]:
            self._finish_trial(trial)

    def _finish_trial(self, trial: Trial) -> None:
        result = self._ledger.result(trial.id)
        if result is None:
            self._fail_trial(
                trial, f"it is done, but not in {self._ledger.root}; expected a folder that every node sees"
            )
            return
        self.finished.add(trial.id)
        self.failures.pop(trial.id, None)
        for watcher in self._watchers:
            watcher.finished(trial, result)

    def _leave_to_holder(self, trial: Trial, lease: Lease) -> None:
        self.held[trial.id] = lease
        for watcher in self._watchers:
            watcher.held(trial, lease)

    def _fail_trial(self, trial: Trial, message: str) -> None:
        self.failures[trial.id] = message
        for watcher in self._watchers:
            watcher.failed(trial, message)


def _build_report(trial: Trial, result: Mapping[str, Any]) -> TrialReport:
    return TrialReport(
        trial=trial,
        samples_seen=result["samples_seen"],
        samples_total=result["samples_total"],
        samples_per_second=result["samples_per_second"],
        loss=result["loss"],
        rows=result["rows"],
    )
