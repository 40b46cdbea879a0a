"""A folder on a disk or in an object store whose files appear whole or not at all."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from gapctl.errors import InputError, WorkError


class Folder:
    """Reads and atomically writes small files below `root`, a local path or any fsspec address."""

    def __init__(self, root: str) -> None:
        """Raises InputError for an address that no installed file system understands, and for a file."""
        self.address = root
        expected = "expected a folder, or an address such as s3://bucket/runs"
        if not root.strip():
            raise InputError(f"--runs: found nothing; {expected}")
        try:
            self._fs, self._root = fsspec.core.url_to_fs(root)
        except (ImportError, ValueError, OSError) as error:
            raise InputError(f"--runs {root}: {error}; {expected}") from error
        self._local = isinstance(self._fs, LocalFileSystem)
        if self._local:
            self._require_folder()

    def path(self, name: str) -> str:
        """The address of a file, as an error message should show it."""
        return f"{self.address.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether the file or folder is there."""
        return bool(self._fs.exists(self._at(name)))

    def read(self, name: str) -> bytes | None:
        """The file's content, or None where there is no such file."""
        with self._reporting(name, "read"):
            try:
                return bytes(self._fs.cat_file(self._at(name)))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Puts a file in place so that a reader sees the old content or the new, also after a power cut."""
        with self._reporting(name, "written"):
            if self._local:
                self._replace(Path(self._at(name)), content)
            else:
                self._fs.pipe_file(self._at(name), content)

    def remove(self, name: str) -> None:
        """Deletes a file if it is there."""
        with self._reporting(name, "removed"), suppress(FileNotFoundError):
            if self.exists(name):
                self._fs.rm(self._at(name))

    def modified(self, name: str) -> float | None:
        """When the file was last written, in seconds since 1970, or None where it or that is not known."""
        try:
            return float(self._fs.modified(self._at(name)).timestamp())
        except (OSError, NotImplementedError):
            return None

    def names(self, under: str, keep: Callable[[str], bool] = bool) -> list[str]:
        """The sorted names of what lies directly in a folder, without its path."""
        if not self.exists(under):
            return []
        self._fs.invalidate_cache()
        with self._reporting(under, "listed"):
            found = [str(entry).rsplit("/", 1)[-1] for entry in self._fs.ls(self._at(under), detail=False)]
        return sorted(name for name in found if keep(name))

    @contextmanager
    def _reporting(self, name: str, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WorkError(f"{self.path(name)}: cannot be {done}: {error}; check rights and space") from error

    def _require_folder(self) -> None:
        root = Path(self._root)
        try:
            nearest = next(path for path in (root, *root.parents) if path.exists())
        except OSError:
            return  # no right to look: reading and writing will say so
        if not nearest.is_dir():
            raise InputError(f"--runs {self.address}: {nearest} is a file; expected a folder, or the name of a new one")

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}" if name else self._root

    @staticmethod
    def _replace(target: Path, content: bytes) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
