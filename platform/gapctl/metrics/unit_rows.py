"""Take rows of a large cloud in unit length, a few at a time, so that those of a mapped file need not fit in memory.

Index letters: N rows of the cloud, D embedding, B rows that are taken together.
"""

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray


class UnitRows:
    """The rows of a cloud (N, D) of any norm but zero, in unit length and in `dtype`; each is normalised in float64."""

    def __init__(self, row_ND: NDArray[np.floating], dtype: type[np.floating]) -> None:
        self._row_ND = row_ND
        self.dtype = np.dtype(dtype)

    def __len__(self) -> int:
        return len(self._row_ND)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.floating]:
        wide_BD = self._row_ND[rows].astype(np.float64)
        release_pages(self._row_ND)
        wide_BD /= np.linalg.norm(wide_BD, axis=1, keepdims=True)
        return wide_BD.astype(self.dtype, copy=False)


def release_pages(rows: NDArray[Any]) -> None:
    """Give back the memory of rows that are mapped from a file for reading; the next use reads them again."""
    if not isinstance(rows, np.memmap) or rows.mode != "r":
        return
    base: object = rows
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
