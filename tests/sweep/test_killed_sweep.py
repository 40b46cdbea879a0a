"""A sweep that is killed at any moment ends as if nothing had been, and once it is done there is nothing left to do."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeping import kill_all, run_sweep, start_sweep, wait_until
from trained_alone import plan_trials, trained_alone

pytestmark = pytest.mark.timeout(900)
ONE_AT_A_TIME = ("--set", "resources.cpus=2")
"""Half the processes to start: each takes seconds."""


def metrics(folder: Path) -> dict[str, str]:
    """Each finished trial's metrics, as the text that its result holds."""
    found = {}
    for path in sorted(folder.glob("*/result.json")):
        found[path.parent.name] = json.dumps(json.loads(path.read_text())["metrics"])
    return found


def files(folder: Path, pattern: str) -> list[Path]:
    return list((folder / "runs").glob(pattern))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that was killed at three moments and then left to finish, one trial at a time."""
    folder = tmp_path_factory.mktemp("killed")
    moments: list[Callable[[], bool]] = [
        lambda: bool(files(folder, "*/trial.yaml")),
        lambda: bool(files(folder, "*/checkpoints/0*.pt")),
        lambda: bool(files(folder, "*/result.json")),
    ]
    for reached in moments:
        process = start_sweep(folder, *ONE_AT_A_TIME)
        wait_until(reached, process)
        kill_all(process)
    finished = {path: path.stat().st_mtime_ns for path in files(folder, "*/result.json")}
    assert finished

    done = run_sweep(folder, *ONE_AT_A_TIME)

    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    return folder


def test_a_sweep_killed_at_three_moments_finishes_with_the_same_numbers(killed: Path, tmp_path: Path) -> None:
    for trial in plan_trials():
        trained_alone(trial, tmp_path, threads=2)

    assert len(metrics(killed / "runs")) == 2
    assert metrics(killed / "runs") == metrics(tmp_path)


def test_a_sweep_ends_in_a_report(killed: Path) -> None:
    assert (killed / "runs" / "imbalance.smoke.report.html").is_file()


def test_a_finished_sweep_says_that_nothing_is_left_and_judges_again(killed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in files(killed, "*/*")}
    again = run_sweep(killed, *ONE_AT_A_TIME)

    assert again.returncode == 0, again.stderr
    assert "nothing is left to do" in again.stdout
    assert "information-closes-the-gap" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in files(killed, "*/*")} == before
