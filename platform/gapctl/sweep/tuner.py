"""Train the trials of one round on Ray Tune.

1. `train_round` or a search calls `run_tuner`: Tune starts a `TrialWorker` per pack of trials.
2. `TuneEvents` receives what Tune notices, and forwards it to the watchers (progress display, MLflow, gauges).

The driver imports this module while Ray starts, as both take a second.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune import Callback, Stopper
from ray.tune.error import TuneError
from ray.tune.schedulers import FIFOScheduler

from gapctl.errors import GapctlError, WorkError
from gapctl.ledger import Lease, Ledger, Result
from gapctl.plan.plan import Trial, pack_trials
from gapctl.sweep.capacity import ClusterWatch
from gapctl.sweep.driver import RoundOutcome, SweepContext
from gapctl.sweep.lease_watch import GRACE_SECONDS, clear_dead_leases
from gapctl.sweep.progress import TrialReport, Watcher, WorkerReport
from gapctl.sweep.ray_private import count_memory_kills_as_losses, set_stop_timeout
from gapctl.sweep.ray_session import restore_interrupt_handler
from gapctl.sweep.retries import RETRIES, RetryBudget
from gapctl.sweep.worker import HARMED_KEY, TrialWorker

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial as TuneTrial


class RunStopper(Stopper):
    """End Tune's run once a watch says so."""

    def __init__(self, watch: ClusterWatch) -> None:
        self._watch = watch

    def __getstate__(self) -> dict[str, object]:
        """Return {}: Tune pickles its stoppers to resume by itself, but a sweep resumes from the ledger."""
        return {}

    def __call__(self, trial_id: str, result: object) -> bool:
        """Return False: single trials are never stopped."""
        return False

    def stop_all(self) -> bool:
        """Return whether the sweep must end. Tune calls this several times a second."""
        return self._watch.stop_all()


class GracefulStopScheduler(FIFOScheduler):
    """Run trials in order, and give them time to stop: by default Tune kills a process after ten seconds."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def on_trial_add(self, tune_controller: "TuneController", trial: "TuneTrial") -> None:
        """Set the controller's timeout. Tune passes its controller only to schedulers."""
        set_stop_timeout(tune_controller, GRACE_SECONDS)
        super().on_trial_add(tune_controller, trial)


def train_round(context: SweepContext, trials: Sequence[Trial], expired: Mapping[str, bytes]) -> RoundOutcome:
    """Train trials side by side; they may take over the leases in `expired`, by the trial's id."""
    by_id = {trial.id: trial for trial in trials}
    packs = [[trial.id for trial in pack] for pack in pack_trials(trials, context.resources.pack)]
    events = run_tuner(
        context, TrialWorker, by_id, expired, known_trials=by_id, param_space={"pack": tune.grid_search(packs)}
    )
    return RoundOutcome(events.finished, events.failures, events.held)


