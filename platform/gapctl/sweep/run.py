"""Runs what is left of a plan and tells what became of it."""

import logging
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gapctl.errors import WorkError
from gapctl.ledger import Ledger, Result
from gapctl.plan.packs import packed
from gapctl.plan.trials import Plan, Trial
from gapctl.spec.sweep import Resources
from gapctl.spec.trial import Data
from gapctl.sweep.cluster import ray_session
from gapctl.sweep.events import Watcher

if TYPE_CHECKING:
    from gapctl.data.feed import TrialData

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
    """Sorts a plan's trials; a damaged folder is neither done nor trained over."""
    found = list(zip(plan.trials, ledger.results([trial.id for trial in plan.trials]), strict=True))
    return Remainder(
        done=tuple(trial for trial, result in found if isinstance(result, Result)),
        left=tuple(trial for trial, result in found if result is None),
        damaged={trial.id: str(result) for trial, result in found if isinstance(result, WorkError)},
    )


def run_trials(
    trials: Sequence[Trial],
    ledger: Ledger,
    *,
    resources: Resources,
    load: "Callable[[Data], TrialData]",
    watchers: Sequence[Watcher],
    address: str | None,
) -> Outcome:
    """Trains `trials` on Ray; `load` is called once for each data source, and the result is shared by all."""
    data = {
        config.source: load(config)
        for config in {trial.config.data.source: trial.config.data for trial in trials}.values()
    }
    with ray_session(address), tempfile.TemporaryDirectory(prefix="gapctl-tune-") as scratch:
        failures = _tune(trials, ledger, resources, data, watchers, scratch)
    results = ledger.results([trial.id for trial in trials])
    unfinished = [trial.id for trial, result in zip(trials, results, strict=True) if result is None]
    return Outcome(failures=failures, interrupted=any(trial_id not in failures for trial_id in unfinished))


def _tune(
    trials: Sequence[Trial],
    ledger: Ledger,
    resources: Resources,
    data: "Mapping[str, TrialData]",
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
        "gpu": request["gpu"] > 0,
    }
    trainable = tune.with_parameters(TrialWorker, **shared)
    tuner = tune.Tuner(
        tune.with_resources(trainable, request),
        param_space={"pack": tune.grid_search([[trial.id for trial in pack] for pack in packs])},
        tune_config=tune.TuneConfig(reuse_actors=True, trial_dirname_creator=lambda trial: trial.config["pack"][0]),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=scratch,
            verbose=0,
            callbacks=[events],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=LOST_PROCESS_RETRIES),
        ),
    )
    with _signals_restored():
        tuner.fit()
    return events.failures


@contextmanager
def _signals_restored() -> Iterator[None]:
    """Tune catches the first Ctrl-C and would go on catching it after the sweep."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
