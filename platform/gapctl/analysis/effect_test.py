"""Whether effects of seeds lie where a hypothesis says: the t test, or the sign test where seeds agree exactly."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from gapctl.analysis.paired import FloatArray

Direction = Literal["increasing", "decreasing", "either", "neither"]
"""Where an effect is claimed: above the smallest effect, below its negative, on either side of both, or between."""
PTest = Literal["t", "sign", "page", "permutation", "none"]
OneSided = Callable[[FloatArray], float]
ROUNDING = 1e-12
"""Effects that differ by no more than this share of the largest are taken to be equal."""


class Tested(NamedTuple):
    """A p-value and the test that gave it; NaN and "none" where no test is possible."""

    p: float
    by: PTest


def effect_test(effects_S: FloatArray, direction: Direction, smallest: float = 0.0) -> Tested:
    """p that the mean effect is not beyond `smallest` in the declared direction; needs two seeds.

    Seeds that agree exactly leave the t test nothing to judge the mean by: it would call any two equal numbers
    certain. The sign test then says what so few seeds can say.
    """
    if len(effects_S) < 2:
        return Tested(math.nan, "none")
    if agree(effects_S):
        return Tested(directed(_sign_p, effects_S, direction, smallest), "sign")
    return Tested(directed(_t_p, effects_S, direction, smallest), "t")


def directed(above: OneSided, effects_S: FloatArray, direction: Direction, smallest: float) -> float:
    """p of a direction from a test of effects above zero: twice the smaller for `either`, the larger for `neither`."""
    if direction == "neither":
        return max(above(effects_S + smallest), above(smallest - effects_S))
    if direction == "either":
        return min(1.0, 2 * min(above(effects_S - smallest), above(-effects_S - smallest)))
    return above((effects_S if direction == "increasing" else -effects_S) - smallest)


def agree(effects_S: FloatArray) -> bool:
    """Whether all seeds have the same effect, up to rounding."""
    return bool(np.ptp(effects_S) <= ROUNDING * np.abs(effects_S).max())


def _t_p(effects_S: FloatArray) -> float:
    return float(stats.ttest_1samp(effects_S, 0.0, alternative="greater").pvalue)


def _sign_p(effects_S: FloatArray) -> float:
    return float(0.5 ** len(effects_S)) if effects_S.mean() > 0 else 1.0
