"""Where MLflow keeps its runs: what a tracking address may be, and what lies behind it on this machine."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from gapctl.errors import InputError
from gapctl.spec.secrets import without_password, without_passwords
from gapctl.tracking.revision import check_revision

SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SQLITE_HEADER = b"SQLite format 3\0"
ARTIFACTS = "mlartifacts"


def check_uri(uri: str) -> None:
    """Raises InputError where MLflow could never be written to: an unknown scheme, no such folder, no right to write,
    a database of another MLflow.

    A server is not asked anything: it may be away now and back before the sweep ends.
    """
    scheme = _scheme(uri)
    if scheme not in (*SERVERS, *DATABASES):
        raise _wrong(uri, "which is no kind of address that MLflow's runs can be kept at")
    if scheme in SERVERS:
        _check_server(uri)
    elif scheme == "sqlite":
        file = database_file(uri)
        _check_database_file(uri, file)
        if file is not None and file.exists():
            check_revision(file, absolute(uri))
    else:
        _check_driver(uri)


def is_server(uri: str) -> bool:
    """Whether the address is that of a running MLflow server."""
    return _scheme(uri) in SERVERS


def database_file(uri: str) -> Path | None:
    """The file of an SQLite address, absolute (a relative one is below the current folder); None for other addresses.

    Raises InputError where an SQLite address names no file.
    """
    if _scheme(uri) != "sqlite":
        return None
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parts = make_url(uri)
    except (ArgumentError, ValueError) as error:
        raise _wrong(uri, "which cannot be read") from error
    name = None if parts.host else parts.database
    if not name or name == ":memory:":
        raise _wrong(uri, "which names no file, so that its runs would be lost at the end")
    options = uri.partition("?")[2]
    if options and ("/" in options or "=" not in options):
        raise _wrong(uri, "whose `?` begins options rather than a part of the name; write %3F for it, and %25 for a %")
    return Path(name).absolute()


def sqlite_address(file: Path) -> str:
    """The address of an SQLite database, whatever characters its folder's name has.

    With the driver's name, as MLflow takes what follows a plain `sqlite:///` for a path, escapes and all, and makes
    its folders.
    """
    from sqlalchemy.engine import URL

    plain = f"sqlite:///{file}"
    address = URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)
    return address if address == plain else address.replace("sqlite:", "sqlite+pysqlite:", 1)


def absolute(uri: str) -> str:
    """The same address, independent of the current folder."""
    file = database_file(uri)
    return uri if file is None else sqlite_address(file)


def artifact_root(uri: str) -> str | None:
    """Where new experiments keep their files: beside an SQLite database; None where a server decides."""
    if is_server(uri):
        return None
    file = database_file(uri)
    folder = Path.cwd() if file is None else file.parent
    return (folder / ARTIFACTS).as_uri()


def _scheme(uri: str) -> str:
    return uri.partition(":")[0].partition("+")[0] if ":" in uri else ""


def _check_server(uri: str) -> None:
    try:
        named = bool(urlsplit(uri).hostname) and urlsplit(uri).port != 0
    except ValueError:
        named = False
    if not named:
        raise _wrong(uri, "which names no host and port")


def _check_database_file(uri: str, file: Path | None) -> None:
    assert file is not None
    try:
        _require_database(uri, file)
    except OSError as error:
        raise _wrong(uri, f"but that file cannot be looked at: {error.strerror}") from error


def _require_database(uri: str, file: Path) -> None:
    if not file.parent.is_dir():
        raise _wrong(uri, f"but there is no folder {file.parent}; make it")
    if file.is_dir():
        raise _wrong(uri, f"but {file} is a folder")
    if file.exists() and not os.access(file, os.W_OK):
        raise _wrong(uri, f"but {file} cannot be written; change its rights")
    if not os.access(file.parent, os.W_OK):
        raise _wrong(
            uri, f"but {file.parent}, where SQLite keeps a journal beside it, cannot be written; change its rights"
        )
    if file.exists() and not _is_sqlite(file):
        raise _wrong(uri, f"but {file} is not an SQLite database; move it away")


def _is_sqlite(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(SQLITE_HEADER)) in (SQLITE_HEADER, b"")


def _check_driver(uri: str) -> None:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except (ArgumentError, NoSuchModuleError) as error:
        raise _wrong(uri, f"which cannot be read: {without_passwords(str(error))}") from error
    except ValueError as error:  # its words may repeat a part of the password
        finding = "whose host and port cannot be read; write a : / or @ of a password as %3A, %2F or %40"
        raise _wrong(uri, finding) from error
    except ImportError as error:
        raise _wrong(uri, f"whose driver {error.name} is not installed; install it") from error


def _wrong(uri: str, finding: str) -> InputError:
    return InputError(
        f"tracking.uri: found {without_password(uri)!r}, {finding}; expected sqlite:///FILE, http(s)://HOST:PORT of "
        "an MLflow server, or the address of a PostgreSQL, MySQL or SQL Server database. Change it in the sweep file "
        "or with --set tracking.uri=..."
    )
