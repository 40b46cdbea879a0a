"""A folder on a disk or in an object store whose files appear whole or not at all."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from gapctl.errors import WorkError


class Folder:
    """Reads and atomically writes small files below `root`, a local path or any fsspec address."""

    def __init__(self, root: str) -> None:
        self.address = root
        self._fs, self._root = fsspec.core.url_to_fs(root)
        self._local = isinstance(self._fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """The address of a file, as an error message should show it."""
        return f"{self.address.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether the file or folder is there."""
        return bool(self._fs.exists(self._at(name)))

    def read(self, name: str) -> bytes | None:
        """The file's content, or None where there is no such file."""
        try:
            return bytes(self._fs.cat_file(self._at(name)))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise WorkError(f"{self.path(name)}: cannot be read: {error}") from error

    def write(self, name: str, content: bytes) -> None:
        """Puts a file in place so that a reader sees the old content or the new, also after a power cut."""
        try:
            if self._local:
                self._replace(Path(self._at(name)), content)
            else:
                self._fs.pipe_file(self._at(name), content)
        except OSError as error:
            raise WorkError(f"{self.path(name)}: cannot be written: {error}; check rights and space") from error

    def remove(self, name: str) -> None:
        """Deletes a file if it is there."""
        if self.exists(name):
            self._fs.rm(self._at(name))

    def names(self, under: str, keep: Callable[[str], bool] = bool) -> list[str]:
        """The sorted names of what lies directly in a folder, without its path."""
        if not self.exists(under):
            return []
        self._fs.invalidate_cache()
        found = (str(entry).rsplit("/", 1)[-1] for entry in self._fs.ls(self._at(under), detail=False))
        return sorted(name for name in found if keep(name))

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
