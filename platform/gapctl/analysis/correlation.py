"""A correlation: Kendall's tau of two metrics over a sweep's arms, within each seed, plain or partial."""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from gapctl.analysis.arm_orders import Fit, Tails, tails
from gapctl.analysis.effect_test import Direction
from gapctl.analysis.estimate import NOTHING, Estimate
from gapctl.analysis.interval import bootstrap_interval, half_width
from gapctl.analysis.kendall import ranks, taus, untied_pairs
from gapctl.analysis.paired import FloatArray, Paired
from gapctl.analysis.residuals import centred, freedom, spans, without
from gapctl.analysis.results import UNKNOWN, Interval
from gapctl.analysis.ties import ROUNDING
from gapctl.spec.arms import ArmGrid

FEWEST_FREE = 2
"""Below two free differences between arms, residuals of two metrics lie on one line whatever the metrics."""


@dataclass(frozen=True)
class Correlated:
    """A correlation's estimate and the arms that it rests on.

    `constant` are seeds left out because a metric is the same in all their arms (or nothing is left of it);
    `too_few` says that the arms leave nothing once the given metrics are accounted for.
    """

    estimate: Estimate
    constant: tuple[int, ...]
    grid: ArmGrid
    too_few: bool = False


def correlation(responses: Paired, grid: ArmGrid, direction: Direction, smallest: float, alpha: float) -> Correlated:
    """`responses` are the two metrics, then the given ones, over the arms of the grid.

    The estimate is the mean over seeds of each seed's tau-b, its interval Student's over seeds, with at least the
    spread of half a pair's turning over in tau, since few arms let all seeds agree exactly by chance.
    """
    given = len(responses.values_RSC) - 2
    empty = Correlated(NOTHING, (), grid)
    if given and freedom(grid.strata, given) < FEWEST_FREE:
        return replace(empty, too_few=True)
    if not responses.seeds:
        return empty
    x_SA, y_SA, fit = _freed(responses.values_RSC, grid)
    slack_S1 = None if fit is None else fit.slack_S1
    rank_SA, other_SA = (ranks(metric_SA, grid.strata, slack_S1) for metric_SA in (x_SA, y_SA))
    taus_S = taus(rank_SA, other_SA, grid.strata)
    known_S = np.isfinite(taus_S)
    constant = tuple(seed for seed, known in zip(responses.seeds, known_S, strict=True) if not known)
    if not known_S.any():
        return replace(empty, constant=constant)
    found = tails(x_SA[known_S], y_SA[known_S], grid, None if fit is None else fit.of(known_S))
    least = float((1 / untied_pairs(rank_SA[known_S], other_SA[known_S], grid.strata)).mean())
    return replace(
        empty, estimate=_estimate(taus_S[known_S], found, least, direction, smallest, alpha), constant=constant
    )


def _freed(values_RSA: FloatArray, grid: ArmGrid) -> tuple[FloatArray, FloatArray, Fit | None]:
    """Both metrics, as they are or what is left of them without the given metrics."""
    x_SA, y_SA, *given = values_RSA
    if not given:
        return x_SA, y_SA, None
    span_SAQ = spans(np.array(given), grid.strata)
    x, y = centred(x_SA, grid.strata), centred(y_SA, grid.strata)
    freed_x_SA, freed_y_SA = (without(span_SAQ, metric.values_SA[:, None])[:, 0] for metric in (x, y))
    return freed_x_SA, freed_y_SA, Fit(span_SAQ, np.maximum(x.slack_S1, y.slack_S1))


def _estimate(
    taus_S: FloatArray, found: Tails, least: float, direction: Direction, smallest: float, alpha: float
) -> Estimate:
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
        rounding=ROUNDING,
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
