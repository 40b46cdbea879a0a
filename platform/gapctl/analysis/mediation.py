"""A mediation: a treatment's effect where the mediator is free, less the same where it is held fixed."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gapctl.analysis.effect_test import Direction
from gapctl.analysis.estimate import NOTHING, Estimate, effects_of, estimate
from gapctl.analysis.paired import FloatArray, Paired
from gapctl.analysis.results import UNKNOWN, Interval
from gapctl.analysis.ties import ROUNDING

FREE_C = np.array([-1.0, 1.0, 0.0, 0.0])
FIXED_C = np.array([0.0, 0.0, -1.0, 1.0])


@dataclass(frozen=True)
class Mediated:
    """What the mediator carries (`through`, the claim's effect), the treatment's effect in both arms, and the share.

    The share is `through` over the free arm's effect, NaN with its interval where that effect's own interval holds
    zero: a share of what may be nothing has none. Below 0 the mediator works against the treatment, above 1 the fixed
    arm's effect is turned over.
    """

    through: Estimate
    free: Estimate
    fixed: Estimate
    share: float
    share_ci: Interval


def mediation(responses: Paired, direction: Direction, smallest: float, alpha: float) -> Mediated:
    """`responses` in four cells: both levels of the treatment with the mediator free, then both with it fixed."""
    values_SC = responses.values_SC
    through, free, fixed = (effects_of(values_SC, weights_C) for weights_C in (FREE_C - FIXED_C, FREE_C, FIXED_C))
    if not len(values_SC):
        return Mediated(NOTHING, NOTHING, NOTHING, math.nan, UNKNOWN)
    share = fieller(through.effects_S, free.effects_S, alpha)
    return Mediated(
        estimate(through, direction, smallest, alpha, values_SC=values_SC),
        estimate(free, "either", 0.0, alpha),
        estimate(fixed, "either", 0.0, alpha),
        math.nan if math.isnan(share.low) else float(through.effects_S.mean() / free.effects_S.mean()),
        share,
    )


def fieller(part_S: FloatArray, whole_S: FloatArray, alpha: float) -> Interval:
    """Fieller's interval of mean(part) / mean(whole), paired (1954, J R Stat Soc B 16:175-185).

    NaN where the whole's own interval holds zero or ends on it, as the interval is then unbounded, and for fewer than
    two seeds.
    """
    seeds, largest = len(part_S), float(np.abs([part_S, whole_S]).max())
    if seeds < 2 or largest == 0:
        return UNKNOWN
    part_S, whole_S = part_S / largest, whole_S / largest
    bound = stats.t.ppf(1 - alpha / 2, seeds - 1) ** 2 / seeds
    (part_var, both), (_, whole_var) = np.cov(part_S, whole_S)
    part, whole = float(part_S.mean()), float(whole_S.mean())
    a, b, c = whole**2 - bound * whole_var, part * whole - bound * both, part**2 - bound * part_var
    if a <= ROUNDING * whole**2:
        return UNKNOWN
    root = math.sqrt(max(0.0, b * b - a * c))
    return Interval(float((b - root) / a), float((b + root) / a))
