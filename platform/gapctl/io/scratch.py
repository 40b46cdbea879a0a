"""Temporary folders of this process, of which those of killed processes are deleted when the next one makes its own.

A folder is locked (`flock`) as long as its process lives, and the kernel releases the lock of one that was killed. So
whoever can lock a folder may delete it. Processes that were forked from its owner keep the lock as well.
"""

import fcntl
import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Final

PREFIX: Final = "gapctl-"
LOCKED: Final = ".locked"
"""The ending of folders that are locked: others may be in use without a lock."""


class ScratchFolder:
    """A folder for `purpose`, in the temporary folder or in `parent`, until the context or the object's life ends.

    Raise OSError where it cannot be made. Renamed, it stays under its new name.
    """

    def __init__(self, purpose: str, parent: Path | None = None) -> None:
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        delete_abandoned_folders(parent)
        self.path, lock = _make_locked_folder(purpose, parent)
        self._delete = weakref.finalize(self, _delete_locked_folder, self.path, lock)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *exception: object) -> None:
        self._delete()


def delete_abandoned_folders(parent: Path) -> None:
    """Delete this user's scratch folders whose processes are gone."""
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            named = entry.name.startswith(PREFIX) and entry.name.endswith(LOCKED)
            if named and entry.is_dir(follow_symlinks=False):
                _delete_if_abandoned(Path(entry.path))


def _make_locked_folder(purpose: str, parent: Path) -> tuple[Path, int]:
    """Return a new folder and its lock. Where a file system has no locks, nobody else can lock the folder either."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-", suffix=LOCKED, dir=parent))
        with suppress(FileNotFoundError, BlockingIOError):  # until it is locked, others may take it for abandoned
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.stat()
            except (FileNotFoundError, BlockingIOError):
                os.close(lock)
                raise
            except OSError:
                pass
            return path, lock


def _delete_locked_folder(path: Path, lock: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(lock)


def _delete_if_abandoned(path: Path) -> None:
    with suppress(OSError):
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(lock).st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)
