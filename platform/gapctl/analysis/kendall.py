"""Kendall's tau-b within each seed, over the pairs of arms that may be compared."""

from collections.abc import Sequence

import numpy as np

from gapctl.analysis.paired import FloatArray

DIGITS = 12
"""Values that agree to so many digits are tied: residuals of tied values differ by rounding."""


def sign_matrices(values_SA: FloatArray, strata: Sequence[Sequence[int]]) -> FloatArray:
    """Per seed, the sign of each arm's value less each other arm's; 0 where two arms may not be compared."""
    small_SA = rounded(values_SA)
    signs_SAA = np.empty((*small_SA.shape, small_SA.shape[1]), dtype=np.float32)
    for row_A, signs_AA in zip(small_SA, signs_SAA, strict=True):
        np.subtract(row_A[:, None] > row_A, row_A[:, None] < row_A, out=signs_AA, dtype=np.float32)
    if len(strata) > 1:
        of_A = np.empty(values_SA.shape[1], dtype=int)
        for place, arms in enumerate(strata):
            of_A[list(arms)] = place
        signs_SAA *= of_A[:, None] == of_A
    return np.asarray(signs_SAA)


def rounded(values_SA: FloatArray) -> FloatArray:
    """The values to 12 digits of the largest of each seed."""
    largest_S1 = np.abs(values_SA).max(axis=-1, keepdims=True, initial=0.0)
    unit_S1 = np.where(largest_S1 > 0, largest_S1, 1.0)
    return np.asarray(np.round(values_SA / unit_S1, DIGITS))


def taus(x_SAA: FloatArray, y_SAA: FloatArray) -> FloatArray:
    """tau-b of each seed from two metrics' sign matrices; NaN where one of them is the same in all arms."""
    with np.errstate(invalid="ignore"):
        return np.asarray((x_SAA * y_SAA).sum(axis=(1, 2), dtype=float) / norms(x_SAA, y_SAA))


def norms(x_SAA: FloatArray, y_SAA: FloatArray) -> FloatArray:
    """What the sum of agreeing less disagreeing pairs (each counted twice) is divided by to give tau-b."""
    untied_S, others_S = (np.count_nonzero(signs_SAA, axis=(1, 2)).astype(float) for signs_SAA in (x_SAA, y_SAA))
    return np.asarray(np.sqrt(untied_S * others_S))
