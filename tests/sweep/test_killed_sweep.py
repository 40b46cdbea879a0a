"""A sweep that is killed in a training and between two ends as if nothing had been, and then has nothing left to do."""

import json
import re
from functools import partial
from pathlib import Path

import pytest

from sweeping import kill_all, run_sweep, start_sweep, wait_until
from trained_alone import plan_trials, trained_alone

pytestmark = pytest.mark.timeout(900)
OFTEN = ("base.train.samples=2_560", "base.evaluate.every=640")
"""A checkpoint follows each evaluation, unless to write one takes a twentieth of the training so far."""
SETTINGS = tuple(part for change in (*OFTEN, "resources.cpus=2") for part in ("--set", change))
"""One trial at a time: half the processes to start, each of which takes seconds."""


def metrics(folder: Path) -> dict[str, str]:
    """Each finished trial's metrics, as the text that its result holds."""
    found = {}
    for path in sorted(folder.glob("*/result.json")):
        found[path.parent.name] = json.dumps(json.loads(path.read_text())["metrics"])
    return found


def files(folder: Path, pattern: str) -> list[Path]:
    return list((folder / "runs").glob(pattern))


def has_trained(folder: Path) -> bool:
    return any(int(path.stem) > 0 for path in files(folder, "*/checkpoints/0*.pt"))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that was killed in its first training and after it, and then left to finish."""
    folder = tmp_path_factory.mktemp("killed")
    for reached in (has_trained, lambda folder: bool(files(folder, "*/result.json"))):
        process = start_sweep(folder, *SETTINGS)
        wait_until(partial(reached, folder), process)
        kill_all(process)
    finished = {path: path.stat().st_mtime_ns for path in files(folder, "*/result.json")}
    assert finished

    done = run_sweep(folder, *SETTINGS)

    assert done.exit_code == 0, done.err
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    return folder


def test_a_sweep_that_is_killed_twice_finishes_with_the_same_numbers(killed: Path, tmp_path: Path) -> None:
    for trial in plan_trials(*OFTEN):
        trained_alone(trial, tmp_path, threads=2)

    assert len(metrics(killed / "runs")) == 2
    assert metrics(killed / "runs") == metrics(tmp_path)


def test_a_sweep_ends_in_a_report(killed: Path) -> None:
    (report,) = (killed / "runs").glob("imbalance.smoke.*report.html")

    assert re.fullmatch(r"imbalance\.smoke\.[0-9a-f]{8}\.report\.html", report.name), "by what --set changed"


def test_a_finished_sweep_says_that_nothing_is_left_and_judges_again(killed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in files(killed, "*/*")}
    again = run_sweep(killed, *SETTINGS)

    assert again.exit_code == 0, again.err
    assert "nothing is left to do" in again.out
    assert "information-closes-the-gap" in again.out
    assert {path: path.stat().st_mtime_ns for path in files(killed, "*/*")} == before
