"""Rows of an .npy file in blocks, mapped into memory one block at a time, so that any file fits.

Index letters: N rows of the file, B rows of a block, D embedding.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.errors import InputError
from gapctl.metrics.embeddings.found import DAMAGE


class NpyRows(NamedTuple):
    """Where the rows of a file lie: its path, the place of its first number, and what the numbers are."""

    path: Path
    offset: int
    dtype: np.dtype[Any]
    rows: int
    width: int

    def block(self, start: int, stop: int) -> NDArray[np.floating]:
        """Rows `start` to `stop` (B, D), read as they are used; the map is gone when the array is."""
        offset = self.offset + start * self.width * self.dtype.itemsize
        shape = (min(stop, self.rows) - start, self.width)
        return np.asarray(np.memmap(self.path, dtype=self.dtype, mode="r", offset=offset, shape=shape))

    def blocks(self, rows: int) -> Iterator[NDArray[np.floating]]:
        """All rows in order, `rows` at a time."""
        for start in range(0, self.rows, rows):
            yield self.block(start, start + rows)


def npy_rows(path: Path) -> NpyRows:
    """The rows of a file of floating-point embeddings (N, D); nothing in it is unpickled.

    Raises InputError for whatever else the file is, also where it is shorter than its header says.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, by_column, dtype = read_header[version](file)
            offset = file.tell()
    except (*DAMAGE, KeyError) as error:
        raise InputError(f"{path}: not a readable .npy file ({error}); write it with numpy.save") from error
    if dtype.kind != "f" or len(shape) != 2 or by_column or 0 in shape:
        order = ", by columns" if by_column else ""
        raise InputError(
            f"{path}: holds {dtype} of shape {shape}{order}; expected floating-point rows (N, D), neither of them "
            "zero, by rows. Write numpy.ascontiguousarray(rows) with numpy.save"
        )
    _require_length(path, offset + shape[0] * shape[1] * dtype.itemsize)
    return NpyRows(path, offset, dtype, *shape)


def _require_length(path: Path, length: int) -> None:
    if (size := path.stat().st_size) < length:
        raise InputError(f"{path}: {size:,} bytes long where its header promises {length:,}; copy it again")
