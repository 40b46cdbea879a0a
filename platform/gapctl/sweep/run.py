"""Runs what is left of a plan and tells what became of it."""

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gapctl.errors import WorkError
from gapctl.ledger import Ledger, Result
from gapctl.plan.left import left_of
from gapctl.plan.packs import packed
from gapctl.plan.trials import Plan, Trial
from gapctl.spec.data import Data
from gapctl.spec.sweep import Resources
from gapctl.sweep.cluster import ray_session
from gapctl.sweep.events import Watcher
from gapctl.sweep.signals import signals_restored

if TYPE_CHECKING:
    from gapctl.data.load import Material

LOST_PROCESS_RETRIES = 3


@dataclass(frozen=True)
class Remainder:
    """A plan's trials by what the ledger says of them; `damaged` maps an id to the reason."""

    done: tuple[Trial, ...]
    left: tuple[Trial, ...]
    damaged: Mapping[str, str]


@dataclass(frozen=True)
class Outcome:
    """What a sweep did: failures by trial id, and whether it was stopped before its end."""

    failures: Mapping[str, str] = field(default_factory=dict)
    interrupted: bool = False


def remainder(plan: Plan, ledger: Ledger) -> Remainder:
    """Sorts a plan's trainings; a damaged folder is neither done nor trained over."""
    found = list(zip(plan.trainings, ledger.results([trial.id for trial in plan.trainings]), strict=True))
    done = tuple(trial for trial, result in found if isinstance(result, Result))
    bad = {trial.id: str(result) for trial, result in found if isinstance(result, WorkError)}
    left = left_of(plan, {trial.id for trial in done})
    return Remainder(done, tuple(trial for trial in left if trial.id not in bad), bad)


def run_trials(
    trials: Sequence[Trial],
    ledger: Ledger,
    *,
    resources: Resources,
    load: "Callable[[Data], Material]",
    watchers: Sequence[Watcher],
    address: str | None,
) -> Outcome:
    """Trains `trials` on Ray, those that others begin with before them.

    `load` is called once for each data source, and the result is shared by all.
    """
    data = {
        place: load(config)
        for place, config in {trial.config.data.address: trial.config.data for trial in trials}.items()
    }
    failures: dict[str, str] = {}
    with ray_session(address), tempfile.TemporaryDirectory(prefix="gapctl-tune-") as scratch:
        for wave in waves(trials):
            hindrances = {trial.id: why for trial in wave if (why := _hindrance(trial, ledger))}
            ready = [trial for trial in wave if trial.id not in hindrances]
            for trial_id, why in hindrances.items():
                ledger.trial(trial_id).fail(why)
            failures |= hindrances
            if ready:
                failures |= _tune(ready, ledger, resources, data, watchers, scratch)
            if _interrupted(ready, ledger, failures):
                return Outcome(failures=failures, interrupted=True)
    return Outcome(failures=failures, interrupted=False)


def waves(trials: Sequence[Trial]) -> list[list[Trial]]:
    """The trials in the order in which they can be trained: first those that begin with none of the others."""
    listed = {trial.id for trial in trials}
    first = [trial for trial in trials if trial.parent not in listed]
    return [wave for wave in (first, [trial for trial in trials if trial.parent in listed]) if wave]


def _hindrance(trial: Trial, ledger: Ledger) -> str:
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


def _interrupted(trials: Sequence[Trial], ledger: Ledger, failures: Mapping[str, str]) -> bool:
    return any(trial.id not in failures and ledger.result(trial.id) is None for trial in trials)


def _tune(
    trials: Sequence[Trial],
    ledger: Ledger,
    resources: Resources,
    data: "Mapping[str, Material]",
    watchers: Sequence[Watcher],
    scratch: str,
) -> Mapping[str, str]:
    from ray import tune

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures reach the user through the ledger
    from gapctl.sweep.callback import TuneEvents
    from gapctl.sweep.offer import request_of
    from gapctl.sweep.worker import TrialWorker

    packs = packed(trials, resources.pack)
    by_id = {trial.id: trial for trial in trials}
    events = TuneEvents(by_id, ledger, watchers)
    request = request_of(resources)
    shared = {
        "trials": by_id,
        "data": data,
        "runs": ledger.everywhere,
        "threads": resources.cpus,
        "gpu": request.gpu,
        "readers": resources.readers,
        "workers": resources.workers,
    }
    trainable = tune.with_parameters(TrialWorker, **shared)
    tuner = tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory(request.bundles)),
        param_space={"pack": tune.grid_search([[trial.id for trial in pack] for pack in packs])},
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.config["pack"][0],
            max_concurrent_trials=request.at_once,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=scratch,
            verbose=0,
            callbacks=[events],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=LOST_PROCESS_RETRIES),
        ),
    )
    with signals_restored():
        tuner.fit()
    return events.failures
