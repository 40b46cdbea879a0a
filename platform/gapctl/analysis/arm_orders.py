"""How often arms whose levels are dealt anew give a correlation as strong: the same deal in every seed.

Index letters: S seeds, A arms, N deals, Q given metrics.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import permutations
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gapctl.analysis.flips import RESAMPLING_SEED
from gapctl.analysis.kendall import ranks, taus
from gapctl.analysis.paired import FloatArray
from gapctl.analysis.residuals import without
from gapctl.analysis.ties import IntArray
from gapctl.spec.arms import MOST_COUNTED, RANDOM_DEALS, ArmGrid

NEAR: Final = 1e-9
"""Mean taus no further apart are as strong as each other; a pair of 10,000 arms turning over moves tau by 4e-8."""
NUMBERS: Final = 1 << 16
"""Numbers of one seed that are worked on at a time, so that they stay in the cache."""


class Tails(NamedTuple):
    """The shares of deals with a mean tau as high as found and as low as found."""

    above: float
    below: float


class Fit(NamedTuple):
    """What is taken away from y again after each deal: directions (S, A, Q), and up to where residuals are tied."""

    span_SAQ: FloatArray
    slack_S1: FloatArray

    def of(self, seeds_S: npt.NDArray[np.bool_]) -> "Fit":
        """The same of some seeds."""
        return Fit(self.span_SAQ[seeds_S], self.slack_S1[seeds_S])


def tails(x_SA: FloatArray, y_SA: FloatArray, grid: ArmGrid, fit: Fit | None = None) -> Tails:
    """Deals the levels of each factor anew among y's arms: all of a level's arms, and all seeds, at once.

    So neither an arm's seeds nor the arms of a level are taken apart: they resemble each other, and what they share
    is one coincidence (permutations that a design allows: Anderson and ter Braak 2003, J Stat Comput Simul 73:85-113).
    Given factors' levels stay where they are. All deals up to 5,040 (exact), else 2,999 random ones beside the one
    that was found. `fit` takes given metrics away again after each (Freedman and Lane 1983, J Bus Econ Stat
    1:292-298).
    """
    slack_S1 = None if fit is None else fit.slack_S1
    rank_SA = ranks(x_SA, grid.strata, slack_S1)
    # Without a fit, values that are dealt keep their ranks, as no deal takes an arm out of its stratum.
    dealt_SA = np.asarray(ranks(y_SA, grid.strata), dtype=float) if fit is None else y_SA
    dealt_N = np.concatenate([*_dealt(rank_SA, dealt_SA, grid, fit)])
    found = float(_mean_taus(rank_SA, dealt_SA, np.arange(grid.arms)[None], grid, fit)[0])
    extra = grid.counted - len(dealt_N)
    above, below = np.count_nonzero(dealt_N >= found - NEAR), np.count_nonzero(dealt_N <= found + NEAR)
    return Tails((above + extra) / grid.counted, (below + extra) / grid.counted)


@lru_cache(maxsize=8)
def _orders(grid: ArmGrid) -> IntArray:
    """Which arm each arm gets its y from, in each deal: (N, A)."""
    exact = grid.orders <= MOST_COUNTED
    rng = np.random.default_rng(RESAMPLING_SEED)
    orders_NA, count = np.zeros((1, 1), dtype=np.int64), 1
    for levels, given in zip(grid.levels, grid.given, strict=True):
        own_L = np.arange(levels)
        if given:
            dealt_NL = own_L[None]
        elif exact:
            dealt_NL = np.array([*permutations(own_L)])
        else:
            dealt_NL = rng.permuted(np.tile(own_L, (RANDOM_DEALS, 1)), axis=1)
        before_NA, after_NL = (orders_NA[:, None], dealt_NL[None]) if exact else (orders_NA, dealt_NL)
        orders_NA = (levels * before_NA[..., :, None] + after_NL[..., None, :]).reshape(-1, count * levels)
        count *= levels
    return orders_NA.astype(np.int32)


def _dealt(x_SA: IntArray, y_SA: FloatArray, grid: ArmGrid, fit: Fit | None) -> Iterator[FloatArray]:
    """The mean tau of each deal, some at a time."""
    orders_NA, step = _orders(grid), max(1, NUMBERS // grid.arms)
    for start in range(0, len(orders_NA), step):
        yield _mean_taus(x_SA, y_SA, orders_NA[start : start + step], grid, fit)


def _mean_taus(x_SA: IntArray, y_SA: FloatArray, orders_NA: IntArray, grid: ArmGrid, fit: Fit | None) -> FloatArray:
    """The mean over seeds of tau where y was dealt; a seed in which a deal leaves nothing of y counts as 0."""
    found_N = np.zeros(len(orders_NA))
    for seed, x_A in enumerate(x_SA):
        dealt_NA = y_SA[seed][orders_NA]
        if fit is None:
            rank_NA = dealt_NA.astype(np.int64)
        else:
            rank_NA = ranks(without(fit.span_SAQ[seed], dealt_NA), grid.strata, fit.slack_S1[seed])
        found_N += np.nan_to_num(taus(x_A[None], rank_NA, grid.strata))
    return np.asarray(found_N / len(x_SA))
