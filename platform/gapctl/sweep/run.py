"""Runs what is left of a plan and tells what became of it."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from gapctl.errors import WorkError
from gapctl.ledger import Claimant, Ledger, Result
from gapctl.plan.left import left_of
from gapctl.plan.packs import packed
from gapctl.plan.trials import Plan, Trial
from gapctl.spec.data import Data
from gapctl.spec.sweep import Resources
from gapctl.sweep.cluster import ray_session
from gapctl.sweep.events import Watcher
from gapctl.sweep.offer import request_of, trial_bundles
from gapctl.sweep.others import Others
from gapctl.sweep.rounds import Outcome, Rounds, Trained
from gapctl.sweep.tuning import Asked, fit
from gapctl.training.hardware import training_device

if TYPE_CHECKING:
    from gapctl.data.load import Material


@dataclass(frozen=True)
class Remainder:
    """A plan's trials by what the ledger says of them; `damaged` maps an id to the reason."""

    done: tuple[Trial, ...]
    left: tuple[Trial, ...]
    damaged: Mapping[str, str]


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
    sweep: str,
    resources: Resources,
    load: "Callable[[Data], Material]",
    watchers: Sequence[Watcher],
    address: str | None,
    stopped: Callable[[], bool] = bool,
) -> Outcome:
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
    from gapctl.sweep.cluster_watch import ClusterWatch

    with ray_session(address), tempfile.TemporaryDirectory(prefix="gapctl-tune-") as scratch:
        request = request_of(resources, elastic=address is not None)
        if address is None:
            training_device(gpu=request.gpu)  # here, before a trial begins; on a cluster each worker asks for its own
        watch = ClusterWatch(trial_bundles(resources, request), elastic=address is not None)
        asked = Asked(ledger, Claimant.for_sweep(sweep), resources, data, watchers, scratch, request, watch)
        rounds = Rounds(trials, ledger, watchers, partial(_tune, asked), Others(ledger), watch.or_when(stopped))
        return replace(rounds.run(), reason=watch.reason)


def _tune(asked: Asked, trials: Sequence[Trial], expired: Mapping[str, bytes]) -> Trained:
    from ray import tune

    from gapctl.sweep.worker import TrialWorker

    by_id = {trial.id: trial for trial in trials}
    packs = [[trial.id for trial in pack] for pack in packed(trials, asked.resources.pack)]
    events = fit(asked, TrialWorker, by_id, expired, told=by_id, param_space={"pack": tune.grid_search(packs)})
    return Trained(events.finished, events.failures, events.held)
