"""Whether effects of seeds lie where a hypothesis says: the t test, or the sign test where seeds agree exactly."""

import math
from collections.abc import Callable
from itertools import count
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from gapctl.analysis.interval import spread_of
from gapctl.analysis.paired import FloatArray
from gapctl.analysis.ties import ROUNDING

Direction = Literal["increasing", "decreasing", "either", "neither"]
"""Where an effect is claimed: above the smallest effect, below its negative, on either side of both, or between."""
PTest = Literal["t", "sign", "page", "permutation", "none"]
OneSided = Callable[[FloatArray], float]


class Tested(NamedTuple):
    """A p-value and the test that gave it; NaN and "none" where no test is possible."""

    p: float
    by: PTest


def effect_test(effects_S: FloatArray, direction: Direction, smallest: float = 0.0, rounding: float = 0.0) -> Tested:
    """p that the mean effect is not beyond `smallest` in the declared direction; needs two seeds.

    Seeds that agree exactly leave the t test nothing to judge the mean by: it would call any two equal numbers
    certain. The sign test then says what so few seeds can say. Effects are equal, and on the smallest effect rather
    than beyond it, where no more than `rounding` is between.
    """
    if len(effects_S) < 2:
        return Tested(math.nan, "none")
    if agree(effects_S, rounding):
        return Tested(directed(_sign_p, effects_S, direction, smallest, rounding), "sign")
    return Tested(directed(_t_p, effects_S, direction, smallest, rounding), "t")


def directed(
    above: OneSided, effects_S: FloatArray, direction: Direction, smallest: float, rounding: float = 0.0
) -> float:
    """p of a direction from a test of effects above zero: twice the smaller for `either`, the larger for `neither`.

    Effects within rounding of the smallest effect are zero beyond it.
    """
    slack = max(rounding, rounding_of(effects_S, smallest))
    up_S, down_S = (_beyond(sign * effects_S, smallest, slack) for sign in (1, -1))
    if direction == "neither":
        return max(above(-down_S), above(-up_S))
    if direction == "either":
        return min(1.0, 2 * min(above(up_S), above(down_S)))
    return above(up_S if direction == "increasing" else down_S)


def agree(effects_S: FloatArray, rounding: float = 0.0) -> bool:
    """Whether all seeds have the same effect, up to rounding."""
    return bool(np.ptp(effects_S) <= max(rounding, rounding_of(effects_S)))


def rounding_of(effects_S: FloatArray, smallest: float = 0.0) -> float:
    """What rounding may make of effects that are known only as they are, or of their distance to the smallest."""
    return ROUNDING * max(smallest, float(np.abs(effects_S).max(initial=0.0)))


def sides_of(direction: Direction) -> int:
    """How many ways there are for an effect to be as claimed."""
    return 2 if direction == "either" else 1


def fewest_of_sign_test(direction: Direction, level: float) -> int:
    """How many seeds that agree exactly the sign test needs to fall below a level at all: 5 for 0.05 on one side."""
    return next(seeds for seeds in count(1) if significant(sides_of(direction) * 0.5**seeds, level))


def significant(p: float, level: float) -> bool:
    """Whether p is below the level by more than rounding; NaN is not."""
    return p < strictly(level)


def strictly(level: float) -> float:
    """What p has to stay below, so that one which equals the level but for rounding does not."""
    return level * (1 - ROUNDING)


def _beyond(effects_S: FloatArray, smallest: float, slack: float) -> FloatArray:
    distance_S = effects_S - smallest
    return np.where(np.abs(distance_S) <= slack, 0.0, distance_S)


def _t_p(effects_S: FloatArray) -> float:
    if not effects_S.any():
        return 1.0
    seeds = len(effects_S)
    return float(stats.t.sf(effects_S.mean() / spread_of(effects_S) * math.sqrt(seeds), seeds - 1))


def _sign_p(effects_S: FloatArray) -> float:
    return float(0.5 ** len(effects_S)) if effects_S.mean() > 0 else 1.0
