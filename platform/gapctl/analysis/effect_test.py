"""Whether effects of seeds have the declared sign: the t test, or the sign test where seeds agree exactly."""

import math
from typing import Final, Literal, NamedTuple

import numpy as np
from scipy import stats

from gapctl.analysis.estimate import Direction, PTest
from gapctl.analysis.paired import FloatArray

ALTERNATIVES: Final[dict[Direction, Literal["greater", "less", "two-sided"]]] = {
    "increasing": "greater",
    "decreasing": "less",
    "either": "two-sided",
}
ROUNDING = 1e-12
"""Effects that differ by no more than this share of the largest are taken to be equal."""


class Tested(NamedTuple):
    """A p-value and the test that gave it; NaN and "none" where no test is possible."""

    p: float
    by: PTest


def effect_test(effects_S: FloatArray, direction: Direction) -> Tested:
    """p of a mean effect of zero, one-sided in the declared direction; needs two seeds.

    Seeds that agree exactly leave the t test nothing to judge the mean by: it would call any two equal numbers
    certain. The sign test then says what so few seeds can say.
    """
    if len(effects_S) < 2:
        return Tested(math.nan, "none")
    if agree(effects_S):
        return Tested(_sign_p(effects_S, direction), "sign")
    return Tested(float(stats.ttest_1samp(effects_S, 0.0, alternative=ALTERNATIVES[direction]).pvalue), "t")


def agree(effects_S: FloatArray) -> bool:
    """Whether all seeds have the same effect, up to rounding."""
    return bool(np.ptp(effects_S) <= ROUNDING * np.abs(effects_S).max())


def _sign_p(effects_S: FloatArray, direction: Direction) -> float:
    if not effects_S.any():
        return 1.0
    risen = int(np.count_nonzero(effects_S > 0))
    return float(stats.binomtest(risen, len(effects_S), alternative=ALTERNATIVES[direction]).pvalue)
