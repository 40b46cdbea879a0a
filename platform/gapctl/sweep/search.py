"""Runs what is left of a search on Ray Tune: points are drawn as there is room, and the worst are stopped early."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from gapctl.ledger import Claimant, Ledger
from gapctl.spec.sweep import Resources
from gapctl.sweep.cluster import ray_session
from gapctl.sweep.cluster_watch import ClusterWatch
from gapctl.sweep.course import Course
from gapctl.sweep.events import Watcher
from gapctl.sweep.offer import request_of, trial_bundles
from gapctl.sweep.others import Others
from gapctl.sweep.patience import PatientScheduler
from gapctl.sweep.rounds import Outcome
from gapctl.sweep.search_rounds import SearchRounds
from gapctl.sweep.tuning import Asked, fit
from gapctl.sweep.worker import TrialWorker
from gapctl.training.hardware import training_device

if TYPE_CHECKING:
    from gapctl.data.load import Material


def run_search(
    course: Course,
    ledger: Ledger,
    *,
    resources: Resources,
    data: "Mapping[str, Material]",
    watchers: Sequence[Watcher],
    address: str | None,
    stopped: Callable[[], bool] = bool,
) -> Outcome:
    """Trains the points of a course on Ray until it has no more, and waits for what other sweeps train of them.

    `data` is by address, and shared by all. Once `stopped` says so, or no machine can hold a trial any more, no round
    begins.
    """
    with ray_session(address), tempfile.TemporaryDirectory(prefix="gapctl-tune-") as scratch:
        claimant = Claimant.for_sweep(course.plan.sweep.spec.name)
        request = request_of(resources, elastic=address is not None)
        if address is None:
            training_device(gpu=request.gpu)
        watch = ClusterWatch(trial_bundles(resources, request), elastic=address is not None)
        asked = Asked(ledger, claimant, resources, data, [course, *watchers], scratch, request, watch)
        train, ends = partial(_tune, course, asked), watch.or_when(stopped)
        return replace(SearchRounds(course, watchers, train, Others(ledger), ends).run(), reason=watch.reason)


def _tune(course: Course, asked: Asked, expired: Mapping[str, bytes]) -> Mapping[str, str]:
    choosing: dict[str, Any] = {"search_alg": Points(course), "scheduler": Stops(course), "num_samples": -1}
    return fit(asked, PointWorker, course.trials, expired, told={}, **choosing).failures


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


class Stops(PatientScheduler):
    """Stops the trainings of which a course says so."""

    def __init__(self, course: Course) -> None:
        super().__init__()
        self._course = course

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as of `Points`."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether a training goes on after a report."""
        told = (report for report in result["reports"] if "rows" in report)
        stops = [self._course.stops(report["trial"], report["rows"]) for report in told]
        return str(FIFOScheduler.STOP if any(stops) else FIFOScheduler.CONTINUE)
