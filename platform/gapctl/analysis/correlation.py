"""Correlate two metrics over a sweep's arms: Kendall's tau within each seed, plain or partial, and a permutation test.

1. `estimate_correlation` is the entry. `_remove_given_metrics` takes a smooth curve of each given metric out of both.
2. `rank_within_strata` ranks them, keeping arms with different levels of given factors apart.
3. `compute_kendall_taus` counts agreeing and disagreeing pairs by sorting (`count_agreement`).
4. `permute_levels` permutes the levels of each factor among the arms, and reverses those of a dose; `PermutedTaus`
   counts taus as extreme as the observed one, and those that a claim would make likely.

Shapes: S seeds, A arms, N permutations, Q given metrics.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from gapctl.analysis.estimates import (
    NO_ESTIMATE,
    RESAMPLING_SEED,
    ROUNDING_SHARE,
    Direction,
    EffectEstimate,
    IntArray,
    bootstrap_interval,
    compute_half_width,
    compute_tie_tolerance,
    rank_values,
)
from gapctl.analysis.paired_responses import FloatArray, PairedResponses
from gapctl.analysis.results import UNKNOWN_INTERVAL, Interval
from gapctl.config.arms import MOST_COUNTED, RANDOM_PERMUTATIONS, ArmGrid

INVERSION_BLOCK: Final = 8
"""Ranks that are compared pair by pair, which is faster than sorting so few."""


RESIDUAL_TOLERANCE: Final = 1e-9
"""Residuals below this share of a metric's largest deviation count as zero: a fit is accurate to so many digits."""


TAU_TOLERANCE: Final = 1e-9
"""Mean taus no further apart are equally extreme; one inverted pair of 10,000 arms moves tau by 4e-8."""


NUMBERS_AT_ONCE: Final = 1 << 16
"""Numbers of one seed that are processed at a time, so that they stay in the cache."""


FEWEST_FREE = 2
"""Below two free differences between arms, residuals of any two metrics lie on one line."""


Strata = Sequence[Sequence[int]]
"""The places of arms that may be compared with each other."""


@dataclass(frozen=True)
class CorrelationEstimate:
    """A correlation's estimate and the arms that it rests on.

    `constant` are seeds left out because a metric, or its residual, is the same in all their arms. `too_few` is set
    where the arms have too few free differences for the given metrics.
    """

    estimate: EffectEstimate
    constant: tuple[int, ...]
    grid: ArmGrid
    too_few: bool = False


class CentredValues(NamedTuple):
    """Deviations from the stratum's mean, scaled so that each seed's largest is 1.

    `slack_S1` is how far apart equal ones may lie (S, 1).
    """

    values_SA: FloatArray
    slack_S1: FloatArray


class TailShares(NamedTuple):
    """The shares of permutations with a mean tau at least as high and at least as low as the observed one."""

    above: float
    below: float


class PermutedTaus(NamedTuple):
    """The observed mean tau and those under permutations: all of `counted`, or random ones beside the observed one."""

    observed: float
    permuted_N: FloatArray
    counted: int

    @property
    def tails(self) -> TailShares:
        """The shares of permutations as extreme as the observed one, which counts itself."""
        extra = self.counted - len(self.permuted_N)
        above = np.count_nonzero(self.permuted_N >= self.observed - TAU_TOLERANCE)
        below = np.count_nonzero(self.permuted_N <= self.observed + TAU_TOLERANCE)
        return TailShares((above + extra) / self.counted, (below + extra) / self.counted)

    def compute_refuting_p(self, direction: Direction, smallest: float) -> float:
        """Return p of a tau as large as claimed, over arms like these.

        Around a true tau, taus of few arms scatter as permutations do around 0, so these are shifted by the smallest.
        """
        short = self._count_share(self.permuted_N <= self.observed - smallest + TAU_TOLERANCE)
        beyond = self._count_share(self.permuted_N >= self.observed + smallest - TAU_TOLERANCE)
        if direction == "either":
            return max(short, beyond)
        return short if direction == "increasing" else beyond

    def _count_share(self, extreme_N: npt.NDArray[np.bool_]) -> float:
        """Return a share of permutations; the observed one always counts."""
        return min(1.0, (1 + np.count_nonzero(extreme_N)) / self.counted)


