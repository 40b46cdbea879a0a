"""A folder of small files, on a disk or in an object store, whose files appear whole or not at all.

`Folder` is what other packages use: it names paths in errors and raises WorkError. Behind it is a `Disk` or an
`ObjectStore`, which raise OSError. Both offer `swap_content`, a compare-and-swap on which leases are built.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from inspect import signature
from pathlib import Path
from re import Pattern
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from gapctl.errors import InputError, WorkError
from gapctl.folders import expand_home
from gapctl.io.atomic import build_temporary_path, stage_file_replacement, write_file_atomically
from gapctl.io.passwords import has_password, hide_password
from gapctl.io.retry import UnavailableError, open_file_system, retry
from gapctl.io.scratch import ScratchFolder

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class Entry(NamedTuple):
    """A file's name, its size, and its age in seconds if known."""

    name: str
    bytes: int
    age: float | None


NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""Errors of file systems without hard links."""


class Disk:
    """A local folder. Every method raises OSError as the system does; names are relative to the folder."""

    at_once: Final = 1
    """Concurrent reads: threads would only take turns at a disk."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def exists(self, name: str) -> bool:
        """Return whether the file or folder exists."""
        return self._resolve_path(name).exists()

    def read(self, name: str) -> bytes:
        """Return the file's content."""
        return self._resolve_path(name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Write the file atomically, also against a power cut."""
        target = self._resolve_path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_file_atomically(target, content)

    @contextmanager
    def stage_file(self, name: str) -> Iterator[Path]:
        """Yield a temporary file to write, which becomes the file on success."""
        target = self._resolve_path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with stage_file_replacement(target) as temporary:
            yield temporary

    def swap_content(self, name: str, old: bytes | None, new: bytes) -> bool:
        """Replace `old`, or no file if None, by `new`, and return whether it worked.

        One of several callers succeeds.
        """
        target = self._resolve_path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        ready = build_temporary_path(target)
        try:
            ready.write_bytes(new)
            return (old is None or _remove_if_unchanged(target, old)) and _link_file(ready, target)
        finally:
            ready.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Delete the file."""
        self._resolve_path(name).unlink()

    def modified(self, name: str) -> float:
        """Return when the file was last written, in seconds since 1970."""
        return self._resolve_path(name).stat().st_mtime

    def names(self, under: str) -> list[str]:
        """Return the names of all entries directly in a folder."""
        return [entry.name for entry in self._resolve_path(under).iterdir()]

    def list_entries(self, under: str, pattern: Pattern[str]) -> list[Entry]:
        """Return the files directly in a folder whose names match."""
        found, now = [], time.time()
        for entry in os.scandir(self._resolve_path(under)):
            if pattern.fullmatch(entry.name):
                with suppress(FileNotFoundError):  # its writer has put it in place meanwhile
                    facts = entry.stat()
                    found.append(Entry(entry.name, facts.st_size, now - facts.st_mtime))
        return found

    def _resolve_path(self, name: str) -> Path:
        return self.root / name


def _remove_if_unchanged(target: Path, old: bytes) -> bool:
    """Remove the file if it still has the content `old`; return whether this process did."""
    away = build_temporary_path(target)
    try:
        if target.read_bytes() != old:
            return False
        target.rename(away)
    except FileNotFoundError:
        return False
    try:
        if away.read_bytes() == old:
            return True
        _link_file(away, target)  # another process put its own there between the look and the taking
        return False
    finally:
        away.unlink(missing_ok=True)


def _link_file(ready: Path, target: Path) -> bool:
    """Give the file the target's name and return True, or return False if that name is taken."""
    try:
        os.link(ready, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with suppress(FileExistsError), target.open("xb") as file:
            file.write(ready.read_bytes())
            return True
        return False
    return True


Answer = TypeVar("Answer")

CREATING: Final = frozenset({"s3", "gs", "memory"})
"""Protocols whose file systems can write a file only if there is none."""
MATCHING: Final = frozenset({"s3"})
"""Protocols whose file systems can write a file only over a known version."""
LARGE_FILES: Final = (".pt",)
"""Weights and checkpoints, which several requests at a time bring sooner."""
SETTLE_SECONDS: Final = 1.0

FIRST_SECONDS: Final = 15.0
"""Retry time for a store that has never answered, as its address may be wrong."""
AGAIN_SECONDS: Final = 75.0
"""Retry time for a store that has answered before.

Together with the last request and the time between two renewals it is less than LEASE_SECONDS, so that a training that
waits for the store keeps its lease.
"""
REQUEST_SECONDS: Final = 30.0
SLOWEST: Final = 1e6
"""Bytes per second below which a connection counts as stuck."""


class ObjectStore:
    """A folder in an object store. Every method raises OSError within a bounded time if the store does not comply.

    A file is written by one request, or by several of which the last makes it appear.
    """

    at_once: Final = 32
    """Concurrent requests: most of each one's time is waiting for its answer."""

    def __init__(self, files: "AbstractFileSystem", root: str) -> None:
        self._files, self._root = files, root.rstrip("/")
        self._patience = FIRST_SECONDS

    def exists(self, name: str) -> bool:
        """Return whether the file or folder exists."""
        return bool(self._send_request("exists", self._resolve_path(name)))

    def read(self, name: str) -> bytes:
        """Return the file's content, by one request; large ones by several, after a look at their size."""
        whole = {} if name.endswith(LARGE_FILES) else self._single_request_options
        return bytes(self._send_request("cat_file", self._resolve_path(name), seconds=10 * REQUEST_SECONDS, **whole))

    def write(self, name: str, content: bytes) -> None:
        """Write the file atomically."""
        self._send_request(
            "pipe_file", self._resolve_path(name), content, seconds=REQUEST_SECONDS + len(content) / SLOWEST
        )

    @contextmanager
    def stage_file(self, name: str) -> Iterator[Path]:
        """Yield a temporary file of this machine to write, which is uploaded on success."""
        with ScratchFolder("upload") as folder:
            temporary = folder / name.rpartition("/")[2]
            yield temporary
            seconds = REQUEST_SECONDS + temporary.stat().st_size / SLOWEST
            self._send_request("put_file", str(temporary), self._resolve_path(name), seconds=seconds)

    def swap_content(self, name: str, old: bytes | None, new: bytes) -> bool:
        """Replace `old`, or no file if None, by `new`, and return whether it worked.

        Of several callers one succeeds if the store has conditional writes (S3; Google only for new files). Elsewhere
        the last one does, if the others write within `SETTLE_SECONDS` of it.
        """
        path, conditional = self._resolve_path(name), self._is_conditional(old)
        condition = self._build_condition(path, old)
        if not (conditional and old is None) and self._read_content(path) != old:  # else the store itself looks
            return False
        try:
            self._send_request("pipe_file", path, new, **condition)
        except Exception:  # file systems differ in the error for a failed condition, which a retry may also meet
            found = self._read_content(path)
            if found == old:
                raise
            return found == new
        if conditional and condition:
            return True
        time.sleep(SETTLE_SECONDS)
        return self._read_content(path) == new

    def remove(self, name: str) -> None:
        """Delete the file, by one request; most stores do not say whether there was one."""
        self._send_request("rm_file", self._resolve_path(name))

    def modified(self, name: str) -> float:
        """Return when the file was last written, in seconds since 1970.

        Raises NotImplementedError if the store does not know.
        """
        return float(self._retry_request(lambda: self._files.modified(self._resolve_path(name))).timestamp())

    def names(self, under: str) -> list[str]:
        """Return the names of all entries directly in a folder."""
        self._files.invalidate_cache()
        return [
            str(entry).rsplit("/", 1)[-1] for entry in self._send_request("ls", self._resolve_path(under), detail=False)
        ]

    def list_entries(self, under: str, pattern: Pattern[str]) -> list[Entry]:
        """Return the files directly in a folder whose names match. None is half written, so ages are None."""
        self._files.invalidate_cache()
        listed = self._send_request("ls", self._resolve_path(under), detail=True)
        named = [(str(each["name"]).rsplit("/", 1)[-1], each) for each in listed if each["type"] == "file"]
        return [Entry(name, int(each["size"] or 0), None) for name, each in named if pattern.fullmatch(name)]

    def list_files(self) -> dict[str, str]:
        """Return all files below the folder by name, each with the store's tag of its version, "" if it has none."""
        self._files.invalidate_cache()
        listed = self._send_request("find", self._root, detail=True, seconds=10 * REQUEST_SECONDS)
        tags = {path: str(info.get("ETag") or info.get("etag") or "") for path, info in listed.items()}
        return {str(path).removeprefix(f"{self._root}/"): tag for path, tag in tags.items()}

    def _send_request(self, request: str, *arguments: Any, seconds: float = REQUEST_SECONDS, **options: Any) -> Any:
        """Send one request, retrying transient failures. If the client supports timeouts, abort after `seconds`."""
        from fsspec.asyn import AsyncFileSystem, sync

        files = self._files
        if isinstance(files, AsyncFileSystem):
            coroutine = getattr(files, f"_{request}")
            return self._retry_request(lambda: sync(files.loop, coroutine, *arguments, timeout=seconds, **options))
        return self._retry_request(lambda: getattr(files, request)(*arguments, **options))

    def _retry_request(self, ask: Callable[[], Answer]) -> Answer:
        try:
            answer = retry(ask, self._patience)
        except FileNotFoundError:
            self._patience = AGAIN_SECONDS
            raise
        self._patience = AGAIN_SECONDS
        return answer

    def _build_condition(self, path: str, old: bytes | None) -> dict[str, Any]:
        """Return the options that make a write conditional on the version that is there now."""
        if not self._is_conditional(old):
            return {}
        if old is None:
            return {"mode": "create"}
        try:
            return {"IfMatch": self._send_request("info", path, refresh=True)["ETag"]}
        except FileNotFoundError:
            return {}

    @cached_property
    def _single_request_options(self) -> dict[str, Any]:
        """The options that read a file by one request.

        Newer s3fs looks at the size first, to read parts side by side, and lists what it does not find: a request or
        two more for each of the dozens of reads of a training.
        """
        read = getattr(self._files, "_cat_file", None)
        return {"max_concurrency": 1} if read and "max_concurrency" in signature(read).parameters else {}

    def _is_conditional(self, old: bytes | None) -> bool:
        spoken = self._files.protocol
        protocols = {spoken} if isinstance(spoken, str) else set(spoken)
        return bool(protocols & (CREATING if old is None else MATCHING))

    def _read_content(self, path: str) -> bytes | None:
        try:
            return bytes(self._send_request("cat_file", path, **self._single_request_options))
        except FileNotFoundError:
            return None

    def _resolve_path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


READ_ONLY: Final = {
    "http": "Write to a folder, and let the web server have it",
    "https": "Write to a folder, and let the web server have it",
    "hf": "Write to a folder, and bring it to the hub by `hf upload-large-folder`",
}
"""Schemes that are only read, and what to do."""

FEW_FILES: Final = 64
"""The most files of an object store that are asked for one by one; for more, all are listed first, 1,000 a request."""
DISK_FULL_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Folder:
    """Read small files below `root`, a local path or any fsspec address, and write them atomically."""

    def __init__(self, root: str, option: str = "--runs", *, keeps_listing: bool = False) -> None:
        """Raise InputError, which names the option, for an address that cannot be opened, and for a file.

        With `keeps_listing`, the files of an object store are listed at most once.
        """
        self.address = root
        self._option = option
        self._keeps_listing = keeps_listing
        self._listing: dict[str, str] | None = None
        self._files = _open_storage(root, option)
        if isinstance(self._files, Disk):
            self._require_folder(self._files.root)

    @property
    def disk(self) -> Path | None:
        """The folder if it is on this machine, otherwise None."""
        return self._files.root if isinstance(self._files, Disk) else None

    def path(self, name: str) -> str:
        """Return the address of a file, for messages."""
        return f"{self.address.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Return whether the file or folder exists."""
        with self._explain_errors(name, "looked for"):
            return self._files.exists(name)

    def select_present(self, names: Sequence[str]) -> list[str]:
        """Return those of the files that exist."""
        if (listing := self.list_files_for(len(names))) is not None:
            return [name for name in names if name in listing]
        return [name for name, there in zip(names, self._map_names(self.exists, names), strict=True) if there]

    def read(self, name: str) -> bytes | None:
        """Return the file's content, or None if there is no such file."""
        with self._explain_errors(name, "read"):
            try:
                return self._files.read(name)
            except FileNotFoundError:
                return None

    def read_all(
        self, names: Sequence[str], listing: Mapping[str, str] | None = None
    ) -> list[bytes | WorkError | None]:
        """Read many files, in parallel from an object store: None where missing, WorkError where reading failed.

        `listing` is what `list_files_for` returned, where the caller has asked already.
        """
        listing = self.list_files_for(len(names)) if listing is None else listing
        if listing is None:
            return self._map_names(self._read_or_error, names)
        present = [name for name in names if name in listing]
        found = dict(zip(present, self._map_names(self._read_or_error, present), strict=True))
        return [found.get(name) for name in names]

    def list_files_for(self, count: int) -> Mapping[str, str] | None:
        """List an object store's files with their tags where that spares requests for `count` of them, else None."""
        if isinstance(self._files, Disk) or (self._listing is None and count <= FEW_FILES):
            return None
        if self._listing is not None:
            return self._listing
        with self._explain_errors("", "listed"):
            listing = self._files.list_files()
        self._listing = listing if self._keeps_listing else None
        return listing

    def write(self, name: str, content: bytes) -> None:
        """Write a file atomically, also against a power cut."""
        with self._explain_errors(name, "written"):
            self._files.write(name, content)

    @contextmanager
    def stage_file(self, name: str) -> Iterator[Path]:
        """Yield a temporary file to write, on a disk or for an upload; it becomes the file on success.

        Raise OSError where it cannot be written.
        """
        with self._files.stage_file(name) as temporary:
            yield temporary

    def swap_content(self, name: str, old: bytes | None, new: bytes) -> bool:
        """Replace `old`, or no file if None, by `new`, and return whether it worked.

        At most one of several callers succeeds.
        """
        with self._explain_errors(name, "written"):
            return self._files.swap_content(name, old, new)

    def remove(self, name: str) -> None:
        """Delete a file if it exists."""
        with self._explain_errors(name, "removed"), suppress(FileNotFoundError):
            self._files.remove(name)

    def modified(self, name: str) -> float | None:
        """Return when the file was last written, in seconds since 1970, or None if unknown."""
        try:
            return self._files.modified(name)
        except (OSError, NotImplementedError):
            return None

    def names(self, under: str, keep: Callable[[str], bool] = bool) -> list[str]:
        """Return the sorted names of entries directly in a folder for which `keep` is true."""
        with self._explain_errors(under, "listed"):
            try:
                return sorted(filter(keep, self._files.names(under)))
            except FileNotFoundError:
                return []

    def list_entries(self, under: str, pattern: Pattern[str]) -> list[Entry]:
        """Return the sorted files directly in a folder whose names match; [] if there is no such folder."""
        with self._explain_errors(under, "listed"):
            try:
                return sorted(self._files.list_entries(under, pattern))
            except FileNotFoundError:
                return []

    def _map_names(self, ask: Callable[[str], Answer], names: Sequence[str]) -> list[Answer]:
        at_once = min(self._files.at_once, len(names))
        if at_once < 2:
            return [ask(name) for name in names]
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(ask, names))

    def _read_or_error(self, name: str) -> bytes | WorkError | None:
        try:
            return self.read(name)
        except WorkError as error:
            return error

    @contextmanager
    def _explain_errors(self, name: str, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WorkError(f"{self.path(name)}: cannot be {done}: {error}; {_describe_remedy(error)}") from error

    def _require_folder(self, root: Path) -> None:
        try:
            nearest = next(path for path in (root, *root.parents) if path.exists())
        except OSError:
            return  # no right to look: reading and writing raise a clearer error
        if not nearest.is_dir():
            raise InputError(
                f"{self._option} {self.address}: {nearest} is a file; expected a folder, or the name of a new one"
            )


def _describe_remedy(error: OSError) -> str:
    if isinstance(error, UnavailableError):
        return "see whether the store can be reached from here and answers, then give the same command again"
    if error.errno in DISK_FULL_ERRNOS:
        return "the disk is full: make room there, then give the same command again, which goes on"
    return "check rights and space"


def _open_storage(root: str, option: str) -> Disk | ObjectStore:
    """Open a folder. Paths avoid importing fsspec, which takes as long as making a plan."""
    expected = f"expected a folder, or an address such as s3://bucket/{option.strip('-')}"
    if not root.strip():
        raise InputError(f"{option}: found nothing; {expected}")
    if has_password(root):
        raise InputError(
            f"{option} {hide_password(root)}: an address with a password, which reports and MLflow would show; "
            "expected it without, and the password in the environment"
        )
    try:
        if "://" not in root:
            return Disk(expand_home(root))
        if (scheme := root.partition("://")[0].lower()) in READ_ONLY:
            raise ValueError(f"nothing can be written by {scheme}://. {READ_ONLY[scheme]}")
        from fsspec.implementations.local import LocalFileSystem

        files, path = open_file_system(root)
        return Disk(Path(path)) if isinstance(files, LocalFileSystem) else ObjectStore(files, path)
    except (ImportError, ValueError, OSError, RuntimeError) as error:
        raise InputError(f"{option} {root}: {error}; {expected}") from error
