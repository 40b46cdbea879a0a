"""A sweep that is killed at any moment ends with the numbers of trials that were left alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeping import kill_all, run_sweep, start_sweep, wait_until
from trained_alone import plan_trials, trained_alone

pytestmark = pytest.mark.timeout(420)


def metrics(folder: Path) -> dict[str, str]:
    """Each finished trial's metrics, as the text that its result holds."""
    found = {}
    for path in sorted(folder.glob("*/result.json")):
        found[path.parent.name] = json.dumps(json.loads(path.read_text())["metrics"])
    return found


def files(folder: Path, pattern: str) -> list[Path]:
    return list((folder / "runs").glob(pattern))


def test_a_sweep_killed_at_three_moments_finishes_with_the_same_numbers(tmp_path: Path) -> None:
    for trial in plan_trials():
        trained_alone(trial, tmp_path / "alone")
    moments: list[Callable[[], bool]] = [
        lambda: bool(files(tmp_path, "*/trial.yaml")),
        lambda: bool(files(tmp_path, "*/checkpoints/0*.pt")),
        lambda: bool(files(tmp_path, "*/result.json")),
    ]
    for reached in moments:
        process = start_sweep(tmp_path)
        wait_until(reached, process)
        kill_all(process)
    finished = {path: path.stat().st_mtime_ns for path in files(tmp_path, "*/result.json")}
    assert finished

    done = run_sweep(tmp_path)

    assert done.returncode == 0, done.stderr
    assert len(metrics(tmp_path / "runs")) == 2
    assert metrics(tmp_path / "runs") == metrics(tmp_path / "alone")
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
