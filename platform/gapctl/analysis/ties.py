"""What counts as equal: numbers that differ by no more than rounding makes of them."""

from typing import Final

import numpy as np
import numpy.typing as npt

from gapctl.analysis.paired import FloatArray

ROUNDING: Final = 1e-12
"""Numbers that differ by no more than this share of what they were computed from are taken to be equal.

Sums of doubles in another order differ by some 1e-16 of their terms; no metric is measured to twelve digits.
"""
IntArray = npt.NDArray[np.int64]


def dense_ranks(values: FloatArray, slack: FloatArray | float) -> IntArray:
    """Each value's place among the different ones of its row (the last axis), from 0.

    Neighbours in size that lie no further apart than `slack` are one value, whatever order they stand in.
    """
    order = np.argsort(values, axis=-1)
    apart = np.diff(np.take_along_axis(values, order, axis=-1), axis=-1) > slack
    ranks, places = np.zeros(values.shape, dtype=np.int64), np.zeros(values.shape, dtype=np.int64)
    np.cumsum(apart, axis=-1, out=ranks[..., 1:])
    np.put_along_axis(places, order, ranks, axis=-1)
    return places


def slack_of(values: FloatArray) -> FloatArray:
    """How far apart values of a row (the last axis, which is kept) may lie and still be equal."""
    return np.asarray(ROUNDING * np.abs(values).max(axis=-1, keepdims=True, initial=0.0))
