"""What a test estimates: one effect per seed, their mean, and p-values of what is declared."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special

from gapctl.analysis.effect_test import Direction, PTest, Tested, agree, effect_test, rounding_of
from gapctl.analysis.flips import sign_flip_p
from gapctl.analysis.interval import bootstrap_interval, spread_of, t_interval
from gapctl.analysis.paired import FloatArray
from gapctl.analysis.results import UNKNOWN, Interval
from gapctl.analysis.ties import ROUNDING


@dataclass(frozen=True)
class Estimate:
    """`effects_S` are the seeds' own effects; NaN stands for what too few seeds allow.

    `p` is of an effect in the declared direction, however small, and `p_test` what gave it; `p_claim` is of the whole
    claim, an effect beyond the smallest that counts; `p_permutation` is p without a distribution. `spread_of_seeds`
    is the responses' standard deviation over seeds within a cell, pooled over cells;
    `least_spread` the least spread of effects that the interval assumes; `rounding` is how far two numbers in the
    effect's unit may lie apart and still be equal.
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
    rounding: float = 0.0

    @property
    def spread(self) -> float:
        """The standard deviation of the seeds' effects; NaN with fewer than two."""
        return spread_of(self.effects_S)

    @property
    def agree(self) -> bool:
        """Whether there are several seeds and all have the same effect, up to rounding."""
        return len(self.effects_S) > 1 and agree(self.effects_S, self.rounding)

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
        return hedges(numbers or len(self.effects_S)) * self.value / spread if spread > self.rounding else math.nan


def hedges(seeds: int) -> float:
    """Hedges' exact correction for a standard deviation of that many seeds: 0.72 for four, NaN for two.

    Two seeds leave the expectation of the ratio infinite, so that nothing corrects it.
    """
    free = seeds - 1
    if free < 2:
        return math.nan
    log = special.gammaln(free / 2) - special.gammaln((free - 1) / 2) - 0.5 * math.log(free / 2)
    return float(math.exp(log))


class Effects(NamedTuple):
    """Each seed's effect, and how far two of them may lie apart by the rounding of the responses alone."""

    effects_S: FloatArray
    rounding: float


def effects_of(values_SC: FloatArray, weights_C: FloatArray) -> Effects:
    """Each seed's weighted sum over cells; what is within rounding of the responses is no effect."""
    effects_S = values_SC @ weights_C
    rounding_S = ROUNDING * (np.abs(values_SC) @ np.abs(weights_C))
    return Effects(np.where(np.abs(effects_S) <= rounding_S, 0.0, effects_S), float(rounding_S.max(initial=0.0)))


def estimate(
    effects: Effects,
    direction: Direction,
    smallest: float,
    alpha: float,
    *,
    tested: Tested | None = None,
    p_permutation: float | None = None,
    values_SC: FloatArray | None = None,
) -> Estimate:
    """The mean effect with its intervals at level 1 - alpha, and p-values; `tested` takes the place of the t test."""
    effects_S, rounding = effects.effects_S, max(effects.rounding, rounding_of(effects.effects_S, smallest))
    nearest = smallest if direction == "neither" else 0.0
    tested = tested or effect_test(effects_S, direction, nearest, rounding)
    claim = effect_test(effects_S, direction, smallest, rounding).p
    if p_permutation is None:
        p_permutation = sign_flip_p(effects_S, direction, nearest, rounding)
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
        rounding=rounding,
    )


def pooled_spread(values_SC: FloatArray | None) -> float:
    """The standard deviation over seeds within a cell, pooled over cells; NaN with fewer than two seeds."""
    if values_SC is None or len(values_SC) < 2:
        return math.nan
    return math.sqrt(float(values_SC.var(axis=0, ddof=1).mean()))


NOTHING = Estimate(np.empty(0), math.nan, UNKNOWN, UNKNOWN, math.nan, "none")
