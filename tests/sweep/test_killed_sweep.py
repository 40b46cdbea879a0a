"""A sweep that is killed, interrupted or run again ends with the numbers of one that was left alone."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeping import kill_all, run_sweep, start_sweep, wait_until

pytestmark = pytest.mark.timeout(420)


def metrics(folder: Path) -> dict[str, str]:
    """Each finished trial's metrics, as the text that its result holds."""
    found = {}
    for path in sorted((folder / "runs").glob("*/result.json")):
        found[path.parent.name] = json.dumps(json.loads(path.read_text())["metrics"])
    return found


def files(folder: Path, pattern: str) -> list[Path]:
    return list((folder / "runs").glob(pattern))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = run_sweep(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_sweep_ends_in_verdicts_a_report_and_a_result_per_trial(uninterrupted: Path) -> None:
    assert len(metrics(uninterrupted)) == 2
    assert (uninterrupted / "runs" / "imbalance.smoke.report.html").is_file()


def test_a_finished_sweep_says_that_nothing_is_left_and_judges_again(uninterrupted: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in files(uninterrupted, "*/*")}
    again = run_sweep(uninterrupted)

    assert again.returncode == 0, again.stderr
    assert "nothing is left to do" in again.stdout
    assert "information-closes-the-gap" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in files(uninterrupted, "*/*")} == before


def test_a_sweep_killed_at_three_moments_finishes_with_the_same_numbers(uninterrupted: Path, tmp_path: Path) -> None:
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
    assert metrics(tmp_path) == metrics(uninterrupted)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_an_interrupted_sweep_saves_where_it_stands_and_says_how_to_go_on(tmp_path: Path) -> None:
    longer = ["--set", "base.train.samples=40_960", "--set", "base.evaluate.every=40_960"]
    process = start_sweep(tmp_path, *longer)
    wait_until(lambda: any(_samples(path) > 0 for path in files(tmp_path, "*/running.json")), process)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=120)[0]

    assert process.returncode == 130, output
    assert "the same command goes on" in output
    assert "Traceback" not in output
    newest = [int(path.stem) for path in files(tmp_path, "*/checkpoints/0*.pt")]
    assert max(newest) > 0
    assert not files(tmp_path, "*/running.json")


def _samples(path: Path) -> int:
    try:
        return int(json.loads(path.read_text())["samples_seen"])
    except (OSError, ValueError):
        return 0
