"""Whether an SQLite database is of the MLflow that is installed, asked before anything is trained or served.

MLflow numbers the states of its tables by Alembic's revisions. It refuses a database of another revision, and says so
only once it has been imported and has opened it: after the first trainings.
"""

import re
import sqlite3
from contextlib import closing
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from gapctl.errors import InputError
from gapctl.tracking.quiet import hush

ANSWER_SECONDS: Final = 2.0
IN_USE: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
ANEW: Final = (
    "move the file away and run `gapctl track sync FILE` for each sweep that it showed: all of their runs are in the "
    "ledger"
)


class OtherDatabaseError(InputError):
    """A database that MLflow will refuse: what was found, and what to do about it."""

    def __init__(self, finding: str, fix: str) -> None:
        super().__init__(f"{finding}. To go on, {fix}")
        self.finding, self.fix = finding, fix


class Revisions(NamedTuple):
    """All revisions that the installed MLflow knows, and the one that it wants."""

    known: frozenset[str]
    heads: frozenset[str]


def check_revision(file: Path, address: str) -> None:
    """Raise OtherDatabaseError where the tables in an SQLite database are not those of the installed MLflow.

    A database without tables of MLflow is right, as MLflow makes them, and so is one that is being written now. An
    older one that lacks tables is brought up to date by MLflow when it opens it; one that lacks none, it refuses.
    """
    wanted = installed_revisions()
    try:
        found = _read_revisions(file)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) in IN_USE:
            return
        raise OtherDatabaseError(f"{file}: cannot be read as an SQLite database ({error})", ANEW) from error
    if found is None or not wanted.heads or found == wanted.heads:
        return
    shown = ", ".join(sorted(found)) or "none"
    ours = f"{_installed()} wants {', '.join(sorted(wanted.heads))}"
    if not found:
        raise OtherDatabaseError(f"{file}: MLflow's tables without their revision; {ours}", ANEW)
    if found <= wanted.known:
        if _lacks_tables(file):
            return
        raise OtherDatabaseError(
            f"{file}: written by an older MLflow (revision {shown}; {ours})",
            f"keep a copy and run `mlflow db upgrade {address}`, or {ANEW}",
        )
    raise OtherDatabaseError(
        f"{file}: written by a newer MLflow (revision {shown}; {ours}), which `mlflow db upgrade` cannot take back",
        f"install the MLflow that wrote it, or {ANEW}",
    )


def _read_revisions(file: Path) -> frozenset[str] | None:
    """The revisions that a database notes, or None where MLflow has no tables there."""
    with closing(open_to_read(file)) as store:
        tables = _tables_of(store)
        if "experiments" not in tables:
            return None
        if "alembic_version" not in tables:
            return frozenset()
        return frozenset(str(number) for (number,) in store.execute("SELECT version_num FROM alembic_version"))


def open_to_read(file: Path) -> sqlite3.Connection:
    """A connection that changes nothing; raises sqlite3.Error."""
    return sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=ANSWER_SECONDS)


def _tables_of(store: sqlite3.Connection) -> set[str]:
    return {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _lacks_tables(file: Path) -> bool:
    """Whether the installed MLflow has tables that the database has not."""
    hush()
    from mlflow.store.db.base_sql_model import Base

    with closing(open_to_read(file)) as store:
        return not _tables_of(store).issuperset(Base.metadata.tables)


@cache
def installed_revisions() -> Revisions:
    """Read the revisions from MLflow's migration scripts, as importing MLflow takes seconds; none where none are there.

    A revision that no other one follows is a head.
    """
    mlflow = find_spec("mlflow")
    origin = mlflow.origin if mlflow is not None else None
    if origin is None:
        return Revisions(frozenset(), frozenset())
    known: set[str] = set()
    followed: set[str] = set()
    for script in (Path(origin).parent / "store" / "db_migrations" / "versions").glob("*.py"):
        for is_down, value in re.findall(r"^(down_)?revision\b[^=\n]*=(.*)$", script.read_text(encoding="utf-8"), re.M):
            (followed if is_down else known).update(re.findall(r"[\"'](\w+)[\"']", value))
    return Revisions(frozenset(known), frozenset(known - followed))


def _installed() -> str:
    try:
        return f"MLflow {version('mlflow')}"
    except PackageNotFoundError:
        return "the installed MLflow"
