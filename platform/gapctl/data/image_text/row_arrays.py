"""Keep arrays about the rows of a large manifest in the cache, once for all processes of a machine.

1. `map_cached_array` returns an array that is mapped from its file; one process makes it while the others wait.
2. `release_mapped_pages` gives the memory of the parts back that were read.

Mapped arrays take memory only for the parts that are read, and processes share it. A cache that cannot be written costs
time and memory, and nothing else.
"""

import mmap
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gapctl.errors import InputError
from gapctl.folders import find_cache_root
from gapctl.io.atomic import stage_file_replacement
from gapctl.io.locks import lock_file

UNUSED_SECONDS: Final = 30 * 24 * 3600.0
"""Time after which an array that no process has asked for is deleted."""

WriteRows = Callable[[NDArray[Any]], None]


def map_cached_array(name: str, dtype: Any, length: int, write: WriteRows) -> NDArray[Any]:
    """Return an array of this name, mapped from the cache; `write` fills it in where it is not there yet.

    The name must say all that the content depends on. Without a cache the array is made in memory.
    """
    try:
        path = _locate_array(name)
        if (mapped := _map_array_file(path, dtype, length)) is not None:
            return mapped
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock_file(path.parent / f"{name}.lock"):
            if (mapped := _map_array_file(path, dtype, length)) is not None:
                return mapped
            _delete_unused(path.parent)
            _write_array(path, dtype, length, write)
            if (mapped := _map_array_file(path, dtype, length)) is not None:
                return mapped
    except OSError:
        pass
    made = np.empty(length, dtype=dtype)
    write(made)
    return made


def _map_array_file(path: Path, dtype: Any, length: int) -> NDArray[Any] | None:
    """Return the array in a file; None where there is none, or where it is damaged or of another form."""
    try:
        mapped: NDArray[Any] = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    if mapped.dtype != np.dtype(dtype) or mapped.shape != (length,):
        return None
    with suppress(OSError):  # another user's cache
        path.touch()
    return mapped


def _locate_array(name: str) -> Path:
    try:
        return find_cache_root() / "row_arrays" / f"{name}.npy"
    except InputError as error:
        raise OSError(str(error)) from error


def _write_array(path: Path, dtype: Any, length: int, write: WriteRows) -> None:
    with stage_file_replacement(path) as staged:
        made = np.lib.format.open_memmap(staged, mode="w+", dtype=np.dtype(dtype), shape=(length,))
        with staged.open("r+b") as file:  # where the disk is full, a write to mapped memory would end the process
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, staged.stat().st_size)
        write(made)
        made.flush()


def _delete_unused(folder: Path) -> None:
    for path in folder.iterdir():
        with suppress(OSError):  # another process deletes it now
            if time.time() - path.stat().st_mtime > UNUSED_SECONDS:
                path.unlink()


def release_mapped_pages(array: Any) -> None:
    """Give the memory of a mapped array back; what is read again comes from the system's memory of files."""
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, mmap.mmap):
        array.madvise(mmap.MADV_DONTNEED)
