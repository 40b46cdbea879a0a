"""The distribution-free companions of the t tests: signs flipped over seeds, levels shuffled within seeds."""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import stats

from gapctl.analysis.effect_test import Direction, directed
from gapctl.analysis.paired import FloatArray

RESAMPLES = 9_999
RESAMPLING_SEED = 20_240_407


def sign_flip_p(effects_S: FloatArray, direction: Direction, smallest: float = 0.0) -> float:
    """p where each seed's effect might as well have had the other sign; all flips of up to 13 seeds, else random ones.

    It never falls below 0.5 to the power of the number of seeds (twice that for `either`).
    """
    if len(effects_S) < 2:
        return math.nan
    return directed(_above, effects_S, direction, smallest)


def shuffled_levels_p(values_SL: FloatArray, weights_L: FloatArray, direction: Direction) -> float:
    """p of the mean slope where, within each seed, the responses might as well belong to any of the levels."""
    if len(values_SL) < 2:
        return math.nan
    rng, orders_NL = np.random.default_rng(RESAMPLING_SEED), _orders(len(weights_L))
    # Every seed gets the same random orders, in a random order of its own: independent, and drawn once.
    slopes_N = sum((values_L[orders_NL] @ weights_L)[rng.permutation(RESAMPLES)] for values_L in values_SL)
    sign = (-1.0 if direction == "decreasing" else 1.0) / len(values_SL)
    slopes_N, slope = sign * slopes_N, sign * float((values_SL @ weights_L).sum())
    as_steep = np.count_nonzero(slopes_N >= slope - 1e-9 * abs(slope))
    return float((1 + as_steep) / (1 + RESAMPLES))


@lru_cache(maxsize=8)
def _orders(levels: int) -> npt.NDArray[np.int64]:
    """Random orders of that many levels, the same in every process."""
    rng = np.random.default_rng(RESAMPLING_SEED)
    return rng.permuted(np.tile(np.arange(levels), (RESAMPLES, 1)), axis=1)


def _above(effects_S: FloatArray) -> float:
    found = stats.permutation_test(
        (effects_S,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        alternative="greater",
        rng=np.random.default_rng(RESAMPLING_SEED),
    )
    return float(found.pvalue)
