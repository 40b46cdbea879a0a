"""Kendall's tau-b within each seed, over the pairs of arms that may be compared.

Index letters: S seeds, A arms.
"""

import math
from collections.abc import Sequence

import numpy as np

from gapctl.analysis.concordance import agreement, tied
from gapctl.analysis.paired import FloatArray
from gapctl.analysis.ties import IntArray, dense_ranks, slack_of

Strata = Sequence[Sequence[int]]
"""The places of arms that may be compared with each other."""


def ranks(values_SA: FloatArray, strata: Strata, slack_S1: FloatArray | None = None) -> IntArray:
    """Whole numbers in the order of each seed's values, all of a later stratum above all of an earlier one.

    Values no further apart than `slack_S1` are tied; without it, those that differ by rounding.
    """
    stratum_A = np.empty(values_SA.shape[-1], dtype=np.int64)
    for place, arms in enumerate(strata):
        stratum_A[list(arms)] = place
    slack_S1 = slack_of(values_SA) if slack_S1 is None else slack_S1
    return np.asarray(dense_ranks(values_SA, slack_S1) + len(stratum_A) * stratum_A)


def taus(x_SA: IntArray, y_SA: IntArray, strata: Strata) -> FloatArray:
    """tau-b of rows of ranks; `x_SA` may be one row (1, A). NaN where one is the same in all arms compared."""
    # Arms of different strata stand in the same order in both, so that they agree; that is taken away.
    apart = math.comb(x_SA.shape[1], 2) - sum(math.comb(len(arms), 2) for arms in strata)
    with np.errstate(invalid="ignore"):
        return np.asarray((agreement(x_SA, y_SA) - apart) / untied_pairs(x_SA, y_SA, strata))


def untied_pairs(x_SA: IntArray, y_SA: IntArray, strata: Strata) -> FloatArray:
    """What tau-b divides by: the geometric mean of the pairs, among those compared, that x and that y tell apart."""
    pairs = sum(math.comb(len(arms), 2) for arms in strata)
    return np.asarray(np.sqrt((pairs - tied(x_SA)).astype(float) * (pairs - tied(y_SA))))