class ResidualBasis(NamedTuple):
    """The directions (S, A, Q) to remove from y again after each permutation.

    Residuals no further apart than `slack_S1` are tied.
    """

    span_SAQ: FloatArray
    slack_S1: FloatArray

    def of(self, seeds_S: npt.NDArray[np.bool_]) -> "ResidualBasis":
        """Return the basis of some seeds."""
        return ResidualBasis(self.span_SAQ[seeds_S], self.slack_S1[seeds_S])


def estimate_correlation(
    responses: PairedResponses, grid: ArmGrid, direction: Direction, smallest: float, alpha: float
) -> CorrelationEstimate:
    """Estimate the correlation of two metrics over the arms of the grid.

    `responses` are these two metrics, then the given ones. The estimate is the mean over seeds of each seed's tau-b,
    and its interval Student's over seeds. The spread is at least that of half an inverted pair, since with few arms all
    seeds may agree exactly by chance.
    """
    given = len(responses.values_RSC) - 2
    values_RSA = responses.values_RSC
    if given and responses.seeds:
        values_RSA = expand_given_metrics(values_RSA, grid)
    empty = CorrelationEstimate(NO_ESTIMATE, (), grid)
    if given and count_residual_degrees_of_freedom(grid.strata, given) < FEWEST_FREE:
        return replace(empty, too_few=True)
    if not responses.seeds:
        return empty
    x_SA, y_SA, fit = _remove_given_metrics(values_RSA, grid)
    slack_S1 = None if fit is None else fit.slack_S1
    rank_SA, other_SA = (rank_within_strata(metric_SA, grid.strata, slack_S1) for metric_SA in (x_SA, y_SA))
    taus_S = compute_kendall_taus(rank_SA, other_SA, grid.strata)
    known_S = np.isfinite(taus_S)
    constant = tuple(seed for seed, known in zip(responses.seeds, known_S, strict=True) if not known)
    if not known_S.any():
        return replace(empty, constant=constant)
    found = permute_levels(x_SA[known_S], y_SA[known_S], grid, None if fit is None else fit.of(known_S))
    least = float((1 / count_untied_pairs(rank_SA[known_S], other_SA[known_S], grid.strata)).mean())
    return replace(
        empty, estimate=_build_estimate(taus_S[known_S], found, least, direction, smallest, alpha), constant=constant
    )


MOST_CURVE_COLUMNS: Final = 12
"""The most columns of a given metric's spline: each takes a free difference between arms away."""
DEGREE: Final = 3
"""The degree of the splines: their slope and curvature have no jumps."""


