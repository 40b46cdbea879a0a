"""Runs what is left of a search on Ray Tune: points are drawn as there is room, and the worst are stopped early."""

import fcntl
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from gapctl.errors import InputError
from gapctl.ledger import Claimant, Ledger
from gapctl.spec.sweep import Resources
from gapctl.sweep.callback import TuneEvents
from gapctl.sweep.cluster import ray_session
from gapctl.sweep.course import Course
from gapctl.sweep.events import Watcher
from gapctl.sweep.losses import RETRIES
from gapctl.sweep.offer import request_of
from gapctl.sweep.others import Others
from gapctl.sweep.search_rounds import SearchOutcome, SearchRounds
from gapctl.sweep.signals import signals_restored
from gapctl.sweep.worker import TrialWorker

if TYPE_CHECKING:
    from gapctl.data.load import Material


class _Asked(NamedTuple):
    """What all rounds of a search train with."""

    course: Course
    ledger: Ledger
    claimant: Claimant
    resources: Resources
    data: "Mapping[str, Material]"
    watchers: Sequence[Watcher]
    scratch: str


def run_search(
    course: Course,
    ledger: Ledger,
    *,
    resources: Resources,
    data: "Mapping[str, Material]",
    watchers: Sequence[Watcher],
    address: str | None,
    stopped: Callable[[], bool] = bool,
) -> SearchOutcome:
    """Trains the points of a course on Ray until it has no more, and waits for what other sweeps train of them.

    `data` is by address, and shared by all. Once `stopped` says so no round begins.
    """
    with ray_session(address), tempfile.TemporaryDirectory(prefix="gapctl-tune-") as scratch:
        claimant = Claimant.for_sweep(course.plan.sweep.spec.name)
        asked = _Asked(course, ledger, claimant, resources, data, watchers, scratch)
        return SearchRounds(course, watchers, partial(_tune, asked), Others(ledger), stopped).run()


def _tune(asked: _Asked, expired: Mapping[str, bytes]) -> Mapping[str, str]:
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures reach the user through the ledger
    course, request = asked.course, request_of(asked.resources)
    events = TuneEvents(course.trials, asked.ledger, [course, *asked.watchers], asked.claimant.run)
    shared = {
        "trials": {},
        "data": asked.data,
        "runs": asked.ledger.everywhere,
        "threads": asked.resources.cpus,
        "gpu": request.gpu,
        "readers": asked.resources.readers,
        "workers": asked.resources.workers,
        "claimant": asked.claimant,
        "expired": expired,
    }
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(PointWorker, **shared), tune.PlacementGroupFactory(request.bundles)),
        tune_config=tune.TuneConfig(
            search_alg=Points(course),
            scheduler=Stops(course),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.config["pack"][0],
            max_concurrent_trials=request.at_once,
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=asked.scratch,
            verbose=0,
            callbacks=[events],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
        ),
    )
    with signals_restored():
        tuner.fit()
    return events.failures


class PointWorker(TrialWorker):
    """A trial worker whose trials come with what Tune hands it, as points are drawn while others are trained."""

    def _begin(self, config: Mapping[str, Any]) -> None:
        self.cleanup()  # of the trial before, which these trials do not name
        self._work = None
        self._trials = {trial.id: trial for trial in config["drawn"]}
        super()._begin(config)


class Points(Searcher):
    """Asks a course for the next trial whenever Tune has room for one."""

    def __init__(self, course: Course) -> None:
        super().__init__()
        self._course = course

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searchers for its own resumption, which the study takes the place of."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """A trial, or that there is none."""
        trial = self._course.next()
        return Searcher.FINISHED if trial is None else {"pack": [trial.id], "drawn": [trial]}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the course hears of it as a watcher."""

    def save(self, checkpoint_path: str) -> None:
        """Leaves an empty file: the study has it all."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study has it all."""


class Stops(FIFOScheduler):
    """Stops the trainings of which a course says so."""

    def __init__(self, course: Course) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._course = course

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as of `Points`."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether a training goes on after a report."""
        told = (report for report in result["reports"] if "rows" in report)
        stops = [self._course.stops(report["trial"], report["rows"]) for report in told]
        return str(FIFOScheduler.STOP if any(stops) else FIFOScheduler.CONTINUE)


@contextmanager
def alone(study_file: Path) -> Iterator[None]:
    """Keeps other processes of this machine from running a search whose study lies in this file; ends with the process.

    Raises InputError where one does.
    """
    study_file.parent.mkdir(parents=True, exist_ok=True)
    lock = study_file.with_name(f".{study_file.name}.lock")
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"{study_file}: another gapctl runs a search of this study; expected one at a time, as each would draw "
                "the other's points. Wait for it, or end it: the same command then goes on"
            ) from error
        held.write(f"{os.getpid()}\n")
        held.flush()
        yield


def study_file(ledger: Ledger, sweep: str, working_folder: Path) -> Path:
    """Where a search's study lies: beside the ledger, or in the working folder where that is an object store."""
    far = "://" in ledger.everywhere and not ledger.everywhere.startswith("file://")
    folder = working_folder if far else Path(ledger.everywhere.removeprefix("file://"))
    return folder / f"{sweep}.study.db"
