"""Small searches whose trainings are made up: a metric by a formula, written through the ledger's own calls."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gapctl.config.load import LoadedSweep, load_sweep
from gapctl.ledger import Ledger, Result
from gapctl.plan.plan import Trial, get_search, name_study
from gapctl.sweep.search import SearchController
from gapctl.sweep.study import Study

METRIC = "quality/i2t_recall_10"
FINGERPRINT = "fingerprint"
SAMPLES = 5_120
EVERY = 1_280
SPACE: Mapping[str, Any] = {"train.lr": {"log": [1.0e-4, 1.0e-2]}, "train.batch_size": {"choice": [64, 128]}}
Measure = Callable[[Trial], float]


def search_file(folder: Path, *, samples: int = SAMPLES, **changes: Any) -> Path:
    """A sweep file with a search; `changes` are keys of its `search`, None leaves one out."""
    search = {"metric": METRIC, "direction": "maximize", "trials": 8, "space": dict(SPACE), **changes}
    document = {
        "name": "tune",
        "question": "Which is best?",
        "base": {
            "train": {"samples": samples, "batch_size": 64},
            "evaluate": {"every": EVERY, "gallery": 512},
        },
        "search": {key: value for key, value in search.items() if value is not None},
    }
    path = folder / "tune.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def loaded(folder: Path, **changes: Any) -> LoadedSweep:
    """The same, loaded."""
    return load_sweep(search_file(folder, **changes))


def course_of(sweep: LoadedSweep, folder: Path, *, require: Callable[[], None] = lambda: None) -> SearchController:
    """The course of a search as a new process finds it, with its ledger in `folder`."""
    study = Study(get_search(sweep), name_study(sweep, FINGERPRINT))
    return SearchController(sweep, study, Ledger(str(folder)), lambda data: FINGERPRINT, require)


def distance(trial: Trial) -> float:
    """Best, 1, at a learning rate of 0.001."""
    lr = trial.config.train.lr
    return 1 / (1 + abs(lr - 1e-3) * 1e3)


def train(
    course: SearchController, ledger: Ledger, trial: Trial, measure: Measure = distance, until: int = SAMPLES
) -> bool:
    """Trains and evaluates as Tune would have it; whether it was trained to `until` and not stopped before."""
    folder = ledger.trial(trial.id)
    folder.begin(trial)
    for samples_seen in range(EVERY, until + 1, EVERY):
        row = {"samples_seen": samples_seen, METRIC: measure(trial)}
        if samples_seen == SAMPLES:
            result = Result(trial.id, {METRIC: measure(trial)}, SAMPLES, 1.0, {}, {})
            folder.finish(result, weights=b"")
            course.note_result(trial, result)
        elif course.should_stop(trial.id, [row]):
            return False
    return True


def run(course: SearchController, ledger: Ledger, measure: Measure = distance, most: int = 10_000) -> list[Trial]:
    """Trains at most so many points one after another, and returns them."""
    trained: list[Trial] = []
    while len(trained) < most and (trial := course.pick_trial()) is not None:
        trained.append(trial)
        train(course, ledger, trial, measure)
    return trained


def ids(trials: Sequence[Trial]) -> list[str]:
    """Their ids."""
    return [trial.id for trial in trials]
