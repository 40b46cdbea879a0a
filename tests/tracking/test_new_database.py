"""A database that `track sync` makes is filled aside and appears whole, whatever happens meanwhile."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient
from small_sweep import Runs, Shown

from gapctl.plan.plan import Plan
from gapctl.tracking.mlflow_sync import Projection, sync_sweep
from gapctl.tracking.store import stage_new_tracking_store


@pytest.fixture
def new(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'new.db'}"


def test_it_appears_sound_when_all_runs_are_in_it(
    finished: Plan, runs: Runs, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    settle = Projection.update_status

    def watched(self: Projection, *, closing: bool) -> None:
        settle(self, closing=closing)
        seen.append((tmp_path / "new.db").exists())

    monkeypatch.setattr(Projection, "update_status", watched)

    sync_sweep(finished, runs.ledger, new)

    shown = Shown(MlflowClient(new))
    assert seen == [False]
    assert shown.trials().keys() == {trial.id for trial in finished.trials}
    assert {run.info.status for run in shown.all()} == {"FINISHED"}
    assert [file.path for file in shown.client.list_artifacts(shown.all()[0].info.run_id)]
    assert (tmp_path / "mlartifacts" / "small").is_dir()
    assert not list(tmp_path.glob(".new.db*"))
    with sqlite3.connect(tmp_path / "new.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_an_interruption_keeps_what_was_shown_and_the_next_call_completes_it(
    finished: Plan, runs: Runs, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Projection, *, closing: bool) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Projection, "update_status", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sync_sweep(finished, runs.ledger, new)
    assert len(Shown(MlflowClient(new)).trials()) == len(finished.trials)

    again = sync_sweep(finished, runs.ledger, new)

    assert (again.created, again.unchanged) == (0, len(finished.trials))


def test_a_database_made_in_the_meantime_is_filled_and_not_replaced(
    finished: Plan, runs: Runs, new: str, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = Projection.update_status

    def another_process_comes(self: Projection, *, closing: bool) -> None:
        tell(self, closing=closing)
        if not (tmp_path / "new.db").exists():
            shutil.copyfile(empty_database, tmp_path / "new.db")
            MlflowClient(new).create_experiment("of another process")

    monkeypatch.setattr(Projection, "update_status", another_process_comes)

    sync_sweep(finished, runs.ledger, new)

    shown = Shown(MlflowClient(new))
    assert shown.client.get_experiment_by_name("of another process")
    assert len(shown.trials()) == len(finished.trials)


def test_only_the_database_aside_goes_without_waiting_for_the_disk(new: str, uri: str) -> None:
    from sqlalchemy import create_engine, text

    with stage_new_tracking_store(new) as aside:
        waits = {}
        for address in (aside, uri):
            with create_engine(address).connect() as connection:
                waits[address] = connection.execute(text("PRAGMA synchronous")).scalar()

    assert waits == {aside: 0, uri: 2}
