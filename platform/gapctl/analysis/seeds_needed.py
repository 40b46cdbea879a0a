"""How many seeds would bring a verdict, if the estimate and the spread between seeds stayed as they are."""

import math

import numpy as np
from scipy import stats

from gapctl.analysis.effect_test import Direction, sides_of, strictly
from gapctl.analysis.estimate import Estimate
from gapctl.analysis.interval import half_width
from gapctl.analysis.paired import FloatArray
from gapctl.analysis.rule import margin

MOST_SEEDS = 1_000


def seeds_needed(
    found: Estimate, smallest_effect: float, direction: Direction, alpha: float, holm_level: float
) -> int | None:
    """The smallest number of seeds, above the present one, whose interval would leave the smallest effect behind.

    For a verdict of supported, p of the claim has to fall below `holm_level` as well; where seeds agree exactly, that
    is the number at which the sign test can say so at all. None with fewer than two seeds, for an estimate that lies
    on the smallest effect, where more than 1,000 would be needed, and where seeds do not help: p of a correlation
    depends on the number of arms.
    """
    seeds = len(found.effects_S)
    distance = margin(found.value, smallest_effect, direction)
    if seeds < 2 or math.isnan(distance) or abs(distance) <= found.rounding:
        return None
    spread = max(found.spread, found.least_spread)
    counts_N = np.arange(seeds + 1, MOST_SEEDS + 1, dtype=float)
    settled_N = half_width(spread, counts_N, alpha) < abs(distance)
    if distance > 0:
        settled_N &= _p_at(counts_N, found, distance, spread, sides_of(direction)) < strictly(holm_level)
    return int(counts_N[settled_N.argmax()]) if settled_N.any() else None


def _p_at(counts_N: FloatArray, found: Estimate, distance: float, spread: float, sides: int) -> FloatArray:
    """p of the claim with more seeds like these: against the smallest effect, and of the test's own."""
    if found.agree and found.p_test != "permutation":
        claim_N = np.asarray(sides * 0.5**counts_N)
    else:
        claim_N = np.asarray(sides * stats.t.sf(distance * np.sqrt(counts_N) / spread, counts_N - 1))
    if found.p_test == "permutation":
        return np.maximum(claim_N, found.p)
    return np.maximum(claim_N, _page_p_at(counts_N, found)) if found.p_test == "page" else claim_N


def _page_p_at(counts_N: FloatArray, found: Estimate) -> FloatArray:
    """Page's standardised statistic is a sum over seeds: the same trend in each new one makes it grow like their root.

    Where every seed has its levels in order, p is the share of that one order among all, exactly.
    """
    seeds, orders = len(found.effects_S), math.factorial(found.cells)
    if orders > 1 and math.isclose(found.p, (1 / orders) ** seeds, rel_tol=1e-6):
        return np.asarray((1 / orders) ** counts_N)
    return np.asarray(stats.norm.sf(stats.norm.isf(found.p) * np.sqrt(counts_N / seeds)))
