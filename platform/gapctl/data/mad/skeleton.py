"""The medial axis of a stroke: the ridge that an ordered peeling of its outline leaves over.

The definition is that of scikit-image's `medial_axis`: pixels go in the order of their distance to the
background, then of their cornerness, unless removing one would change how its neighbours hang together. The
public function rebuilds its decision table at each call, which takes most of its time, and breaks ties at
random; here the table is made once and ties go by a fixed shuffle of the pixels, so a digit has one skeleton.

Index letters: H height, W width, P pixels of the stroke.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gapctl.data.mad.resample import HIGH

Mask = NDArray[np.bool_]
TIES: Final = HIGH * HIGH
_TIE_KEY: Final = 20240408


@cache
def keep_table() -> NDArray[np.uint8]:
    """Return for each of the 512 3x3 neighbourhoods whether its middle stays: 1 if it carries the connection.

    Bit 3 * row + column of an index tells whether that pixel is set.
    """
    patterns = (np.arange(512)[:, None] >> np.arange(9)) & 1
    return np.array([_stays(pattern.reshape(3, 3)) for pattern in patterns], dtype=np.uint8)


def _stays(pattern: NDArray[np.int64]) -> bool:
    if not pattern[1, 1]:
        return False
    without = pattern.copy()
    without[1, 1] = 0
    return bool(pattern.sum() < 3 or _pieces(pattern) != _pieces(without))


def _pieces(pattern: NDArray[np.int64]) -> int:
    _, count = ndimage.label(pattern, np.ones((3, 3)))
    return int(count)


@cache
def tie_breaker() -> NDArray[np.int64]:
    """Return a fixed shuffle of the pixel numbers of a high-resolution image: int64 (112, 112)."""
    generator = np.random.Generator(np.random.Philox(key=_TIE_KEY))
    return generator.permutation(TIES).reshape(HIGH, HIGH)


def medial_axis(mask_HW: Mask, distance_HW: NDArray[np.float64], ties_HW: NDArray[np.int64]) -> Mask:
    """Return the medial axis of a mask, given its distances to the background.

    `ties_HW` ranks pixels of equal distance and cornerness: different numbers from 0 to `TIES` - 1.
    """
    rows, columns = set_pixels(mask_HW)
    squared = np.rint(distance_HW[rows, columns] ** 2).astype(np.int64)
    empty = 9 - _block_sum(mask_HW)[rows, columns].astype(np.int64)
    order = np.argsort((squared * 16 + empty) * TIES + ties_HW[rows, columns])
    return _peel(mask_HW, rows[order], columns[order])


def set_pixels(mask_HW: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows and the columns of the pixels that are set, as `nonzero` does, but faster."""
    rows, columns = np.divmod(np.flatnonzero(mask_HW), mask_HW.shape[1])
    return rows, columns


def _block_sum(mask_HW: Mask) -> NDArray[np.uint8]:
    height, width = mask_HW.shape
    framed = np.zeros((height + 2, width + 2), np.uint8)
    framed[1:-1, 1:-1] = mask_HW
    in_row = framed[:, :-2] + framed[:, 1:-1] + framed[:, 2:]
    in_block: NDArray[np.uint8] = in_row[:-2] + in_row[1:-1] + in_row[2:]
    return in_block


def _peel(mask_HW: Mask, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Mask:
    """Visit the pixels in the order given and remove those that the table does not keep."""
    result = mask_HW.astype(np.uint8, order="C")
    in_order = np.arange(len(rows), dtype=np.int32)
    _fastest_loop()(result, rows, columns, in_order, keep_table())
    return result.astype(np.bool_)


@cache
def _fastest_loop() -> Callable[..., None]:
    # Not a public name of scikit-image, but 30 times as fast as Python; the tests hold both to the same
    # result.
    with suppress(ImportError):
        return cast(
            Callable[..., None],
            getattr(import_module("skimage.morphology._skeletonize"), "_skeletonize_loop", peel_in_order),
        )
    return peel_in_order


def peel_in_order(
    result_HW: NDArray[np.uint8],
    rows_P: NDArray[np.int64],
    columns_P: NDArray[np.int64],
    order_P: NDArray[np.int32],
    keep_512: NDArray[np.uint8],
) -> None:
    """Set those pixels of `result_HW` to 0, visited in this order, that the table does not keep."""
    framed = np.pad(result_HW, 1)
    weights = 2 ** np.arange(9).reshape(3, 3)
    for row, column in zip(rows_P[order_P].tolist(), columns_P[order_P].tolist(), strict=True):
        block = framed[row : row + 3, column : column + 3]
        framed[row + 1, column + 1] = keep_512[(block * weights).sum()]
    result_HW[:] = framed[1:-1, 1:-1]
