"""A driver that is killed while it writes MLflow leaves nothing that the next one does not complete."""

import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from small_sweep import FINGERPRINT, Runs, Shown

from forked import ForkedProcess
from gapctl.config.load import load_sweep
from gapctl.ledger import Ledger
from gapctl.plan.plan import Plan, make_plan
from gapctl.tracking.mlflow_sync import sync_sweep
from gapctl.tracking.tracker import Tracker

pytestmark = pytest.mark.timeout(240)

HALF_ROWS = """SELECT count(*) FROM (
    SELECT 1 FROM metrics WHERE key NOT LIKE 'system/%' GROUP BY run_uuid, step HAVING count(*) != 2
)"""
"""Each row of these histories holds two numbers."""


def track(file: Path, runs: str, uri: str) -> str | None:
    """Show a sweep in MLflow as its driver does at the end; return what kept it from doing so."""
    plan = make_plan(load_sweep(file), lambda data: FINGERPRINT)
    with Tracker(plan, Ledger(runs), uri) as tracker:
        return tracker.close().problem


def driver(plan: Plan, runs: Runs, uri: str, scratch: Path) -> ForkedProcess:
    scratch.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(scratch))
        folder = scratch / "said"
        return ForkedProcess(track, plan.sweep.path, runs.ledger.root, uri, folder=folder, together=True)


def kill_when(reached: Callable[[], bool], process: ForkedProcess) -> str:
    """What it said until then."""
    while not reached():
        assert process.poll() is None, f"it ended too early: {process.communicate()[0]}"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    return process.communicate(timeout=30)[0]


def count(database: Path, query: str) -> int:
    if not database.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            return int(connection.execute(query).fetchone()[0])
    except sqlite3.OperationalError:  # the driver is writing
        return 0


def test_a_tracker_killed_twice_is_silent_and_completed_by_the_next(
    plan_of: Callable[..., Plan], runs: Runs, empty_database: Path, tmp_path: Path
) -> None:
    plan = plan_of(levels=(0, 1, 2, 3, 4, 5))
    for trial in plan.trials:
        runs.finish(trial)
    database, scratch = tmp_path / "mlflow.db", tmp_path / "making"
    uri = f"sqlite:///{database}"
    making = driver(plan, runs, uri, scratch)
    assert kill_when(lambda: bool(list(scratch.glob("gapctl-mlflow-*/mlflow.db"))), making) == ""
    assert not database.exists()

    shutil.copyfile(empty_database, database)  # making its tables again would only take time
    writing = driver(plan, runs, uri, tmp_path / "writing")
    assert kill_when(lambda: count(database, "SELECT count(*) FROM metrics") >= 20, writing) == ""
    assert count(database, HALF_ROWS) == 0

    sync_sweep(plan, runs.ledger, uri)

    shown = Shown(MlflowClient(uri))
    assert shown.trials().keys() == {trial.id for trial in plan.trials}
    assert len(shown.all()) == len(plan.trials) + 1
    assert shown.models().keys() == shown.trials().keys()
    for run in shown.trials().values():
        assert shown.history(run, "gap/rmg") == {0: 0.9, 1280: 0.5, 2560: 0.30000000000000004}
        assert shown.history(run, "train/loss") == {1280: 3.5}
        assert set(shown.history(run, "system/samples_per_second")) == {1280, 2560}
        assert run.info.status == "FINISHED"
        assert run.data.params["train.samples"] == "2560"
        assert [file.path for file in shown.client.list_artifacts(run.info.run_id)] == ["trial.yaml"]
