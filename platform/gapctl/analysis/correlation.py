"""A correlation: Kendall's tau of two metrics over a sweep's arms, within each seed, plain or partial."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from gapctl.analysis.arm_orders import Tails, orders_of, tails
from gapctl.analysis.effect_test import Direction
from gapctl.analysis.estimate import NOTHING, Estimate
from gapctl.analysis.interval import bootstrap_interval, half_width
from gapctl.analysis.kendall import sign_matrices, taus
from gapctl.analysis.paired import FloatArray, Paired
from gapctl.analysis.residuals import freedom, residual_makers, residuals
from gapctl.analysis.results import UNKNOWN, Interval

FEWEST_FREE = 2
"""Below two free differences between arms, residuals of two metrics lie on one line whatever the metrics."""


@dataclass(frozen=True)
class Correlated:
    """A correlation's estimate and what it rests on.

    `constant` are seeds left out because a metric is the same in all their arms (or nothing is left of it),
    `pairs` the pairs of arms compared in each seed, `orders` how many orders of the arms p could be counted over;
    `too_few` says that the arms leave nothing once the given metrics are accounted for.
    """

    estimate: Estimate
    constant: tuple[int, ...]
    arms: int
    pairs: int
    orders: int
    too_few: bool = False


def correlation(
    responses: Paired, strata: Sequence[Sequence[int]], direction: Direction, smallest: float, alpha: float
) -> Correlated:
    """`responses` are the two metrics, then the given ones, over arms; only arms of one stratum are compared.

    The estimate is the mean over seeds of each seed's tau-b, its interval Student's over seeds, with at least the
    spread of half a pair's turning over in tau, since few arms let all seeds agree exactly by chance.
    """
    strata = [arms for arms in strata if len(arms) > 1]
    compared = [place for arms in strata for place in arms]
    sizes = _sizes(strata)
    values_RSA = responses.values_RSC[:, :, compared]
    strata = _renumbered(strata)
    given = len(values_RSA) - 2
    empty = Correlated(NOTHING, (), len(compared), sizes, orders_of(strata))
    if given and freedom(strata, given) < FEWEST_FREE:
        return replace(empty, too_few=True)
    x_SA, y_SA, makers_SAA = _freed(values_RSA, strata)
    x_SII, y_SII = sign_matrices(x_SA, strata), sign_matrices(y_SA, strata)
    taus_S = taus(x_SII, y_SII)
    known_S = np.isfinite(taus_S)
    constant = tuple(seed for seed, known in zip(responses.seeds, known_S, strict=True) if not known)
    if not known_S.any():
        return replace(empty, constant=constant)
    makers = None if makers_SAA is None else makers_SAA[known_S]
    found = tails(x_SII[known_S], y_SII[known_S], y_SA[known_S], strata, makers)
    return replace(
        empty, estimate=_estimate(taus_S[known_S], found, sizes, direction, smallest, alpha), constant=constant
    )


def _freed(values_RSA: FloatArray, strata: Sequence[Sequence[int]]) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Both metrics, as they are or what is left of them without the given metrics."""
    x_SA, y_SA, *given = values_RSA
    if not given:
        return x_SA, y_SA, None
    makers_SAA = residual_makers(np.array(given), strata)
    x_SA, y_SA = (residuals(makers_SAA, metric_SA, strata) for metric_SA in (x_SA, y_SA))
    return x_SA, y_SA, makers_SAA


def _estimate(
    taus_S: FloatArray, found: Tails, pairs: int, direction: Direction, smallest: float, alpha: float
) -> Estimate:
    least = 1 / pairs
    p = directed_p(found, direction)
    claim = _claim_p(taus_S, least, direction, smallest)
    return Estimate(
        taus_S,
        float(taus_S.mean()),
        tau_interval(taus_S, least, alpha),
        bootstrap_interval(taus_S, alpha),
        p,
        "permutation",
        p_claim=float(np.maximum(p, claim)),
        p_permutation=p,
        least_spread=least,
    )


def directed_p(found: Tails, direction: Direction) -> float:
    """p of the declared direction; twice the smaller tail for `either`."""
    if direction == "either":
        return min(1.0, 2 * min(found))
    return found.above if direction == "increasing" else found.below


def tau_interval(taus_S: FloatArray, least_spread: float, alpha: float) -> Interval:
    """Student's interval over seeds, within -1 and 1; NaN for fewer than two seeds."""
    if len(taus_S) < 2:
        return UNKNOWN
    spread = max(float(taus_S.std(ddof=1)), least_spread)
    centre, half = float(taus_S.mean()), float(half_width(spread, len(taus_S), alpha))
    return Interval(max(-1.0, centre - half), min(1.0, centre + half))


def _claim_p(taus_S: FloatArray, least_spread: float, direction: Direction, smallest: float) -> float:
    """p against a tau of the smallest effect, from the same spread as the interval's."""
    seeds = len(taus_S)
    if seeds < 2:
        return math.nan
    error = max(float(taus_S.std(ddof=1)), least_spread) / math.sqrt(seeds)
    above, below = (float(stats.t.sf((sign * taus_S.mean() - smallest) / error, seeds - 1)) for sign in (1, -1))
    return directed_p(Tails(above, below), direction)


def _sizes(strata: Sequence[Sequence[int]]) -> int:
    return sum(math.comb(len(arms), 2) for arms in strata)


def _renumbered(strata: Sequence[Sequence[int]]) -> list[list[int]]:
    """The strata's places once the arms stand in their order."""
    found, start = [], 0
    for arms in strata:
        found.append(list(range(start, start + len(arms))))
        start += len(arms)
    return found
