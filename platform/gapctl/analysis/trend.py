"""A trend over ordered levels: the mean slope says how large, Page's test whether it goes the declared way."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import stats

from gapctl.analysis.effect_test import Tested
from gapctl.analysis.estimate import Estimate, effects_of, estimate
from gapctl.analysis.flips import shuffled_levels_p
from gapctl.analysis.paired import FloatArray, Paired
from gapctl.analysis.ties import IntArray, dense_ranks, slack_of

FEWEST_LEVELS_OF_PAGE = 3
PERMUTATIONS = 50_000
"""All orders of up to eight levels are fewer than this, so that a single seed's p is exact there."""


def trend(
    responses: Paired,
    levels: Sequence[float],
    direction: Literal["increasing", "decreasing"],
    smallest: float,
    alpha: float,
) -> Estimate:
    """The mean over seeds of the least-squares slope per unit of the factor; `levels` ascend.

    p is Page's (JASA 58:216-230, 1963); with two levels, where Page's test does not exist, that of the slopes' t test.
    """
    values_SL, weights_L = responses.values_SC, slope_weights(np.asarray(levels, dtype=float))
    slopes = effects_of(values_SL, weights_L)
    if len(levels) < FEWEST_LEVELS_OF_PAGE:
        return estimate(slopes, direction, smallest, alpha, values_SC=values_SL)
    page = page_test(values_SL if direction == "increasing" else -values_SL)
    shuffled = shuffled_levels_p(values_SL, weights_L, direction)
    return estimate(slopes, direction, smallest, alpha, tested=page, p_permutation=shuffled, values_SC=values_SL)


def slope_weights(levels_L: FloatArray) -> FloatArray:
    """What responses are weighted with to give the least-squares slope."""
    centred_L = levels_L - levels_L.mean()
    return np.asarray(centred_L / (centred_L @ centred_L))


def page_test(values_SL: FloatArray) -> Tested:
    """Page's p that responses increase from left to right; a single seed is compared with its own orders.

    Responses of a seed that differ by rounding share their rank.
    """
    seeds = len(values_SL)
    if not seeds:
        return Tested(math.nan, "none")
    rank_SL = dense_ranks(values_SL, slack_of(values_SL))
    p = _one_seed_p(rank_SL[0]) if seeds == 1 else float(stats.page_trend_test(rank_SL).pvalue)
    return Tested(min(1.0, p), "page")


def _one_seed_p(values_L: IntArray) -> float:
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
