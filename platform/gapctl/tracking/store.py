"""Opening MLflow's store, and making its database in one piece where there is none."""

import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from gapctl.proxies import bypass_proxies
from gapctl.tracking.quiet import hush
from gapctl.tracking.uri import absolute, artifact_root, database_file, is_server, sqlite_address

if TYPE_CHECKING:
    from mlflow import MlflowClient


def open_store(uri: str) -> "MlflowClient":
    """A client of the store at an address; takes seconds at first, and raises whatever MLflow or its database raise."""
    hush()
    from mlflow import MlflowClient

    file = _missing_database(uri)
    if file is not None:
        with suppress(FileExistsError), database_aside(file):
            pass
    bypass_proxies(uri)
    if not is_server(uri):
        _try_database(absolute(uri))
        _require_default_experiment(absolute(uri), uri)
    return MlflowClient(absolute(uri))


@contextmanager
def filled_aside(uri: str) -> Iterator[str]:
    """The address to fill a store at: `uri`, or a database aside where there is none yet, which is moved there.

    SQLite waits for the disk several times at each of MLflow's transactions, of which a trial has ten. A database that
    nobody sees before it is whole needs none of that. What was written before an error is kept. Raises FileExistsError
    where another process has made the database in the meantime; it has nothing of ours then.
    """
    file = _missing_database(uri)
    if file is None:
        yield uri
    else:
        with database_aside(file) as made:
            yield sqlite_address(made)


@contextmanager
def database_aside(file: Path) -> Iterator[Path]:
    """MLflow's empty tables in another place, moved to `file` in the end, as a whole.

    MLflow cannot repair a database that a kill left halfway through the making of its tables.
    """
    hush()
    with TemporaryDirectory(prefix="gapctl-mlflow-") as folder:
        made = Path(folder).resolve() / "mlflow.db"
        with _not_waiting_for_the_disk(made):
            _require_default_experiment(sqlite_address(made), sqlite_address(file))
            try:
                yield made
            finally:
                _move(made, file)


def _missing_database(uri: str) -> Path | None:
    """The file of an SQLite address where there is no database yet."""
    file = database_file(uri)
    return None if file is None or (file.exists() and file.stat().st_size) else file


@contextmanager
def _not_waiting_for_the_disk(database: Path) -> Iterator[None]:
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def relax(connection: object, record: object) -> None:
        if isinstance(connection, sqlite3.Connection) and _file_of(connection) == str(database):
            connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)


def _file_of(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA database_list").fetchone()[2])


def _try_database(uri: str) -> None:
    """Fails at once where MLflow would try again for minutes."""
    from sqlalchemy import create_engine, inspect

    engine = create_engine(uri)
    try:
        inspect(engine).get_table_names()
    finally:
        engine.dispose()


def _require_default_experiment(address: str, uri: str) -> None:
    """Make MLflow's tables and its experiment `Default` where there are none, its files beside the others' of `uri`.

    MLflow's client would name the working folder in SQL that it puts together from text, which quotes break.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(address, artifact_root(uri))  # type: ignore[no-untyped-call]


def _move(made: Path, file: Path) -> None:
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        shutil.copyfile(made, part)
        with part.open("rb") as copied:
            os.fsync(copied.fileno())
        _put(part, file)
    finally:
        part.unlink(missing_ok=True)


def _put(part: Path, file: Path) -> None:
    """Never over a database that another process made in the meantime."""
    if file.exists() and not file.stat().st_size:
        file.unlink()
    try:
        os.link(part, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        part.rename(file)
