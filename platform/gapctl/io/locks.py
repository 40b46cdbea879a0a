"""Locks on files that whoever holds them may delete."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Errors of file systems that have no locks."""


@contextmanager
def lock_file(path: Path, *, wait: bool = True, delete: bool = False) -> Iterator[None]:
    """Hold the lock of a file, which is made if needed. A file that was deleted before its lock came is opened anew.

    With `delete` the file is deleted before the lock is released. Holding a lock renews the file's age. Where a file
    system has no locks, the block runs without one. Raise BlockingIOError where another holds the lock and `wait` is
    false, OSError where the file cannot be opened or locked.
    """
    while True:
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            os.utime(file.fileno())
            if is_same_file(file, path):
                try:
                    yield
                finally:
                    if delete:
                        path.unlink(missing_ok=True)
                return


def is_same_file(file: IO[bytes], path: Path) -> bool:
    """Return whether an open file is still the one of this name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
