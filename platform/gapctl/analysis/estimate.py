"""What a test estimates: one effect per seed, their mean, and p-values of what is declared."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from gapctl.analysis.effect_test import ROUNDING, Direction, PTest, Tested, effect_test
from gapctl.analysis.flips import sign_flip_p
from gapctl.analysis.interval import bootstrap_interval, t_interval
from gapctl.analysis.paired import FloatArray
from gapctl.analysis.results import UNKNOWN, Interval


@dataclass(frozen=True)
class Estimate:
    """`effects_S` are the seeds' own effects; NaN stands for what too few seeds allow.

    `p` is of an effect in the declared direction, however small, and `p_test` what gave it; `p_claim` is of the whole
    claim, an effect beyond the smallest that counts; `p_permutation` is p without a distribution. `spread_of_seeds`
    is the responses' standard deviation over seeds within a cell, pooled over cells;
    `least_spread` the least spread of effects that the interval assumes.
    """

    effects_S: FloatArray
    value: float
    ci: Interval
    ci_bootstrap: Interval
    p: float
    p_test: PTest
    p_claim: float = math.nan
    p_permutation: float = math.nan
    spread_of_seeds: float = math.nan
    cells: int = 1
    least_spread: float = 0.0

    @property
    def spread(self) -> float:
        """The standard deviation of the seeds' effects; NaN with fewer than two."""
        return float(self.effects_S.std(ddof=1)) if len(self.effects_S) > 1 else math.nan

    @property
    def standardised(self) -> float:
        """The estimate over the spread of the seeds' effects (d_z), corrected for few seeds; NaN without spread."""
        return self._over(self.spread)

    @property
    def standardised_pooled(self) -> float:
        """The estimate over the responses' own spread between seeds, corrected likewise; NaN without spread."""
        cells = max(1, self.cells)
        return self._over(self.spread_of_seeds, 1 + cells * (len(self.effects_S) - 1))

    def _over(self, spread: float, numbers: int | None = None) -> float:
        """Over a spread that is estimated from so many numbers; from one for each seed if left out."""
        return hedges(numbers or len(self.effects_S)) * self.value / spread if spread > 0 else math.nan


def hedges(seeds: int) -> float:
    """Hedges' exact correction for a standard deviation of that many seeds: 0.72 for four, NaN for two.

    Two seeds leave the expectation of the ratio infinite, so that nothing corrects it.
    """
    free = seeds - 1
    if free < 2:
        return math.nan
    log = special.gammaln(free / 2) - special.gammaln((free - 1) / 2) - 0.5 * math.log(free / 2)
    return float(math.exp(log))


def effects_of(values_SC: FloatArray, weights_C: FloatArray) -> FloatArray:
    """Each seed's weighted sum over cells; what is within rounding of the responses is no effect."""
    effects_S = values_SC @ weights_C
    size_S = np.abs(values_SC) @ np.abs(weights_C)
    return np.asarray(np.where(np.abs(effects_S) <= ROUNDING * size_S, 0.0, effects_S))


def estimate(
    effects_S: FloatArray,
    direction: Direction,
    smallest: float,
    alpha: float,
    *,
    tested: Tested | None = None,
    p_permutation: float | None = None,
    values_SC: FloatArray | None = None,
) -> Estimate:
    """The mean effect with its intervals at level 1 - alpha, and p-values; `tested` takes the place of the t test."""
    nearest = smallest if direction == "neither" else 0.0
    tested = tested or effect_test(effects_S, direction, nearest)
    claim = effect_test(effects_S, direction, smallest).p
    if p_permutation is None:
        p_permutation = sign_flip_p(effects_S, direction, nearest)
    return Estimate(
        effects_S,
        float(effects_S.mean()) if len(effects_S) else math.nan,
        t_interval(effects_S, alpha),
        bootstrap_interval(effects_S, alpha),
        tested.p,
        tested.by,
        float(np.maximum(tested.p, claim)),
        p_permutation,
        pooled_spread(values_SC),
        cells=1 if values_SC is None else values_SC.shape[1],
    )


def pooled_spread(values_SC: FloatArray | None) -> float:
    """The standard deviation over seeds within a cell, pooled over cells; NaN with fewer than two seeds."""
    if values_SC is None or len(values_SC) < 2:
        return math.nan
    return math.sqrt(float(values_SC.var(axis=0, ddof=1).mean()))


NOTHING = Estimate(np.empty(0), math.nan, UNKNOWN, UNKNOWN, math.nan, "none")
