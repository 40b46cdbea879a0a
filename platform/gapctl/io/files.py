"""A folder on a disk or in an object store whose files appear whole or not at all."""

import errno
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from re import Pattern
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from gapctl.errors import InputError, WorkError
from gapctl.folders import expand_home
from gapctl.io.passwords import has_password, hide_password
from gapctl.io.retry import UnavailableError, open_file_system, retry

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class Entry(NamedTuple):
    """A file's name, its size, and how many seconds ago it was last written, where that is known."""

    name: str
    bytes: int
    age: float | None


NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What file systems answer that know no second name for a file."""


class Disk:
    """Every method raises OSError as the system does; names are relative to the folder."""

    at_once: Final = 1
    """Threads would only take turns at a disk."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def exists(self, name: str) -> bool:
        """Whether the file or folder is there."""
        return self._resolve_path(name).exists()

    def read(self, name: str) -> bytes:
        """The file's content."""
        return self._resolve_path(name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Puts the file in place, whole, also after a power cut."""
        target = self._resolve_path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _name_part_file(target)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def swap_content(self, name: str, old: bytes | None, new: bytes) -> bool:
        """Puts `new` where `old` lies, or nothing where it is None; whether it did. Of several that try, one does."""
        target = self._resolve_path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        ready = _name_part_file(target)
        try:
            ready.write_bytes(new)
            return (old is None or _take_away(target, old)) and _link_file(ready, target)
        finally:
            ready.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Deletes the file."""
        self._resolve_path(name).unlink()

    def modified(self, name: str) -> float:
        """When the file was last written, in seconds since 1970."""
        return self._resolve_path(name).stat().st_mtime

    def names(self, under: str) -> list[str]:
        """What lies directly in a folder."""
        return [entry.name for entry in self._resolve_path(under).iterdir()]

    def list_entries(self, under: str, pattern: Pattern[str]) -> list[Entry]:
        """The files directly in a folder whose names the pattern matches, with what is known of them."""
        found, now = [], time.time()
        for entry in os.scandir(self._resolve_path(under)):
            if pattern.fullmatch(entry.name):
                with suppress(FileNotFoundError):  # its writer has put it in place meanwhile
                    facts = entry.stat()
                    found.append(Entry(entry.name, facts.st_size, now - facts.st_mtime))
        return found

    def _resolve_path(self, name: str) -> Path:
        return self.root / name


def _name_part_file(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")


def _take_away(target: Path, old: bytes) -> bool:
    """Whether this process, and no other, took the file away while it was still `old`."""
    away = _name_part_file(target)
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
    """Whether the file got the target's name, which nothing had."""
    try:
        os.link(ready, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return _copy_file(ready, target)
    return True


def _copy_file(ready: Path, target: Path) -> bool:
    with suppress(FileExistsError), target.open("xb") as file:
        file.write(ready.read_bytes())
        return True
    return False


Answer = TypeVar("Answer")

CREATING: Final = frozenset({"s3", "gs", "memory"})
"""Protocols whose file system writes a file only where there is none, if asked to."""
MATCHING: Final = frozenset({"s3"})
"""Those that write only in place of what the caller saw."""
SETTLE_SECONDS: Final = 1.0

FIRST_SECONDS: Final = 15.0
"""How long a store is asked that has never answered yet: its address may be wrong."""
AGAIN_SECONDS: Final = 75.0
"""How long one is asked that has. With the last request and the time between two renewals it is less than a lease
lasts, so that no other takes a trial over whose training waits for the store."""
REQUEST_SECONDS: Final = 30.0
SLOWEST: Final = 1e6
"""Bytes a second; less is taken for a connection that is stuck."""


class ObjectStore:
    """Every method raises OSError where the store does not give what is asked, within a bounded time.

    A file is put in place by one request, or by several of which the last makes it appear.
    """

    at_once: Final = 32
    """Requests under way at a time: what one takes is waiting for its answer."""

    def __init__(self, files: "AbstractFileSystem", root: str) -> None:
        self._files, self._root = files, root.rstrip("/")
        self._patience = FIRST_SECONDS

    def exists(self, name: str) -> bool:
        """Whether the file or folder is there."""
        return bool(self._send_request("exists", self._resolve_path(name)))

    def read(self, name: str) -> bytes:
        """The file's content."""
        return bytes(self._send_request("cat_file", self._resolve_path(name), seconds=10 * REQUEST_SECONDS))

    def write(self, name: str, content: bytes) -> None:
        """Puts the file in place, whole."""
        self._send_request(
            "pipe_file", self._resolve_path(name), content, seconds=REQUEST_SECONDS + len(content) / SLOWEST
        )

    def swap_content(self, name: str, old: bytes | None, new: bytes) -> bool:
        """Puts `new` where `old` lies, or nothing where it is None; whether it did.

        Of several that try, one does where the store has conditional writes (S3; a new file also at Google); elsewhere
        the last one, if the others write within `SETTLE_SECONDS` of it.
        """
        path = self._resolve_path(name)
        condition = self._build_condition(path, old)
        if self._read_content(path) != old:
            return False
        try:
            self._send_request("pipe_file", path, new, **condition)
        except Exception:  # each file system has its own for a condition that did not hold, if only for a second try
            if self._read_content(path) == old:
                raise
        if not self._is_conditional(old):
            time.sleep(SETTLE_SECONDS)
        return self._read_content(path) == new

    def remove(self, name: str) -> None:
        """Deletes the file."""
        if not self.exists(name):
            raise FileNotFoundError(name)
        self._send_request("rm", self._resolve_path(name))

    def modified(self, name: str) -> float:
        """When the file was last written, in seconds since 1970; raises NotImplementedError where that is not known."""
        return float(self._retry_request(lambda: self._files.modified(self._resolve_path(name))).timestamp())

    def names(self, under: str) -> list[str]:
        """What lies directly in a folder."""
        self._files.invalidate_cache()
        return [
            str(entry).rsplit("/", 1)[-1] for entry in self._send_request("ls", self._resolve_path(under), detail=False)
        ]

    def list_entries(self, under: str, pattern: Pattern[str]) -> list[Entry]:
        """The files directly in a folder whose names the pattern matches, with their sizes; none is half written."""
        self._files.invalidate_cache()
        listed = self._send_request("ls", self._resolve_path(under), detail=True)
        named = [(str(each["name"]).rsplit("/", 1)[-1], each) for each in listed if each["type"] == "file"]
        return [Entry(name, int(each["size"] or 0), None) for name, each in named if pattern.fullmatch(name)]

    def _send_request(self, request: str, *told: Any, seconds: float = REQUEST_SECONDS, **options: Any) -> Any:
        """One request, so often as it takes; one of a client that can be told to is given up after `seconds`."""
        from fsspec.asyn import AsyncFileSystem, sync

        files = self._files
        if isinstance(files, AsyncFileSystem):
            coroutine = getattr(files, f"_{request}")
            return self._retry_request(lambda: sync(files.loop, coroutine, *told, timeout=seconds, **options))
        return self._retry_request(lambda: getattr(files, request)(*told, **options))

    def _retry_request(self, ask: Callable[[], Answer]) -> Answer:
        try:
            answer = retry(ask, self._patience)
        except FileNotFoundError:
            self._patience = AGAIN_SECONDS
            raise
        self._patience = AGAIN_SECONDS
        return answer

    def _build_condition(self, path: str, old: bytes | None) -> dict[str, Any]:
        """What tells the store to write only in place of what lies there now, which the caller then compares."""
        if not self._is_conditional(old):
            return {}
        if old is None:
            return {"mode": "create"}
        try:
            return {"IfMatch": self._send_request("info", path, refresh=True)["ETag"]}
        except FileNotFoundError:
            return {}

    def _is_conditional(self, old: bytes | None) -> bool:
        spoken = self._files.protocol
        protocols = {spoken} if isinstance(spoken, str) else set(spoken)
        return bool(protocols & (CREATING if old is None else MATCHING))

    def _read_content(self, path: str) -> bytes | None:
        try:
            return bytes(self._send_request("cat_file", path))
        except FileNotFoundError:
            return None

    def _resolve_path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


DISK_FULL_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Folder:
    """Reads and atomically writes small files below `root`, a local path or any fsspec address."""

    def __init__(self, root: str) -> None:
        """Raises InputError for an address that no installed file system understands, and for a file."""
        self.address = root
        self._files = _open_storage(root)
        if isinstance(self._files, Disk):
            self._require_folder(self._files.root)

    @property
    def disk(self) -> Path | None:
        """The folder, where it is one of this machine."""
        return self._files.root if isinstance(self._files, Disk) else None

    def path(self, name: str) -> str:
        """The address of a file, as an error message should show it."""
        return f"{self.address.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether the file or folder is there."""
        with self._explain_errors(name, "looked for"):
            return self._files.exists(name)

    def select_present(self, names: Sequence[str]) -> list[str]:
        """Those of the files that are there."""
        return [name for name, there in zip(names, self._map_names(self.exists, names), strict=True) if there]

    def read(self, name: str) -> bytes | None:
        """The file's content, or None where there is no such file."""
        with self._explain_errors(name, "read"):
            try:
                return self._files.read(name)
            except FileNotFoundError:
                return None

    def read_all(self, names: Sequence[str]) -> list[bytes | WorkError | None]:
        """Each file's content, None where there is none, or why it cannot be read; side by side in an object store."""
        return self._map_names(self._read_or_error, names)

    def write(self, name: str, content: bytes) -> None:
        """Puts a file in place so that a reader sees the old content or the new, also after a power cut."""
        with self._explain_errors(name, "written"):
            self._files.write(name, content)

    def swap_content(self, name: str, old: bytes | None, new: bytes) -> bool:
        """Puts a file in place of `old`, or of none where that is None; whether it did, as one at most of several."""
        with self._explain_errors(name, "written"):
            return self._files.swap_content(name, old, new)

    def remove(self, name: str) -> None:
        """Deletes a file if it is there."""
        with self._explain_errors(name, "removed"), suppress(FileNotFoundError):
            self._files.remove(name)

    def modified(self, name: str) -> float | None:
        """When the file was last written, in seconds since 1970, or None where it or that is not known."""
        try:
            return self._files.modified(name)
        except (OSError, NotImplementedError):
            return None

    def names(self, under: str, keep: Callable[[str], bool] = bool) -> list[str]:
        """The sorted names of what lies directly in a folder, without its path."""
        if not self.exists(under):
            return []
        with self._explain_errors(under, "listed"):
            return sorted(filter(keep, self._files.names(under)))

    def list_entries(self, under: str, pattern: Pattern[str]) -> list[Entry]:
        """The files directly in a folder whose names the pattern matches; none where there is no such folder."""
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
            return  # no right to look: reading and writing will say so
        if not nearest.is_dir():
            raise InputError(f"--runs {self.address}: {nearest} is a file; expected a folder, or the name of a new one")


def _describe_remedy(error: OSError) -> str:
    if isinstance(error, UnavailableError):
        return "see whether the store can be reached from here and answers, then give the same command again"
    if error.errno in DISK_FULL_ERRNOS:
        return "the disk is full: make room there, then give the same command again, which goes on"
    return "check rights and space"


def _open_storage(root: str) -> Disk | ObjectStore:
    """A path does without fsspec, whose import takes as long as a plan."""
    expected = "expected a folder, or an address such as s3://bucket/runs"
    if not root.strip():
        raise InputError(f"--runs: found nothing; {expected}")
    if has_password(root):
        raise InputError(
            f"--runs {hide_password(root)}: an address with a password, which reports and MLflow would show; "
            "expected it without, and the password in the environment"
        )
    try:
        return _open_store(root) if "://" in root else Disk(expand_home(root))
    except (ImportError, ValueError, OSError, RuntimeError) as error:
        raise InputError(f"--runs {root}: {error}; {expected}") from error


def _open_store(address: str) -> Disk | ObjectStore:
    from fsspec.implementations.local import LocalFileSystem

    files, path = open_file_system(address)
    return Disk(Path(path)) if isinstance(files, LocalFileSystem) else ObjectStore(files, path)