def run_tuner(
    context: SweepContext,
    worker: type[TrialWorker],
    trials: Mapping[str, Trial],
    expired: Mapping[str, bytes],
    *,
    known_trials: Mapping[str, Trial],
    param_space: Mapping[str, Any] | None = None,
    **choosing: Any,
) -> "TuneEvents":
    """Train `trials` (by id) with Tune until it has no more, and return the events.

    `known_trials` are the trials that the processes of `worker` know from the start; they may take over the leases in
    `expired`. Either `param_space` or `choosing` (more arguments of TuneConfig) selects the next pack of trials.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures reach the user through the ledger
    resources, request = context.resources, context.request
    events = TuneEvents(trials, context.ledger, context.watchers, context.claimant.run)
    shared = {
        "trials": known_trials,
        "data": context.data,
        "runs": context.ledger.everywhere,
        "threads": resources.cpus,
        "gpu": request.gpu,
        "readers": resources.readers,
        "workers": resources.workers,
        "claimant": context.claimant,
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
            storage_path=context.scratch,
            verbose=0,
            stop=RunStopper(context.watch),
            callbacks=[events],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
        ),
    )
    count_memory_kills_as_losses()
    with restore_interrupt_handler(), raise_own_errors():
        tuner.fit()
    clear_dead_leases(context.ledger, events.trials_without_report, context.claimant.run)
    return events


@contextmanager
def raise_own_errors() -> Iterator[None]:
    """Raise a GapctlError as itself if Tune has wrapped it in a traceback of its own."""
    try:
        yield
    except TuneError as error:
        inner: BaseException | None = error
        while inner is not None:
            if isinstance(inner, GapctlError):
                raise inner from error
            inner = inner.__cause__ or inner.__context__
        raise


class TuneEvents(Callback):
    """Receive Tune's events, forward them to the watchers, and record finished, failed and held trials."""

    def __init__(self, trials: Mapping[str, Trial], ledger: Ledger, watchers: Sequence[Watcher], run: str = "") -> None:
        """Handle the events of `trials`, by id. `run` is the run that their leases name."""
        self._trials, self._ledger, self._watchers, self._run = trials, ledger, watchers, run
        self._retries = RetryBudget()
        self.finished: set[str] = set()
        self.failures: dict[str, str] = {}
        self.held: dict[str, Lease] = {}

    @property
    def trials_without_report(self) -> list[str]:
        """The trials that neither finished nor failed, and that no other process holds."""
        reported = {*self.finished, *self.failures, *self.held}
        return [trial_id for trial_id in self._trials if trial_id not in reported]

    def __getstate__(self) -> dict[str, object]:
        """Return {}: Tune pickles its callbacks to resume by itself, but a sweep resumes from the ledger."""
        return {}

    def on_trial_start(self, iteration: int, trials: "list[TuneTrial]", trial: "TuneTrial", **info: object) -> None:
        """Pass on that a process begins the trials of a pack."""
        for trial_id in set(trial.config["pack"]) - self.finished:
            for watcher in self._watchers:
                watcher.note_start(self._trials[trial_id])

    def on_trial_result(
        self, iteration: int, trials: "list[TuneTrial]", trial: "TuneTrial", result: dict[str, Any], **info: object
    ) -> None:
        """Pass on the reports of a process."""
        self._retries.note_checkpoints(trial, result["reports"])
        for report in result["reports"]:
            self._handle_report(self._trials[report["trial"]], report)
        if result.get(HARMED_KEY):
            trial.max_failures = trial.num_failures  # the process now exits by itself; there is nothing to retry

    def on_trial_recover(self, iteration: int, trials: "list[TuneTrial]", trial: "TuneTrial", **info: object) -> None:
        """Pass on that a process was lost and is replaced."""
        self._retries.count_failure(trial)
        for trial_id in set(trial.config["pack"]) - self.finished:
            for watcher in self._watchers:
                watcher.note_worker_loss(self._trials[trial_id])

    def on_trial_error(self, iteration: int, trials: "list[TuneTrial]", trial: "TuneTrial", **info: object) -> None:
        """Fail the trials of a process that is not replaced any more."""
        if trial.status != "ERROR":
            return
        message = self._retries.explain_failure(trial)
        for mine in (self._trials[trial_id] for trial_id in trial.config["pack"]):
            (result,) = self._ledger.results([mine.id])
            if mine.id not in {*self.failures, *self.held} and not isinstance(result, Result):
                self._abandon_trial(mine, message)

    def _abandon_trial(self, trial: Trial, message: str) -> None:
        with suppress(WorkError):  # the disk that ended the training is as full for this
            other = self._ledger.trial(trial.id).abandon_trial(self._run, message)
            if other is not None:
                self._leave_to_holder(trial, other)
                return
        self._fail_trial(trial, message)

    def _handle_report(self, trial: Trial, report: WorkerReport) -> None:
        if trial.id in self.finished:
            return  # a pack whose process was lost reports its finished trials again
        if "failure" in report:
            self._fail_trial(trial, report["failure"])
            return
        if "held" in report:
            self._leave_to_holder(trial, Lease(**report["held"]))
            return
        if "lost" in report:
            for watcher in self._watchers:
                watcher.note_worker_loss(trial)
            return
        seen, total, rate = report["samples_seen"], report["samples_total"], report["samples_per_second"]
        for watcher in self._watchers:
            watcher.note_progress(TrialReport(trial, seen, total, rate, report["loss"], report["rows"]))
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
            watcher.note_result(trial, result)

    def _leave_to_holder(self, trial: Trial, lease: Lease) -> None:
        self.held[trial.id] = lease
        for watcher in self._watchers:
            watcher.note_lease(trial, lease)

    def _fail_trial(self, trial: Trial, message: str) -> None:
        self.failures[trial.id] = message
        for watcher in self._watchers:
            watcher.note_failure(trial, message)
