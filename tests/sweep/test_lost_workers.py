"""What one trial's accident costs: nothing of its numbers, no other trial, and no verdict."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from drill.processes import below
from gapctl.cli.options import load_plan
from gapctl.ledger import Ledger
from gapctl.training.checkpoint import TrainingState, pack_checkpoint
from gapctl.training.trial_state import build_trial_model
from sweeping import command_for, run_sweep_of, wait_until

pytestmark = pytest.mark.timeout(2400)
LONGEST_SECONDS = 1200.0
LEVELS = ("full", "half", "quarter", "words", "length_matched", "keywords")
SWEEP = """\
name: lost
question: What does an accident cost?
base:
  data: {{dataset: cc12m, source: bundled}}
  model: {{preset: pairs-small, embed_dim: 32}}
  train: {{samples: {samples}, batch_size: 32}}
  evaluate: {{every: {every}, gallery: 40}}
vary:
  data.captions.keep: [{levels}]
resources: {{cpus: 1, workers: {workers}}}
hypotheses:
  - id: gap
    claim: Full captions close it.
    test: contrast
    response: gap/rmg
    factor: data.captions.keep
    between: [half, full]
    direction: either
    smallest_effect: 0.02
seeds: 1
"""
WORKER, CONTROLLER, WAITING = "RayTrainWorker", "TrainController", "ResourceTrainable"
"""How Ray names the processes of a trial on several workers; the last one waits for the others."""


def sweep_file(folder: Path, *, arms: int, workers: int, samples: int = 64, every: int = 32) -> Path:
    path = folder / "sweep.yaml"
    levels = ", ".join(LEVELS[:arms])
    path.write_text(SWEEP.format(levels=levels, workers=workers, samples=samples, every=every))
    return path


def spoil(file: Path, runs: Path, place: int) -> str:
    """Leave a checkpoint of another model where a trial would go on, whose training then raises; its id."""
    trial = load_plan(file, None, []).trainings[place]
    narrow = trial.config.model.model_copy(update={"embed_dim": 16})
    config = trial.config.model_copy(update={"model": narrow})
    model = build_trial_model(config, 0)
    folder = Ledger(str(runs)).trial(trial.id)
    folder.begin(trial)
    folder.save_checkpoint(0, pack_checkpoint(model, {}, TrainingState()))
    return trial.id


def require_all_but_one(file: Path, folder: Path, arms: int, wrong: str) -> None:
    done = run_sweep_of(file, folder)

    assert done.exit_code == 1, done.out + done.err
    finished = {path.parent.name for path in (folder / "runs").glob("*/result.json")}
    assert len(finished) == arms - 1, done.out + done.err
    assert wrong not in finished
    failure = (folder / "runs" / wrong / "failure.txt").read_text()
    assert "size mismatch" in failure.splitlines()[-1]
    assert "load_state_dict" in failure, "where it went wrong, in whichever process that was"
    assert f"{arms - 1} of {arms} trainings done" in done.out
    assert "gap  " in done.out, "the hypothesis has a row in the table of verdicts"
    assert "Interrupted" not in done.out
    assert not list((folder / "runs").glob("*/lease.json"))


def test_a_training_that_raises_costs_no_other_its_trial_and_no_verdict(tmp_path: Path) -> None:
    file = sweep_file(tmp_path, arms=3, workers=1)
    wrong = spoil(file, tmp_path / "runs", 1)

    require_all_but_one(file, tmp_path, 3, wrong)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("place", [0, 3])
def test_five_of_six_arms_are_done_where_one_raises(workers: int, place: int, tmp_path: Path) -> None:
    file = sweep_file(tmp_path, arms=6, workers=workers)
    wrong = spoil(file, tmp_path / "runs", place)

    require_all_but_one(file, tmp_path, 6, wrong)


def metrics(folder: Path) -> dict[str, Any]:
    found = {path.parent.name: json.loads(path.read_text()) for path in (folder / "runs").glob("*/result.json")}
    return {trial_id: result["metrics"] for trial_id, result in found.items()}


def newest(folder: Path) -> str:
    return max((path.name for path in (folder / "runs").glob("*/checkpoints/0*.pt")), default="")


def kill_one(process: "subprocess.Popen[str]", name: str) -> None:
    """`kill -9` of one of a sweep's processes, once the trial in training has a new checkpoint."""
    os.kill(next(each.pid for each in below(process.pid) if f"ray::{name}" in each.command), signal.SIGKILL)


@pytest.mark.slow
def test_a_trial_whose_worker_controller_and_waiting_process_are_killed_has_the_numbers_of_peace(
    tmp_path: Path,
) -> None:
    file = sweep_file(tmp_path, arms=2, workers=2, samples=3_200, every=320)
    (tmp_path / "peace").mkdir()
    peace = run_sweep_of(file, tmp_path / "peace")
    assert peace.exit_code == 0, peace.out + peace.err

    folder = tmp_path / "killed"
    folder.mkdir()
    process = subprocess.Popen(command_for(file, folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    before = "000000000000.pt"
    for name in (WORKER, CONTROLLER, WAITING):
        wait_until(lambda before=before: newest(folder) > before, process, LONGEST_SECONDS)  # type: ignore[misc]
        before = newest(folder)
        kill_one(process, name)
    output = process.communicate(timeout=LONGEST_SECONDS)[0]

    assert process.returncode == 0, output
    assert not metrics(folder).keys() ^ metrics(tmp_path / "peace").keys()
    assert metrics(folder) == metrics(tmp_path / "peace")
    assert output.count("its process was lost") >= 3, output
