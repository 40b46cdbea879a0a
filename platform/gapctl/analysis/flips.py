"""The distribution-free companions of the t tests: signs flipped over seeds, levels shuffled within seeds."""

import math
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

from gapctl.analysis.effect_test import Direction, directed
from gapctl.analysis.paired import FloatArray
from gapctl.analysis.ties import ROUNDING

RESAMPLES = 9_999
MOST_FLIPPED = 13
"""Seeds up to which all flips are counted: there are fewer of them than resamples."""
RESAMPLING_SEED = 20_240_407


def sign_flip_p(effects_S: FloatArray, direction: Direction, smallest: float = 0.0, rounding: float = 0.0) -> float:
    """p where each seed's effect might as well have had the other sign; all flips of up to 13 seeds, else random ones.

    It never falls below 0.5 to the power of the number of seeds (twice that for `either`).
    """
    if len(effects_S) < 2:
        return math.nan
    return directed(_above, effects_S, direction, smallest, rounding)


def shuffled_levels_p(values_SL: FloatArray, weights_L: FloatArray, direction: Direction) -> float:
    """p of the mean slope where, within each seed, the responses might as well belong to any of the levels."""
    if len(values_SL) < 2:
        return math.nan
    rng, orders_NL = np.random.default_rng(RESAMPLING_SEED), _orders(len(weights_L))
    # Every seed gets the same random orders, in a random order of its own: independent, and drawn once.
    slopes_N = sum((values_L[orders_NL] @ weights_L)[rng.permutation(RESAMPLES)] for values_L in values_SL)
    sign = (-1.0 if direction == "decreasing" else 1.0) / len(values_SL)
    slopes_N, slope = sign * slopes_N, sign * float((values_SL @ weights_L).sum())
    slack = ROUNDING * float((np.abs(values_SL) @ np.abs(weights_L)).sum()) / len(values_SL)
    as_steep = np.count_nonzero(slopes_N >= slope - slack)
    return float((1 + as_steep) / (1 + RESAMPLES))


@lru_cache(maxsize=8)
def _orders(levels: int) -> npt.NDArray[np.int64]:
    """Random orders of that many levels, the same in every process."""
    rng = np.random.default_rng(RESAMPLING_SEED)
    return rng.permuted(np.tile(np.arange(levels), (RESAMPLES, 1)), axis=1)


def _above(effects_S: FloatArray) -> float:
    sums_N, own = _signs(len(effects_S)) @ effects_S, float(effects_S.sum())
    as_high = np.count_nonzero(sums_N >= own - ROUNDING * float(np.abs(effects_S).sum()))
    extra = 0 if len(effects_S) <= MOST_FLIPPED else 1
    return float((as_high + extra) / (len(sums_N) + extra))


@lru_cache(maxsize=8)
def _signs(seeds: int) -> FloatArray:
    """Every way to choose a sign for each of so many seeds, or many random ones, the same in every process."""
    if seeds <= MOST_FLIPPED:
        return np.array([*product((-1.0, 1.0), repeat=seeds)])
    return np.random.default_rng(RESAMPLING_SEED).choice([-1.0, 1.0], size=(RESAMPLES, seeds))
