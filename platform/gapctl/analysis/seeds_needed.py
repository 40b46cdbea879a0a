"""How many seeds would bring a verdict, if the estimate and the spread between seeds stayed as they are."""

import math

import numpy as np
from scipy import stats

from gapctl.analysis.estimate import Direction, Estimate
from gapctl.analysis.interval import half_width
from gapctl.analysis.paired import FloatArray
from gapctl.analysis.rule import margin

MOST_SEEDS = 1_000


def seeds_needed(
    found: Estimate, smallest_effect: float, direction: Direction, alpha: float, holm_level: float
) -> int | None:
    """The smallest number of seeds, above the present one, whose interval would leave the smallest effect behind.

    For a verdict of supported, p has to fall below `holm_level` as well. None with fewer than two seeds, for an
    estimate that lies on the smallest effect, and where more than 1,000 would be needed.
    """
    seeds = len(found.effects_S)
    distance = margin(found.value, smallest_effect, direction)
    if seeds < 2 or distance == 0 or math.isnan(distance):
        return None
    counts_N = np.arange(seeds + 1, MOST_SEEDS + 1, dtype=float)
    settled_N = half_width(found.spread, counts_N, alpha) < abs(distance)
    if distance > 0:
        settled_N &= _p_at(counts_N, found, direction) < holm_level
    return int(counts_N[settled_N.argmax()]) if settled_N.any() else None


def _p_at(counts_N: FloatArray, found: Estimate, direction: Direction) -> FloatArray:
    sides = 2 if direction == "either" else 1
    if found.p_test == "sign":
        return np.asarray(sides * 0.5**counts_N)
    if found.p_test == "t":
        t_N = abs(found.value) * np.sqrt(counts_N) / found.spread
        return np.asarray(sides * stats.t.sf(t_N, counts_N - 1))
    # Page's standardised statistic is a sum over seeds: the same trend in each new one makes it grow like their root.
    z_N = stats.norm.isf(found.p) * np.sqrt(counts_N / len(found.effects_S))
    return np.asarray(stats.norm.sf(z_N))
