"""MLflow's database and files lie in the working folder, whatever characters its name has."""

import sqlite3
from pathlib import Path

import pytest
from small_sweep import Runs, Shown
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from gapctl.errors import InputError
from gapctl.plan.plan import Plan
from gapctl.tracking.mlflow_sync import sync_sweep
from gapctl.tracking.store import (
    check_uri,
    find_database_file,
    format_sqlite_address,
    make_sqlite_uri_absolute,
    open_mlflow_client,
)

ODD = ['it\'s "quoted"', "per%20cent", "ques?tion", "ha#sh;&", "-dash", "ünï", "new\nline", "{brace}", "a :b"]


@pytest.mark.parametrize("name", ODD)
def test_an_address_leads_back_to_its_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)

    address = make_sqlite_uri_absolute("sqlite:///mlflow.db")

    assert find_database_file(address) == folder / "mlflow.db"
    assert address == format_sqlite_address(folder / "mlflow.db")
    assert make_sqlite_uri_absolute(address) == address
    check_uri("sqlite:///mlflow.db")


@pytest.mark.parametrize("name", ['it\'s a "te"st', "50%25 of? {it}"])
def test_a_sweep_is_shown_from_such_a_folder(
    name: str, plan: Plan, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    for trial in plan.trials:
        runs.finish(trial)

    sync_sweep(plan, runs.ledger, "sqlite:///mlflow.db")

    shown = Shown(open_mlflow_client("sqlite:///mlflow.db"))
    assert set(shown.trials()) == {trial.id for trial in plan.trials}
    run = next(iter(shown.trials().values()))
    there = folder / "mlartifacts" / "small" / run.info.run_id / "artifacts" / "trial.yaml"
    assert Path(shown.client.download_artifacts(run.info.run_id, "trial.yaml")).read_text() == there.read_text()
    assert {path.name for path in folder.iterdir()} == {"mlartifacts", "mlflow.db"}


@pytest.mark.parametrize("uri", ["sqlite:///odd?folder/mlflow.db", "sqlite:///odd?name.db"])
def test_a_question_mark_in_an_address_is_no_silent_other_file(uri: str) -> None:
    with pytest.raises(InputError, match="write %3F for it"):
        check_uri(uri)


def test_options_of_an_address_are_no_part_of_its_file(tmp_path: Path) -> None:
    assert find_database_file(f"sqlite:///{tmp_path}/a%3Fb.db?timeout=20") == tmp_path / "a?b.db"


def change(file: Path, statement: str) -> None:
    with sqlite3.connect(file) as store:
        store.execute(statement)


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE alembic_version SET version_num = '7f2a'", r"a newer MLflow \(revision 7f2a; .*install the MLflow"),
        ("UPDATE alembic_version SET version_num = '451aebb31d03'", "an older MLflow .*run `mlflow db upgrade sqlite:"),
        ("DELETE FROM alembic_version", "tables without their revision"),
        ("DROP TABLE alembic_version", "tables without their revision"),
    ],
)
def test_a_database_of_another_mlflow_is_refused_before_work_begins(
    statement: str, finding: str, uri: str, tmp_path: Path
) -> None:
    check_uri(uri)
    change(tmp_path / "mlflow.db", statement)

    with pytest.raises(InputError, match=f"(?s)mlflow.db: .*{finding}") as said:
        check_uri(uri)
    assert "move the file away and run `gapctl track sync FILE`" in str(said.value)


def test_an_older_database_that_mlflow_brings_up_itself_is_let_through(uri: str, tmp_path: Path) -> None:
    change(tmp_path / "mlflow.db", "UPDATE alembic_version SET version_num = '451aebb31d03'")
    change(tmp_path / "mlflow.db", "DROP TABLE trace_info")

    check_uri(uri)


def test_a_damaged_database_is_refused(uri: str, tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    file.write_bytes(file.read_bytes()[:100] + b"\xff" * 5000)

    with pytest.raises(InputError, match="cannot be read as an SQLite database"):
        check_uri(uri)


def test_a_database_that_is_being_written_is_let_through(uri: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None) as store:
        store.execute("BEGIN EXCLUSIVE")
        check_uri(uri)
        store.execute("ROLLBACK")


READ_ALIKE = [
    "sqlite:///mlflow.db",
    "sqlite+pysqlite:////tmp/a%20b%25.db",
    "sqlite:///a@b:c/d.db?timeout=20",
    "sqlite://user:word@/e.db",
    "sqlite://host/f.db",
    "sqlite://[::1]/f.db",
    "sqlite://:80/f.db",
    "sqlite://:x/f.db",
    "sqlite:///:memory:",
    "sqlite:///%3Amemory%3A",
    "sqlite://",
    "sqlite:/one-slash.db",
    "sqlite:mlflow.db",
    "sqlite:///new\nline/\u00fc.db",
    "sqlite:////abs/+plus and space.db",
    "sq-lite:///x.db",
]


@pytest.mark.parametrize("address", READ_ALIKE)
def test_an_address_is_read_as_sqlalchemy_reads_it(address: str) -> None:
    try:
        parts = make_url(address)
        file = None if parts.host or parts.database in (None, "", ":memory:") else str(parts.database)
    except (ArgumentError, ValueError):
        file = None
    if not address.startswith("sqlite"):
        assert find_database_file(address) is None
    elif file is None:
        with pytest.raises(InputError):
            find_database_file(address)
    else:
        assert find_database_file(address) == Path(file).absolute()


@pytest.mark.parametrize("name", ["/a/mlflow.db", "/a b/c+d.db", "/50%25/x?y#z;&.db", "/\u00fc/\nq\"'~!.db"])
def test_an_address_is_written_as_sqlalchemy_writes_it(name: str) -> None:
    written = URL.create("sqlite", database=name).render_as_string(hide_password=False)

    assert format_sqlite_address(Path(name)).replace("+pysqlite", "") == written
