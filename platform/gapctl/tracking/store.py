"""Open MLflow's store: check its address and its database's revision, create a missing database, explain errors.

1. `check_uri` refuses addresses that could never work, before a sweep starts.
2. `open_mlflow_client` returns a client; `stage_new_tracking_store` lets a whole new database be filled in a temporary
  place.
3. `explain_error` turns any error of MLflow, SQLAlchemy or the network into one line.
"""

import logging
import os
import re
import shutil
import socket
import sqlite3
import ssl
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from gapctl.errors import InputError
from gapctl.io.atomic import build_temporary_path
from gapctl.io.passwords import hide_password, hide_passwords
from gapctl.io.scratch import ScratchFolder
from gapctl.proxies import bypass_proxies

if TYPE_CHECKING:
    from mlflow import MlflowClient


LONGEST = 400
WORDS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((socket.gaierror,), "no machine of that name is known"),
    ((ConnectionRefusedError,), "nothing answers there (connection refused)"),
    ((TimeoutError,), "it did not answer in time"),
    ((ssl.SSLError,), "a secure connection could not be made; compare http and https"),
    ((ConnectionError,), "the connection broke"),
)
"""Explanations by kind of error. The first kind among an error and its causes decides."""

REFUSED = {"401", "403"}


def explain_error(error: BaseException) -> str:
    """Return one line about the error's cause, without class names and passwords."""
    causes = list(_list_causes(error))
    for kinds, words in WORDS:
        if any(isinstance(cause, kinds) for cause in causes):
            return words
    if any("timed out" in str(cause) for cause in causes):
        return "it did not answer in time"
    if answer := _explain_answer(str(error)):
        return answer
    # SQLite's own message says more than SQLAlchemy's around it.
    original = [getattr(cause, "orig", None) for cause in causes]
    message = next((str(cause) for cause in original if cause), "") or str(error) or type(error).__name__
    line = hide_passwords(message.strip().splitlines()[0])
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def _list_causes(error: BaseException) -> Iterator[BaseException]:
    """Iterate over the error and all its causes: Python's, wrapped errors, urllib3's reason, SQLAlchemy's original."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        found = waiting.pop(0)
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting += [getattr(found, "orig", None), getattr(found, "reason", None), *found.args]
        waiting += [found.__cause__, found.__context__]


def _explain_answer(text: str) -> str | None:
    """Return what a server's answer means that MLflow could not use, or None."""
    code = re.search(r"(?:error code |too many )(\d{3})\b", text)
    if code is None:
        return "what answers there is not an MLflow server" if "valid JSON format" in text else None
    if code[1] in REFUSED:
        return (
            f"it refuses us (HTTP {code[1]}); set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN"
        )
    if code[1] == "404":
        return "what answers there is not an MLflow server (HTTP 404)"
    return f"it answers with errors (HTTP {code[1]})"


SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
LOUD = ("mlflow", "alembic", "sqlalchemy.engine", "sqlalchemy.pool", "urllib3.connectionpool")
WARNERS = r"(mlflow|alembic|sqlalchemy|urllib3|requests)(\.|$)"


def silence_mlflow() -> None:
    """Quiet MLflow. Call this before importing it; variables that the environment has stay."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module=WARNERS)
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)


ANSWER_SECONDS: Final = 2.0
IN_USE: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
ANEW: Final = (
    "move the file away and run `gapctl track sync FILE` for each sweep that it showed: all of their runs are in the "
    "ledger"
)


class OtherDatabaseError(InputError):
    """A database that MLflow will refuse: `finding` is the problem, `fix` what to do."""

    def __init__(self, finding: str, fix: str) -> None:
        super().__init__(f"{finding}. To go on, {fix}")
        self.finding, self.fix = finding, fix


class Revisions(NamedTuple):
    """All revisions that the installed MLflow knows, and those that it requires."""

    known: frozenset[str]
    heads: frozenset[str]


def check_revision(file: Path, address: str) -> None:
    """Raise OtherDatabaseError if an SQLite database's tables are not those of the installed MLflow.

    Accepted are a database without MLflow's tables, which MLflow creates, and one that is being written now. MLflow
    upgrades an older database that lacks tables when it opens it, and refuses one that lacks none.
    """
    wanted, installed = read_installed_revisions(), "the installed MLflow"
    try:
        found = _read_revisions(file)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) in IN_USE:
            return
        raise OtherDatabaseError(f"{file}: cannot be read as an SQLite database ({error})", ANEW) from error
    if found is None or not wanted.heads or found == wanted.heads:
        return
    shown = ", ".join(sorted(found)) or "none"
    with suppress(PackageNotFoundError):
        installed = f"MLflow {version('mlflow')}"
    ours = f"{installed} wants {', '.join(sorted(wanted.heads))}"
    if not found:
        raise OtherDatabaseError(f"{file}: MLflow's tables without their revision; {ours}", ANEW)
    if found <= wanted.known:
        if _is_missing_tables(file):
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
    """Return the database's revisions, or None if it has no tables of MLflow."""
    with closing(open_read_only(file)) as store:
        tables = _list_tables(store)
        if "experiments" not in tables:
            return None
        if "alembic_version" not in tables:
            return frozenset()
        return frozenset(str(number) for (number,) in store.execute("SELECT version_num FROM alembic_version"))


