"""One call of Ray Tune: what every trial's process is told, and how Tune is set up whoever says which trial is next."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from gapctl.errors import GapctlError
from gapctl.ledger import Claimant, Ledger
from gapctl.plan.trials import Trial
from gapctl.spec.sweep import Resources
from gapctl.sweep.events import Watcher
from gapctl.sweep.losses import RETRIES
from gapctl.sweep.signals import signals_restored

if TYPE_CHECKING:
    from gapctl.data.load import Material
    from gapctl.sweep.callback import TuneEvents
    from gapctl.sweep.cluster_watch import ClusterWatch
    from gapctl.sweep.offer import Request
    from gapctl.sweep.worker import TrialWorker


class Asked(NamedTuple):
    """What all rounds train with; `data` is by address, `scratch` a folder for what Tune keeps for itself;
    `request` is what each trial asks of Ray, `watch` ends all rounds where nothing can hold that any more."""

    ledger: Ledger
    claimant: Claimant
    resources: Resources
    data: "Mapping[str, Material]"
    watchers: Sequence[Watcher]
    scratch: str
    request: "Request"
    watch: "ClusterWatch"


def fit(
    asked: Asked,
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
    from gapctl.sweep.callback import TuneEvents
    from gapctl.sweep.patience import PatientScheduler, free_what_was_killed

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
            **{"scheduler": PatientScheduler(), **choosing},
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
    with signals_restored(), own_errors():
        tuner.fit()
    free_what_was_killed(asked.ledger, events.untold, asked.claimant.run)
    return events


@contextmanager
def own_errors() -> Iterator[None]:
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
