"""A sweep from its file to its verdicts, and the same command once more."""

from pathlib import Path

import pytest

from sweeping import run_sweep

pytestmark = pytest.mark.timeout(420)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    done = run_sweep(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_sweep_ends_in_verdicts_a_report_and_a_result_per_trial(finished: Path) -> None:
    assert len(list((finished / "runs").glob("*/result.json"))) == 2
    assert (finished / "runs" / "imbalance.smoke.report.html").is_file()


def test_a_finished_sweep_says_that_nothing_is_left_and_judges_again(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "runs").glob("*/*")}
    again = run_sweep(finished)

    assert again.returncode == 0, again.stderr
    assert "nothing is left to do" in again.stdout
    assert "information-closes-the-gap" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (finished / "runs").glob("*/*")} == before