def open_read_only(file: Path) -> sqlite3.Connection:
    """Open a read-only connection. Raises sqlite3.Error."""
    return sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=ANSWER_SECONDS)


def _list_tables(store: sqlite3.Connection) -> set[str]:
    return {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _is_missing_tables(file: Path) -> bool:
    """Return whether the database lacks tables of the installed MLflow."""
    silence_mlflow()
    from mlflow.store.db.base_sql_model import Base

    with closing(open_read_only(file)) as store:
        return not _list_tables(store).issuperset(Base.metadata.tables)


@cache
def read_installed_revisions() -> Revisions:
    """Read the revisions from MLflow's migration scripts, as importing MLflow takes seconds; empty if there are none.

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


SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SQLITE_HEADER = b"SQLite format 3\0"
SQLITE_ADDRESS: Final = re.compile(
    r"""[\w+]+://
    (?:[^:/]*(?::[^@]*)?@)?                                    # a user and a password
    (?:(?P<host>\[[^/?]+\]|[^/:?]+)?(?::(?P<port>[^/?]*))?)?
    (?:/(?P<file>[^?]*))?""",
    re.VERBOSE,
)
"""SQLAlchemy's grammar of addresses, up to the options."""
ARTIFACTS = "mlartifacts"


def check_uri(uri: str) -> None:
    """Raise InputError if MLflow could never be written there.

    That is an unknown scheme, a missing or read-only folder, or a database of another MLflow. A server is not
    contacted, as it may be away now and back before the sweep ends.
    """
    scheme = _get_scheme(uri)
    if scheme not in (*SERVERS, *DATABASES):
        raise _make_address_error(uri, "which is no kind of address that MLflow's runs can be kept at")
    file = find_database_file(uri)
    if file is not None:
        _check_database_file(uri, file)
        if file.exists():
            check_revision(file, make_sqlite_uri_absolute(uri))
    elif scheme in DATABASES:
        _check_driver(uri)
    else:
        try:
            named = bool(urlsplit(uri).hostname) and urlsplit(uri).port != 0
        except ValueError:
            named = False
        if not named:
            raise _make_address_error(uri, "which names no host and port")


def is_server_address(uri: str) -> bool:
    """Return whether the address is an MLflow server's."""
    return _get_scheme(uri) in SERVERS


def find_database_file(uri: str) -> Path | None:
    """Return the absolute path of an SQLite address, or None for other addresses.

    The address is read as SQLAlchemy reads it, which an environment that only plans lacks. Raises InputError if an
    SQLite address names no file.
    """
    if _get_scheme(uri) != "sqlite":
        return None
    address = SQLITE_ADDRESS.match(uri)
    if address is None or not (address["port"] or "0").isdigit():
        raise _make_address_error(uri, "which cannot be read")
    name = "" if address["host"] else unquote(address["file"] or "")
    if name in ("", ":memory:"):
        raise _make_address_error(uri, "which names no file, so that its runs would be lost at the end")
    options = uri.partition("?")[2]
    if options and ("/" in options or "=" not in options):
        raise _make_address_error(
            uri, "whose `?` begins options rather than a part of the name; write %3F for it, and %25 for a %"
        )
    return Path(name).absolute()


def format_sqlite_address(file: Path) -> str:
    """Return the address of an SQLite database at any path.

    Paths that need escapes get the driver's name: MLflow takes what follows a plain `sqlite:///` as a path, escapes
    included, and creates its folders.
    """
    plain, address = f"sqlite:///{file}", f"sqlite:///{quote(str(file), safe=' +/')}"
    return address if address == plain else address.replace("sqlite:", "sqlite+pysqlite:", 1)


def make_sqlite_uri_absolute(uri: str) -> str:
    """Return the address made independent of the working folder."""
    file = find_database_file(uri)
    return uri if file is None else format_sqlite_address(file)


def locate_artifact_root(uri: str) -> str | None:
    """Return where new experiments keep files: beside an SQLite database, None if a server decides."""
    if is_server_address(uri):
        return None
    file = find_database_file(uri)
    folder = Path.cwd() if file is None else file.parent
    return (folder / ARTIFACTS).as_uri()


def _get_scheme(uri: str) -> str:
    return uri.partition(":")[0].partition("+")[0] if ":" in uri else ""


def _check_database_file(uri: str, file: Path) -> None:
    try:
        if not file.parent.is_dir():
            finding = f"but there is no folder {file.parent}; make it"
        elif file.is_dir():
            finding = f"but {file} is a folder"
        elif file.exists() and not os.access(file, os.W_OK):
            finding = f"but {file} cannot be written; change its rights"
        elif not os.access(file.parent, os.W_OK):
            finding = f"but {file.parent}, where SQLite keeps a journal beside it, cannot be written; change its rights"
        elif file.exists() and not _begins_as_sqlite(file):
            finding = f"but {file} is not an SQLite database; move it away"
        else:
            return
    except OSError as error:
        raise _make_address_error(uri, f"but that file cannot be looked at: {error.strerror}") from error
    raise _make_address_error(uri, finding)


def _begins_as_sqlite(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(SQLITE_HEADER)) in (SQLITE_HEADER, b"")


def _check_driver(uri: str) -> None:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except (ArgumentError, NoSuchModuleError) as error:
        raise _make_address_error(uri, f"which cannot be read: {hide_passwords(str(error))}") from error
    except ValueError as error:  # its message may contain a part of the password
        finding = "whose host and port cannot be read; write a : / or @ of a password as %3A, %2F or %40"
        raise _make_address_error(uri, finding) from error
    except ImportError as error:
        raise _make_address_error(uri, f"whose driver {error.name} is not installed; install it") from error


def _make_address_error(uri: str, finding: str) -> InputError:
    return InputError(
        f"tracking.uri: found {hide_password(uri)!r}, {finding}; expected sqlite:///FILE, http(s)://HOST:PORT of "
        "an MLflow server, or the address of a PostgreSQL, MySQL or SQL Server database. Change it in the sweep file "
        "or with --set tracking.uri=..."
    )


def open_mlflow_client(uri: str) -> "MlflowClient":
    """Return a client for a store. Raises any error of MLflow or its database.

    This takes seconds the first time.
    """
    silence_mlflow()
    from mlflow import MlflowClient

    file = _find_missing_database(uri)
    if file is not None:
        with suppress(FileExistsError), build_database_aside(file):
            pass
    bypass_proxies(uri)
    if not is_server_address(uri):
        _try_database(make_sqlite_uri_absolute(uri))
        _require_default_experiment(make_sqlite_uri_absolute(uri), uri)
    return MlflowClient(make_sqlite_uri_absolute(uri))


@contextmanager
def stage_new_tracking_store(uri: str) -> Iterator[str]:
    """Yield the address to fill a store at: `uri`, or that of a new database elsewhere, moved to `uri` in the end.

    SQLite waits for the disk several times per transaction, and a trial has ten transactions. A database that nobody
    sees before it is whole needs none of that. What was written before an error is kept.

    Raises FileExistsError, with nothing written, if another process has created the database in the meantime.
    """
    file = _find_missing_database(uri)
    if file is None:
        yield uri
    else:
        with build_database_aside(file) as made:
            yield format_sqlite_address(made)


@contextmanager
def build_database_aside(file: Path) -> Iterator[Path]:
    """Create MLflow's empty tables elsewhere, and move the database to `file` as a whole in the end.

    MLflow cannot repair a database that a kill left with half of its tables.
    """
    silence_mlflow()
    with ScratchFolder("mlflow") as folder:
        made = folder.resolve() / "mlflow.db"
        with _disable_disk_sync(made):
            _require_default_experiment(format_sqlite_address(made), format_sqlite_address(file))
            try:
                yield made
            finally:
                _move_database(made, file)


def _find_missing_database(uri: str) -> Path | None:
    """Return the file of an SQLite address if there is no database yet, otherwise None."""
    file = find_database_file(uri)
    return None if file is None or (file.exists() and file.stat().st_size) else file


@contextmanager
def _disable_disk_sync(database: Path) -> Iterator[None]:
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def relax(connection: object, record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            file = connection.execute("PRAGMA database_list").fetchone()[2]
            if file == str(database):
                connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)


def _try_database(uri: str) -> None:
    """Connect once, so that errors show at once instead of after minutes of MLflow's retries."""
    from sqlalchemy import create_engine, inspect

    engine = create_engine(uri)
    try:
        inspect(engine).get_table_names()
    finally:
        engine.dispose()


def _require_default_experiment(address: str, uri: str) -> None:
    """Create MLflow's tables and its experiment `Default` if missing, with files beside the others' of `uri`.

    MLflow's client would write the working folder into SQL by joining text, which quotes break.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(address, locate_artifact_root(uri))  # type: ignore[no-untyped-call]


def _move_database(made: Path, file: Path) -> None:
    part = build_temporary_path(file)
    try:
        shutil.copyfile(made, part)
        with part.open("rb") as copied:
            os.fsync(copied.fileno())
        if file.exists() and not file.stat().st_size:
            file.unlink()
        try:
            os.link(part, file)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            part.rename(file)
    finally:
        part.unlink(missing_ok=True)
