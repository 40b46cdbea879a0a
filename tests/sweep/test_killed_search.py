"""A search that is killed in its middle, driver and Ray and all, goes on without losing or repeating a training."""

import json
from pathlib import Path

import pytest

from searches import search_file
from sweeping import kill_all, run_sweep_of, start_sweep_of, wait_until

pytestmark = pytest.mark.timeout(900)
TRIALS = 3
ONE_AT_A_TIME = ("--set", "resources.cpus=2")
"""Half the processes to start, each of which takes seconds."""


def ended(folder: Path) -> dict[str, str]:
    """The points that are done, each with its result as it lies there and when that was written."""
    return {path.parent.name: f"{path.stat().st_mtime_ns} {path.read_text()}" for path in folder.glob("*/result.json")}


def began(folder: Path) -> dict[str, int]:
    """When each trial began: its configuration is written once."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/trial.yaml")}


def test_a_killed_search_goes_on_with_the_points_it_had(tmp_path: Path) -> None:
    file = search_file(tmp_path, samples=2_560, trials=TRIALS, space={"train.lr": {"log": [1e-4, 1e-2]}})
    runs = tmp_path / "runs"
    process = start_sweep_of(file, tmp_path, *ONE_AT_A_TIME)
    wait_until(lambda: bool(ended(runs)) and len(began(runs)) > len(ended(runs)), process)
    kill_all(process)
    done, open_then = ended(runs), began(runs)

    finished = run_sweep_of(file, tmp_path, *ONE_AT_A_TIME)

    assert finished.exit_code == 0, finished.err + finished.out
    record = json.loads((runs / "tune.base.search.json").read_text())
    assert [drawn["state"] for drawn in record["drawn"]] == ["done"] * TRIALS
    assert {drawn["trial"] for drawn in record["drawn"]} == set(ended(runs)) == set(began(runs))
    assert len(ended(runs)) == TRIALS
    assert done.items() <= ended(runs).items()
    assert open_then.items() <= began(runs).items()
    assert f"--set base.train.lr={record_best(record)}" in finished.out
    assert (runs / "tune.base.report.html").is_file()


def record_best(record: dict[str, list[dict[str, dict[str, float]]]]) -> float:
    best = max(record["drawn"], key=lambda drawn: drawn["value"])  # type: ignore[arg-type,return-value]
    return best["point"]["train.lr"]
