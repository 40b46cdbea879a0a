"""A trend over ordered levels: the mean slope says how large, Page's test whether it goes the declared way."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import stats

from gapctl.analysis.effect_test import Tested, effect_test
from gapctl.analysis.estimate import Estimate, estimate
from gapctl.analysis.paired import FloatArray, Paired

FEWEST_LEVELS_OF_PAGE = 3
PERMUTATIONS = 50_000
"""All orders of up to eight levels are fewer than this, so that a single seed's p is exact there."""


def trend(
    responses: Paired, levels: Sequence[float], direction: Literal["increasing", "decreasing"], alpha: float
) -> Estimate:
    """The mean over seeds of the least-squares slope per unit of the factor; `levels` ascend.

    p is Page's (JASA 58:216-230, 1963); with two levels, where Page's test does not exist, that of the slopes' t test.
    """
    slopes_S = slopes(responses.values_SL, np.asarray(levels, dtype=float))
    if len(levels) < FEWEST_LEVELS_OF_PAGE:
        tested = effect_test(slopes_S, direction)
    else:
        tested = page_test(responses.values_SL if direction == "increasing" else -responses.values_SL)
    return estimate(slopes_S, tested.p, tested.by, alpha)


def slopes(values_SL: FloatArray, levels_L: FloatArray) -> FloatArray:
    """Each seed's least-squares slope."""
    centred_L = levels_L - levels_L.mean()
    return np.asarray(values_SL @ centred_L / (centred_L @ centred_L))


def page_test(values_SL: FloatArray) -> Tested:
    """Page's p that responses increase from left to right; a single seed is compared with its own orders."""
    seeds = len(values_SL)
    if not seeds:
        return Tested(math.nan, "none")
    p = _one_seed_p(values_SL[0]) if seeds == 1 else float(stats.page_trend_test(values_SL).pvalue)
    return Tested(min(1.0, p), "page")


def _one_seed_p(values_L: FloatArray) -> float:
    """Page's statistic of one row, which scipy's function does not take, over all orders or many random ones."""
    predicted_L = np.arange(1, len(values_L) + 1)

    def page_l(ranks: FloatArray, axis: int = -1) -> FloatArray:
        return np.asarray((predicted_L * ranks).sum(axis=axis))

    found = stats.permutation_test(
        (stats.rankdata(values_L),),
        page_l,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        alternative="greater",
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)
