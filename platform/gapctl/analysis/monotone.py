"""Find the steps of a trend that go the other way.

A slope and Page's test look at all levels together: a response may fall over them and yet rise between two. Then the
trend is not monotone, and its slope tells little of what happens from level to level.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from gapctl.analysis.estimates import Direction, compute_t_interval
from gapctl.analysis.hypothesis_effects import is_beyond_smallest_effect
from gapctl.analysis.paired_responses import FloatArray
from gapctl.analysis.results import ReversedStep
from gapctl.config.hypotheses import Level


def find_reversed_steps(
    values_SL: FloatArray,
    levels: Sequence[Level],
    slope_direction: Direction,
    smallest_effect: float,
    alpha: float,
    rounding: float = 0.0,
) -> tuple[ReversedStep, ...]:
    """Return the steps between ascending levels that go against a trend's slope by more than is claimed of one.

    A step is the mean over seeds of the paired difference of two neighbouring levels of `values_SL` (S, L). Its
    interval is Student's at level 1 - alpha over all steps together (Bonferroni), and must lie beyond the smallest
    slope claimed, `smallest_effect`, times the distance of the levels. Differences up to `rounding` are noise of
    floating-point sums.
    """
    other_way: Direction = "decreasing" if slope_direction == "increasing" else "increasing"
    found = []
    for (lower, upper), steps_S in zip(pairwise(levels), np.diff(values_SL, axis=1).T, strict=True):
        ci = compute_t_interval(steps_S, alpha / (len(levels) - 1))
        if is_beyond_smallest_effect(ci, smallest_effect * (float(upper) - float(lower)), other_way, rounding):
            found.append(ReversedStep(lower, upper, float(steps_S.mean()), ci))
    return tuple(found)
