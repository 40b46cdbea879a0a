"""Open object stores with bounded timeouts, and retry requests that fail for a while."""

import errno
import http.client
import random
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


Answer = TypeVar("Answer")

OPTIONS: Final[Mapping[str, Mapping[str, object]]] = {
    "s3": {
        "config_kwargs": {
            "connect_timeout": 5,
            "read_timeout": 20,
            "retries": {"mode": "standard", "total_max_attempts": 3},
        },
        "use_listings_cache": False,
    }
}
"""Client options by scheme. botocore makes three attempts; a listings cache would hide what other processes wrote."""

EXTRAS: Final = {"s3": "s3", "gs": "gcs", "gcs": "gcs"}
"""The optional dependency of gapctl that a scheme needs."""

WEB_SCHEMES: Final = frozenset({"http", "https"})

FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 8.0
BUSY: Final = 429
SERVERS_FAULT: Final = 500
FOR_GOOD: Final = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
ERRNOS: Final = frozenset(
    {errno.EBUSY, errno.EREMOTEIO, errno.EIO, errno.EAGAIN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN}
)
NAMES: Final = frozenset(
    {
        "botocore.exceptions.HTTPClientError",
        "botocore.exceptions.ConnectionError",
        "botocore.parsers.ResponseParserError",
        "aiohttp.client_exceptions.ClientConnectionError",
        "aiohttp.client_exceptions.ClientPayloadError",
        "google.auth.exceptions.TransportError",
        "requests.exceptions.ConnectionError",
    }
)
"""Transient errors of libraries that may not be installed, and which are no OSErrors."""


FOREIGN_NAMES: Final = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", ".appledouble", "@eadir"})
"""Files and folders that Windows, macOS and network drives create, in lower case."""


def is_hidden_or_system_file(path: str) -> bool:
    """Return whether a path is a hidden file or one that other systems create."""
    *folders, name = path.split("/")
    return name.startswith(".") or any(part.lower() in FOREIGN_NAMES for part in (*folders, name))


class UnavailableError(OSError):
    """The store did not answer in spite of retries."""


def open_file_system(address: str) -> "tuple[AbstractFileSystem, str]":
    """Return a client for an address, and the path there.

    Raises what fsspec raises; an ImportError names the package to install.
    """
    import fsspec

    scheme = address.partition("://")[0].lower()  # `HTTPS://` is https
    if "://" in address:
        address = scheme + address[len(scheme) :]
    try:
        if scheme in WEB_SCHEMES:
            return fsspec.filesystem(scheme), address  # url_to_fs would take `http://[::1]/` for a chain of stores
        files, path = fsspec.core.url_to_fs(address, **OPTIONS.get(scheme, {}))
    except ImportError as error:
        if scheme not in EXTRAS:
            raise
        raise ImportError(f"{error}: pip install 'gapctl[{EXTRAS[scheme]}]'") from error
    if isinstance(getattr(files, "retries", None), int):
        files.retries = 1  # s3fs's own loop around botocore's would multiply the time
    return files, str(path)


def retry(ask: Callable[[], Answer], seconds: float) -> Answer:
    """Call `ask` until it succeeds, with growing random pauses, for about `seconds` while errors are transient.

    Raises OSError: UnavailableError when the time is up, otherwise the store's own error, converted if needed.
    """
    started, pause = time.monotonic(), FIRST_PAUSE
    while True:
        try:
            return ask()
        except Exception as error:
            if not is_transient(error):
                raise _convert_to_os_error(error) from error
            waited = time.monotonic() - started
            if waited + pause > seconds:
                raise UnavailableError(f"{_error_text(error)} (asked for {waited:.0f} s)") from error
        time.sleep(random.uniform(pause / 2, pause))
        pause = min(2 * pause, LONGEST_PAUSE)


def is_transient(error: BaseException) -> bool:
    """Return whether an error means that a store is busy, failing for a while, or out of reach."""
    status = _read_status(error)
    if status is not None:
        return status == BUSY or status >= SERVERS_FAULT
    if isinstance(error, FOR_GOOD):
        return False
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror | http.client.HTTPException | EOFError):
        return True
    if isinstance(error, OSError) and error.errno in ERRNOS:
        return True
    return not NAMES.isdisjoint(f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__)


def _read_status(error: BaseException) -> int | None:
    """Return the HTTP status of a store's answer, as botocore, gcsfs and aiohttp keep it, or None."""
    for each in (error, error.__cause__):
        found = getattr(each, "response", None)
        if isinstance(found, Mapping):
            found = found.get("ResponseMetadata", {}).get("HTTPStatusCode")
        for status in (found, getattr(each, "code", None), getattr(each, "status", None)):
            if isinstance(status, int):
                return status
    return None


def _convert_to_os_error(error: Exception) -> Exception:
    """Return a store library's error as an OSError; others unchanged."""
    return error if isinstance(error, OSError) or type(error).__module__ == "builtins" else OSError(_error_text(error))


def _error_text(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__
