"""The distribution-free companions of the t tests: signs flipped over seeds, levels shuffled within seeds."""

import math

import numpy as np
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
    rng = np.random.default_rng(RESAMPLING_SEED)
    shuffled_NSL = rng.permuted(np.broadcast_to(values_SL, (RESAMPLES, *values_SL.shape)), axis=-1)
    sign = -1.0 if direction == "decreasing" else 1.0
    slopes_N, slope = sign * (shuffled_NSL @ weights_L).mean(axis=1), sign * (values_SL @ weights_L).mean()
    as_steep = np.count_nonzero(slopes_N >= slope - 1e-9 * abs(slope))
    return float((1 + as_steep) / (1 + RESAMPLES))


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
