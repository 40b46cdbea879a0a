"""A folder on a disk or in an object store whose files appear whole or not at all."""

import errno
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from re import Pattern
from typing import Final, TypeVar

from gapctl.errors import InputError, WorkError
from gapctl.folders import expand_home
from gapctl.ledger.disk import Disk, Entry
from gapctl.ledger.object_store import ObjectStore
from gapctl.spec.secrets import holds_password, without_password
from gapctl.stores import UnavailableError, file_system_at

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Answer = TypeVar("Answer")


class Folder:
    """Reads and atomically writes small files below `root`, a local path or any fsspec address."""

    def __init__(self, root: str) -> None:
        """Raises InputError for an address that no installed file system understands, and for a file."""
        self.address = root
        self._files = _files_at(root)
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
        with self._reporting(name, "looked for"):
            return self._files.exists(name)

    def present(self, names: Sequence[str]) -> list[str]:
        """Those of the files that are there."""
        return [name for name, there in zip(names, self._each(self.exists, names), strict=True) if there]

    def read(self, name: str) -> bytes | None:
        """The file's content, or None where there is no such file."""
        with self._reporting(name, "read"):
            try:
                return self._files.read(name)
            except FileNotFoundError:
                return None

    def read_all(self, names: Sequence[str]) -> list[bytes | WorkError | None]:
        """Each file's content, None where there is none, or why it cannot be read; side by side in an object store."""
        return self._each(self._content, names)

    def write(self, name: str, content: bytes) -> None:
        """Puts a file in place so that a reader sees the old content or the new, also after a power cut."""
        with self._reporting(name, "written"):
            self._files.write(name, content)

    def swap(self, name: str, old: bytes | None, new: bytes) -> bool:
        """Puts a file in place of `old`, or of none where that is None; whether it did, as one at most of several."""
        with self._reporting(name, "written"):
            return self._files.swap(name, old, new)

    def remove(self, name: str) -> None:
        """Deletes a file if it is there."""
        with self._reporting(name, "removed"), suppress(FileNotFoundError):
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
        with self._reporting(under, "listed"):
            return sorted(filter(keep, self._files.names(under)))

    def entries(self, under: str, pattern: Pattern[str]) -> list[Entry]:
        """The files directly in a folder whose names the pattern matches; none where there is no such folder."""
        with self._reporting(under, "listed"):
            try:
                return sorted(self._files.entries(under, pattern))
            except FileNotFoundError:
                return []

    def _each(self, ask: Callable[[str], Answer], names: Sequence[str]) -> list[Answer]:
        at_once = min(self._files.at_once, len(names))
        if at_once < 2:
            return [ask(name) for name in names]
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(ask, names))

    def _content(self, name: str) -> bytes | WorkError | None:
        try:
            return self.read(name)
        except WorkError as error:
            return error

    @contextmanager
    def _reporting(self, name: str, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WorkError(f"{self.path(name)}: cannot be {done}: {error}; {_remedy(error)}") from error

    def _require_folder(self, root: Path) -> None:
        try:
            nearest = next(path for path in (root, *root.parents) if path.exists())
        except OSError:
            return  # no right to look: reading and writing will say so
        if not nearest.is_dir():
            raise InputError(f"--runs {self.address}: {nearest} is a file; expected a folder, or the name of a new one")


def _remedy(error: OSError) -> str:
    if isinstance(error, UnavailableError):
        return "see whether the store can be reached from here and answers, then give the same command again"
    if error.errno in FULL:
        return "the disk is full: make room there, then give the same command again, which goes on"
    return "check rights and space"


def _files_at(root: str) -> Disk | ObjectStore:
    """A path does without fsspec, whose import takes as long as a plan."""
    expected = "expected a folder, or an address such as s3://bucket/runs"
    if not root.strip():
        raise InputError(f"--runs: found nothing; {expected}")
    if holds_password(root):
        raise InputError(
            f"--runs {without_password(root)}: an address with a password, which reports and MLflow would show; "
            "expected it without, and the password in the environment"
        )
    try:
        return _store_at(root) if "://" in root else Disk(expand_home(root))
    except (ImportError, ValueError, OSError, RuntimeError) as error:
        raise InputError(f"--runs {root}: {error}; {expected}") from error


def _store_at(address: str) -> Disk | ObjectStore:
    from fsspec.implementations.local import LocalFileSystem

    files, path = file_system_at(address)
    return Disk(Path(path)) if isinstance(files, LocalFileSystem) else ObjectStore(files, path)