def expand_given_metrics(values_RSA: FloatArray, grid: ArmGrid) -> FloatArray:
    """Add to both metrics and the given ones the further columns of each given metric's cubic spline.

    A curved relation to a given metric is then removed as a straight one is. At most half of the free differences
    between arms are spent; with few, a parabola or the line alone is removed.
    """
    given_QSA = values_RSA[2:]
    span_SAQ = compute_covariate_basis(given_QSA, grid.strata)
    different = max(1, int(span_SAQ.any(axis=1).sum(axis=1).max()))  # metrics that say the same count once
    columns = min(MOST_CURVE_COLUMNS, count_residual_degrees_of_freedom(grid.strata, 0) // (2 * different))
    more = [build_spline_columns(metric_SA, columns) for metric_SA in given_QSA]
    return np.concatenate([values_RSA, *more])


def build_spline_columns(values_SA: FloatArray, columns: int) -> FloatArray:
    """Return the columns (K - 1, S, A) that a cubic spline of K `columns` has beside the line, for each seed.

    Its knots are at quantiles of the values, which are scaled to run from -1 to 1.
    """
    low_S1, high_S1 = values_SA.min(axis=1, keepdims=True), values_SA.max(axis=1, keepdims=True)
    scaled_SA = 2 * (values_SA - low_S1) / np.where(high_S1 > low_S1, high_S1 - low_S1, 1.0) - 1
    knots = max(0, columns - DEGREE)
    knots_KS = np.quantile(scaled_SA, np.arange(1, knots + 1) / (knots + 1), axis=1)
    powers = [scaled_SA**power for power in range(2, min(columns, DEGREE) + 1)]
    bends = [np.maximum(scaled_SA - knot_S[:, None], 0) ** DEGREE for knot_S in knots_KS]
    return np.array([*powers, *bends]).reshape(-1, *values_SA.shape)


def _remove_given_metrics(values_RSA: FloatArray, grid: ArmGrid) -> tuple[FloatArray, FloatArray, ResidualBasis | None]:
    """Return both metrics, or their residuals where metrics are given, with the basis that was removed."""
    x_SA, y_SA, *given = values_RSA
    if not given:
        return x_SA, y_SA, None
    span_SAQ = compute_covariate_basis(np.array(given), grid.strata)
    x, y = subtract_stratum_means(x_SA, grid.strata), subtract_stratum_means(y_SA, grid.strata)
    freed_x_SA, freed_y_SA = (residualise(span_SAQ, metric.values_SA[:, None])[:, 0] for metric in (x, y))
    return freed_x_SA, freed_y_SA, ResidualBasis(span_SAQ, np.maximum(x.slack_S1, y.slack_S1))


def _build_estimate(
    taus_S: FloatArray, found: PermutedTaus, least: float, direction: Direction, smallest: float, alpha: float
) -> EffectEstimate:
    p = compute_directional_p(found.tails, direction)
    claim = _compute_claim_p(taus_S, least, direction, smallest)
    return EffectEstimate(
        taus_S,
        float(taus_S.mean()),
        compute_tau_interval(taus_S, least, alpha),
        bootstrap_interval(taus_S, alpha),
        p,
        "permutation",
        p_claim=float(np.maximum(p, claim)),
        p_permutation=p,
        p_refuting=found.compute_refuting_p(direction, smallest),
        least_spread=least,
        rounding=ROUNDING_SHARE,
    )


def compute_directional_p(found: TailShares, direction: Direction) -> float:
    """Return p of the declared direction; twice the smaller tail for `either`."""
    if direction == "either":
        return min(1.0, 2 * min(found))
    return found.above if direction == "increasing" else found.below


def compute_tau_interval(taus_S: FloatArray, least_spread: float, alpha: float) -> Interval:
    """Return Student's interval over seeds, within -1 and 1; NaN for fewer than two seeds."""
    if len(taus_S) < 2:
        return UNKNOWN_INTERVAL
    spread = max(float(taus_S.std(ddof=1)), least_spread)
    centre, half = float(taus_S.mean()), float(compute_half_width(spread, len(taus_S), alpha))
    return Interval(max(-1.0, centre - half), min(1.0, centre + half))


def _compute_claim_p(taus_S: FloatArray, least_spread: float, direction: Direction, smallest: float) -> float:
    """Return p against a tau of the smallest effect, with the same spread as the interval's."""
    seeds = len(taus_S)
    if seeds < 2:
        return math.nan
    error = max(float(taus_S.std(ddof=1)), least_spread) / math.sqrt(seeds)
    above, below = (float(stats.t.sf((sign * taus_S.mean() - smallest) / error, seeds - 1)) for sign in (1, -1))
    return compute_directional_p(TailShares(above, below), direction)


def rank_within_strata(values_SA: FloatArray, strata: Strata, slack_S1: FloatArray | None = None) -> IntArray:
    """Rank each seed's values by whole numbers, all of a later stratum above all of an earlier one.

    Values no further apart than `slack_S1` are tied; without it, those that differ by rounding.
    """
    stratum_A = np.empty(values_SA.shape[-1], dtype=np.int64)
    for place, arms in enumerate(strata):
        stratum_A[list(arms)] = place
    slack_S1 = compute_tie_tolerance(values_SA) if slack_S1 is None else slack_S1
    return np.asarray(rank_values(values_SA, slack_S1) + len(stratum_A) * stratum_A)


def compute_kendall_taus(x_SA: IntArray, y_SA: IntArray, strata: Strata) -> FloatArray:
    """Return tau-b of rows of ranks; `x_SA` may be one row (1, A). NaN where one is the same in all arms compared."""
    # Ranks order arms of different strata alike, so those pairs all agree: subtract them.
    apart = math.comb(x_SA.shape[1], 2) - sum(math.comb(len(arms), 2) for arms in strata)
    with np.errstate(invalid="ignore"):
        return np.asarray((count_agreement(x_SA, y_SA) - apart) / count_untied_pairs(x_SA, y_SA, strata))


def count_untied_pairs(x_SA: IntArray, y_SA: IntArray, strata: Strata) -> FloatArray:
    """Return tau-b's denominator: the geometric mean of the numbers of compared pairs that x and that y do not tie."""
    pairs = sum(math.comb(len(arms), 2) for arms in strata)
    return np.asarray(np.sqrt((pairs - count_tied_pairs(x_SA)).astype(float) * (pairs - count_tied_pairs(y_SA))))


def count_agreement(first_NA: IntArray, second_NA: IntArray) -> IntArray:
    """Count the pairs that both rankings order alike, less those that they order oppositely; ties count for neither.

    Ranks are whole numbers from 0; one first ranking (1, A) may be compared with many. Pairs are counted by sorting
    (Knight 1966, JASA 61:436-439): in the order of the first ranking, each inversion of the second is a pair that
    disagrees.
    """
    tied_first_N = count_tied_pairs(first_NA)
    if len(first_NA) == 1 and not tied_first_N[0]:
        tied_both_N, ordered_NA = np.zeros_like(tied_first_N), second_NA[:, np.argsort(first_NA[0])]
    else:
        base = int(second_NA.max(initial=0)) + 1
        both_NA = np.sort(first_NA * base + second_NA, axis=1)
        tied_both_N, ordered_NA = _count_repeats(both_NA), both_NA % base
    untied_N = math.comb(first_NA.shape[1], 2) - tied_first_N - count_tied_pairs(second_NA) + tied_both_N
    return np.asarray(untied_N - 2 * _count_inversions(ordered_NA))


def count_tied_pairs(rank_NA: IntArray) -> IntArray:
    """Count the pairs of each row that have the same rank."""
    return _count_repeats(np.sort(rank_NA.astype(np.int32), axis=1))


def _count_repeats(sorted_NA: IntArray) -> IntArray:
    """Count the pairs of equal values in each sorted row: each place adds its distance to the first of its value."""
    place_A = np.arange(sorted_NA.shape[1])
    begins_NA = np.ones(sorted_NA.shape, dtype=bool)
    np.not_equal(sorted_NA[:, 1:], sorted_NA[:, :-1], out=begins_NA[:, 1:])
    if begins_NA.all():
        return np.zeros(len(sorted_NA), dtype=np.int64)
    since_NA = place_A - np.maximum.accumulate(np.where(begins_NA, place_A, 0), axis=1)
    return np.asarray(since_NA.sum(axis=1))


def _count_inversions(rank_NA: IntArray) -> IntArray:
    """Count each row's pairs whose earlier rank is the larger: in blocks, then while merging sorted blocks."""
    rows, count = rank_NA.shape
    blocks = 1 << (-(-count // INVERSION_BLOCK) - 1).bit_length()
    merged_NA = np.full((rows, blocks * INVERSION_BLOCK), rank_NA.max(initial=0), dtype=np.int32)
    merged_NA[:, :count] = rank_NA
    block_NBW = merged_NA.reshape(rows, blocks, INVERSION_BLOCK)
    found_N, width = _count_block_inversions(block_NBW), INVERSION_BLOCK
    block_NBW.sort(axis=-1)
    while blocks > 1:
        blocks //= 2
        halves_NBW = 2 * merged_NA.reshape(rows, blocks, 2 * width)
        halves_NBW[..., width:] += 1  # odd: from the later half, behind its equals of the earlier
        halves_NBW.sort(axis=-1)
        merged_NA = (halves_NBW >> 1).reshape(rows, -1)
        later_NA = (halves_NBW & 1).astype(np.float64).reshape(rows, -1)
        places_N = later_NA @ np.tile(np.arange(2.0 * width), blocks)
        # Without inversions, the later half has the last places of its merged block.
        found_N += blocks * (width * width + math.comb(width, 2)) - places_N.astype(np.int64)
        width *= 2
    return found_N


def _count_block_inversions(block_NBW: IntArray) -> IntArray:
    """Count the inversions within short blocks, pair by pair."""
    gaps = range(1, block_NBW.shape[2])
    later = (block_NBW[..., :-gap] > block_NBW[..., gap:] for gap in gaps)
    return np.asarray(np.sum([np.count_nonzero(larger, axis=(1, 2)) for larger in later], axis=0, dtype=np.int64))


def subtract_stratum_means(values_SA: FloatArray, strata: Sequence[Sequence[int]]) -> CentredValues:
    """Return each seed's values less their mean in each stratum; a constant metric gives exactly 0."""
    found_SA = np.array(values_SA, dtype=float)
    for arms in strata:
        found_SA[:, arms] -= found_SA[:, arms].mean(axis=1, keepdims=True)
    rounding_S1, largest_S1 = compute_tie_tolerance(values_SA), np.abs(found_SA).max(axis=1, keepdims=True)
    moves_S1 = largest_S1 > rounding_S1
    unit_S1 = np.where(moves_S1, largest_S1, 1.0)
    return CentredValues(
        np.where(moves_S1, found_SA / unit_S1, 0.0), np.maximum(RESIDUAL_TOLERANCE, rounding_S1 / unit_S1)
    )


def compute_covariate_basis(given_QSA: FloatArray, strata: Sequence[Sequence[int]]) -> FloatArray:
    """Return, for each seed, orthonormal directions (A, Q) that span all linear functions of the given metrics.

    Metrics that are collinear to within rounding share one direction; the columns of the others are 0.
    """
    metrics = [subtract_stratum_means(metric_SA, strata) for metric_SA in given_QSA]
    values_SAQ = np.stack([metric.values_SA for metric in metrics], axis=2)
    direction_SAQ, size_SQ, _ = np.linalg.svd(values_SAQ, full_matrices=False)
    slack_S1 = np.max([metric.slack_S1 for metric in metrics], axis=0)
    told_SQ = size_SQ > slack_S1 * np.sqrt(values_SAQ.shape[1])
    return np.asarray(direction_SAQ * told_SQ[:, None, :])


def residualise(span_AQ: FloatArray, values_NA: FloatArray) -> FloatArray:
    """Remove the span from each row; `span_AQ` may have a leading axis of seeds, which the rows then have as well."""
    return np.asarray(values_NA - (values_NA @ span_AQ) @ span_AQ.swapaxes(-1, -2))


def count_residual_degrees_of_freedom(strata: Sequence[Sequence[int]], given: int) -> int:
    """Count the independent differences between arms within strata, after removing that many given metrics."""
    return sum(len(arms) - 1 for arms in strata) - given


def permute_levels(x_SA: FloatArray, y_SA: FloatArray, grid: ArmGrid, fit: ResidualBasis | None = None) -> PermutedTaus:
    """Permute the levels of each factor among y's arms: all arms of a level, and all seeds, together.

    The levels of a dose are reversed or stay: neighbours resemble each other, so that any other order would be less
    smooth than what was measured.

    Neither an arm's seeds nor a level's arms are separated: they resemble each other, and what they share is one
    coincidence (permutations that a design allows: Anderson and ter Braak 2003, J Stat Comput Simul 73:85-113). Given
    factors' levels stay where they are. All permutations up to 5,040 are counted (exact), else 2,999 random ones and
    the observed one. With `fit`, given metrics are removed again after each permutation (Freedman and Lane 1983, J Bus
    Econ Stat 1:292-298).
    """
    slack_S1 = None if fit is None else fit.slack_S1
    rank_SA = rank_within_strata(x_SA, grid.strata, slack_S1)
    # Without a fit, permuted values keep their ranks, as no permutation takes an arm out of its stratum.
    permuted_SA = np.asarray(rank_within_strata(y_SA, grid.strata), dtype=float) if fit is None else y_SA
    orders_NA, step = list_permutations(grid), max(1, NUMBERS_AT_ONCE // grid.arms)
    portions = (orders_NA[start : start + step] for start in range(0, len(orders_NA), step))
    permuted_N = np.concatenate([_average_taus(rank_SA, permuted_SA, some_NA, grid, fit) for some_NA in portions])
    found = float(_average_taus(rank_SA, permuted_SA, np.arange(grid.arms)[None], grid, fit)[0])
    return PermutedTaus(found, permuted_N, grid.counted)


@lru_cache(maxsize=8)
def list_permutations(grid: ArmGrid) -> IntArray:
    """Return, for each permutation, the arm that each arm takes its y from: (N, A)."""
    exact = grid.orders <= MOST_COUNTED
    rng = np.random.default_rng(RESAMPLING_SEED)
    orders_NA, count = np.zeros((1, 1), dtype=np.int64), 1
    for levels, given, dose in zip(grid.levels, grid.given, grid.list_doses(), strict=True):
        own_L = np.arange(levels)
        if given:
            permuted_NL = own_L[None]
        elif dose:
            reversed_L = own_L.copy()
            reversed_L[list(dose)] = dose[::-1]
            both_NL = np.array([own_L, reversed_L])
            permuted_NL = both_NL if exact else both_NL[rng.integers(2, size=RANDOM_PERMUTATIONS)]
        elif exact:
            permuted_NL = np.array([*permutations(own_L)])
        else:
            permuted_NL = rng.permuted(np.tile(own_L, (RANDOM_PERMUTATIONS, 1)), axis=1)
        before_NA, after_NL = (orders_NA[:, None], permuted_NL[None]) if exact else (orders_NA, permuted_NL)
        orders_NA = (levels * before_NA[..., :, None] + after_NL[..., None, :]).reshape(-1, count * levels)
        count *= levels
    return orders_NA.astype(np.int32)


def _average_taus(
    x_SA: IntArray, y_SA: FloatArray, orders_NA: IntArray, grid: ArmGrid, fit: ResidualBasis | None
) -> FloatArray:
    """Return the mean over seeds of tau under each permutation of y; a seed whose y vanishes counts as 0."""
    found_N = np.zeros(len(orders_NA))
    for seed, x_A in enumerate(x_SA):
        permuted_NA = y_SA[seed][orders_NA]
        if fit is None:
            rank_NA = permuted_NA.astype(np.int64)
        else:
            rank_NA = rank_within_strata(residualise(fit.span_SAQ[seed], permuted_NA), grid.strata, fit.slack_S1[seed])
        found_N += np.nan_to_num(compute_kendall_taus(x_A[None], rank_NA, grid.strata))
    return np.asarray(found_N / len(x_SA))
