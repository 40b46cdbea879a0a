"""Confidence intervals of a mean over seeds: Student's t, which decides, and the bootstrap, reported beside it."""

import math
import warnings
from typing import Literal

import numpy as np
from scipy import stats

from gapctl.analysis.paired import FloatArray
from gapctl.analysis.results import UNKNOWN, Interval

RESAMPLES = 9_999
BOOTSTRAP_SEED = 20_240_407


def t_interval(effects_S: FloatArray, alpha: float) -> Interval:
    """Student's interval of the mean at level 1 - alpha; NaN for fewer than two seeds."""
    if len(effects_S) < 2:
        return UNKNOWN
    centre, half = float(effects_S.mean()), float(half_width(spread_of(effects_S), len(effects_S), alpha))
    return Interval(centre - half, centre + half)


def spread_of(effects_S: FloatArray) -> float:
    """The standard deviation of seeds' effects; NaN with fewer than two, and never 0 because squares underflow."""
    if len(effects_S) < 2:
        return math.nan
    _, exponent = np.frexp(np.abs(effects_S).max())
    return float(np.ldexp(np.ldexp(effects_S, -exponent).std(ddof=1), exponent))


def half_width(spread: float | FloatArray, seeds: int | FloatArray, alpha: float) -> FloatArray:
    """Half of Student's interval for the mean of `seeds` effects with that standard deviation; NaN for one seed."""
    count = np.asarray(seeds, dtype=float)
    return np.asarray(stats.t.ppf(1 - alpha / 2, count - 1) * spread / np.sqrt(count))


def bootstrap_interval(
    effects_S: FloatArray, alpha: float, method: Literal["BCa", "percentile"] = "BCa", resamples: int = RESAMPLES
) -> Interval:
    """Bootstrap interval of the mean over seeds, the same for the same effects in any process.

    Where BCa is undefined (all effects equal, or a jackknife without spread) it is the percentile interval; NaN for
    fewer than two seeds.
    """
    if len(effects_S) < 2:
        return UNKNOWN
    with warnings.catch_warnings():
        # What scipy and numpy warn of here is BCa being undefined, and that is answered below.
        warnings.simplefilter("ignore")
        found = stats.bootstrap(
            (effects_S,),
            np.mean,
            n_resamples=resamples,
            confidence_level=1 - alpha,
            method=method,
            rng=np.random.default_rng(BOOTSTRAP_SEED),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    if method == "BCa" and not (math.isfinite(low) and math.isfinite(high)):
        return bootstrap_interval(effects_S, alpha, "percentile", resamples)
    return Interval(low, high)
