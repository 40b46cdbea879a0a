"""A cohort's models are trained, then measured; killed at four moments, the sweep ends with the numbers of a quiet one.

Trials run as in a sweep, without Ray between. Each process ends itself by `kill -9` at the moment that is meant.
"""

import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from forked import PROCESSES
from gapctl.cli.options import compute_data_source_fingerprint
from gapctl.config.load import load_sweep
from gapctl.ledger import Ledger
from gapctl.ledger.trial import WEIGHTS
from gapctl.plan.plan import Plan, make_plan
from small_sets import write_retrieval
from sweep_without_ray import sweep_alone
from tiny_models import TINY_RESNET, TINY_VIT

LONGEST_SECONDS: Final = 600.0
SWEEP: Final = """\
name: killed
question: Do small models differ?
base:
  data: {{dataset: image_text, captions: {{keep: words}}}}
  model: {{architecture: vit.json}}
  init_from: {{train.samples: 96}}
  train: {{samples: 0, batch_size: 16, precision: float32}}
  evaluate: {{every: 32, gallery: 20, sets: [words]}}
evaluation_sets:
  words: {{kind: retrieval, source: {words}}}
cohort:
  models:
    - {{name: short, architecture: vit.json, init_from.train.samples: 64}}
    - {{name: long, architecture: vit.json}}
    - {{name: resnet, architecture: resnet.json}}
"""


def plan_of(folder: Path) -> Plan:
    return make_plan(load_sweep(folder / "killed.yaml"), compute_data_source_fingerprint)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(call: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which kills its process in place of that call, counted from 1."""
    calls = 0

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            kill_itself()
        return function(*arguments, **named)

    return counted


def die_in_a_training() -> None:
    """In the fourth of the second model's six steps, of which two are in a checkpoint."""
    from gapctl.training.trainer import PackedTrials

    PackedTrials.step = die_at(4 + 4, PackedTrials.step)  # type: ignore[method-assign]


def die_while_measuring() -> None:
    """Where the second model is shown the set's images."""
    from gapctl.training import set_evaluation

    set_evaluation._encode_images = die_at(2, set_evaluation._encode_images)


def die_while_writing_a_result() -> None:
    """After the weights of the next trial were written, before its result."""
    from gapctl.ledger import trial

    trial.serialize_result = die_at(1, trial.serialize_result)


MOMENTS: Final[Mapping[str, Callable[[], None]]] = {
    "in a training": die_in_a_training,
    "while a model is measured": die_while_measuring,
    "while a result is written": die_while_writing_a_result,
    "between two trials": lambda: None,
}


def run(folder: Path, moment: str) -> None:
    """The sweep as a process of its own, until the moment."""
    torch.set_num_threads(1)
    MOMENTS[moment]()
    ended = (lambda trial_id: kill_itself()) if moment == "between two trials" else (lambda trial_id: None)
    sweep_alone(plan_of(folder), Ledger(str(folder / "killed")), ended)


def read_results(runs: Path, plan: Plan) -> dict[str, tuple[str, bytes]]:
    """Metrics and weights of every finished training, by its label."""
    found = {}
    for trial in plan.trainings:
        result, weights = Ledger(str(runs)).result(trial.id), Ledger(str(runs)).trial(trial.id).read(WEIGHTS)
        if result is not None and weights is not None:
            found[trial.label] = json.dumps(dict(result.metrics)), weights
    return found


@pytest.mark.timeout(1800)
def test_a_cohort_that_is_killed_at_four_moments_has_the_numbers_of_a_quiet_one(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    write_retrieval(tmp_path / "words")
    for name, config in (("vit", TINY_VIT), ("resnet", TINY_RESNET)):
        (tmp_path / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "killed.yaml").write_text(SWEEP.format(words=tmp_path / "words"), encoding="utf-8")
    plan = plan_of(tmp_path)
    assert not sweep_alone(plan, Ledger(str(tmp_path / "quiet"))).failures
    quiet = read_results(tmp_path / "quiet", plan)
    assert len(quiet) == 6

    finished = []
    for moment in MOMENTS:
        process = PROCESSES.Process(target=run, args=(tmp_path, moment))
        process.start()
        process.join(LONGEST_SECONDS)
        assert process.exitcode == -signal.SIGKILL, moment
        found = read_results(tmp_path / "killed", plan)
        assert found == {label: quiet[label] for label in found}
        finished.append(len(found))
    assert finished == [1, 4, 4, 5]

    trained: list[str] = []
    assert not sweep_alone(plan, Ledger(str(tmp_path / "killed")), trained.append).failures
    assert trained == [plan.trials[-1].id]
    assert read_results(tmp_path / "killed", plan) == quiet
