"""Estimate an effect: one number for each seed, their mean with intervals, and p-values of the declared direction.

1. `compute_effects` turns responses (S, C) into one effect for each seed by a weighted sum over cells.
2. `estimate_effect` adds Student's and bootstrap intervals and p-values, by the t test or, where all seeds agree
   exactly, the sign test.
3. One function for each test calls these: `estimate_contrast` (also equivalence), `estimate_difference_from_threshold`,
   `estimate_trend` (Page's test) and `estimate_mediation` (Fieller's interval for the share). `correlation.py` has the
   sixth, `prediction.py` the seventh.

Rounding is treated as equality throughout: numbers within `ROUNDING_SHARE` of each other are ties.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, product
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from gapctl.analysis.paired_responses import FloatArray, PairedResponses
from gapctl.analysis.results import UNKNOWN_INTERVAL, Interval

RESAMPLES = 9_999
BOOTSTRAP_SEED = 20_240_407


def compute_t_interval(effects_S: FloatArray, alpha: float) -> Interval:
    """Return Student's interval of the mean at level 1 - alpha; NaN for fewer than two seeds."""
    if len(effects_S) < 2:
        return UNKNOWN_INTERVAL
    centre, half = float(effects_S.mean()), float(compute_half_width(compute_spread(effects_S), len(effects_S), alpha))
    return Interval(centre - half, centre + half)


def compute_spread(effects_S: FloatArray) -> float:
    """Return the standard deviation of the seeds' effects (S,); NaN with fewer than two.

    Effects are scaled first, so that tiny ones do not give 0 because their squares underflow.
    """
    if len(effects_S) < 2:
        return math.nan
    _, exponent = np.frexp(np.abs(effects_S).max())
    return float(np.ldexp(np.ldexp(effects_S, -exponent).std(ddof=1), exponent))


def compute_half_width(spread: float | FloatArray, seeds: int | FloatArray, alpha: float) -> FloatArray:
    """Return half of Student's interval of the mean of `seeds` effects with this spread; NaN for one seed."""
    count = np.asarray(seeds, dtype=float)
    return np.asarray(stats.t.ppf(1 - alpha / 2, count - 1) * spread / np.sqrt(count))


def compute_prediction_interval(effects_S: FloatArray, alpha: float, least_spread: float = 0.0) -> Interval:
    """Return the interval that holds the effect of one further replicate; NaN for fewer than two.

    Student's: mean +- t(1 - alpha/2, n - 1) * spread * sqrt(1 + 1/n) (Whitmore 1986, Am Stat 40:141-143).
    """
    if len(effects_S) < 2:
        return UNKNOWN_INTERVAL
    count, centre = len(effects_S), float(effects_S.mean())
    half = float(compute_half_width(max(compute_spread(effects_S), least_spread), count, alpha)) * math.sqrt(1 + count)
    return Interval(centre - half, centre + half)


def bootstrap_interval(
    effects_S: FloatArray, alpha: float, method: Literal["BCa", "percentile"] = "BCa", resamples: int = RESAMPLES
) -> Interval:
    """Return the bootstrap interval of the mean over seeds, the same for the same effects in any process.

    Where BCa is undefined (all effects equal, or a jackknife without spread), return the percentile interval; NaN for
    fewer than two seeds.
    """
    if len(effects_S) < 2:
        return UNKNOWN_INTERVAL
    with warnings.catch_warnings():
        # scipy and numpy warn where BCa is undefined; the percentile interval below takes its place.
        warnings.simplefilter("ignore")
        found = stats.bootstrap(
            (effects_S,),
            np.mean,
            n_resamples=resamples,
            confidence_level=1 - alpha,
            method=method,
            rng=np.random.default_rng(BOOTSTRAP_SEED),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    if method == "BCa" and not (math.isfinite(low) and math.isfinite(high)):
        return bootstrap_interval(effects_S, alpha, "percentile", resamples)
    return Interval(low, high)


ROUNDING_SHARE: Final = 1e-12
"""Numbers that differ by no more than this share of what they were computed from are taken to be equal.

Sums of doubles in another order differ by some 1e-16 of their terms; no metric is measured to twelve digits.
"""
IntArray = npt.NDArray[np.int64]


def rank_values(values: FloatArray, slack: FloatArray | float) -> IntArray:
    """Rank each value among the different ones of its row (the last axis), from 0.

    Neighbours in size no further apart than `slack` are tied, whatever order they stand in.
    """
    order = np.argsort(values, axis=-1)
    apart = np.diff(np.take_along_axis(values, order, axis=-1), axis=-1) > slack
    ranks, places = np.zeros(values.shape, dtype=np.int64), np.zeros(values.shape, dtype=np.int64)
    np.cumsum(apart, axis=-1, out=ranks[..., 1:])
    np.put_along_axis(places, order, ranks, axis=-1)
    return places


def compute_tie_tolerance(values: FloatArray) -> FloatArray:
    """Return how far apart values of a row (the last axis, which is kept) may lie and still be tied."""
    return np.asarray(ROUNDING_SHARE * np.abs(values).max(axis=-1, keepdims=True, initial=0.0))


Direction = Literal["increasing", "decreasing", "either", "neither"]
"""Where an effect is claimed: above the smallest effect, below its negative, on either side of both, or between."""
PTest = Literal["t", "sign", "page", "permutation", "none"]
OneSided = Callable[[FloatArray], float]


class PValue(NamedTuple):
    """A p-value and the test that gave it; NaN and "none" where no test is possible."""

    p: float
    by: PTest


def compute_effect_p(
    effects_S: FloatArray, direction: Direction, smallest: float = 0.0, rounding: float = 0.0
) -> PValue:
    """Return p of the hypothesis that the mean effect is not beyond `smallest` in the declared direction.

    NaN for fewer than two seeds. Where seeds agree exactly, the t test would call any two equal numbers certain, so the
    sign test takes its place. Effects within `rounding` of each other are equal, and those within it of the smallest
    effect are not beyond it.
    """
    if len(effects_S) < 2:
        return PValue(math.nan, "none")
    if have_equal_effects(effects_S, rounding):
        return PValue(compute_directed_p(_compute_sign_p, effects_S, direction, smallest, rounding), "sign")
    return PValue(compute_directed_p(_compute_t_p, effects_S, direction, smallest, rounding), "t")


def compute_directed_p(
    above: OneSided, effects_S: FloatArray, direction: Direction, smallest: float, rounding: float = 0.0
) -> float:
    """Return p of a direction from `above`, a one-sided test of effects above zero.

    This is twice the smaller p for `either` and the larger for `neither`. Effects within rounding of the smallest
    effect count as zero beyond it.
    """
    slack = max(rounding, compute_rounding(effects_S, smallest))
    up_S, down_S = (_subtract_smallest(sign * effects_S, smallest, slack) for sign in (1, -1))
    if direction == "neither":
        return max(above(-down_S), above(-up_S))
    if direction == "either":
        return min(1.0, 2 * min(above(up_S), above(down_S)))
    return above(up_S if direction == "increasing" else down_S)


def have_equal_effects(effects_S: FloatArray, rounding: float = 0.0) -> bool:
    """Return whether all seeds have the same effect, up to rounding."""
    return bool(np.ptp(effects_S) <= max(rounding, compute_rounding(effects_S)))


def compute_rounding(effects_S: FloatArray, smallest: float = 0.0) -> float:
    """Return how far rounding may move effects, or their distance to the smallest effect."""
    return ROUNDING_SHARE * max(smallest, float(np.abs(effects_S).max(initial=0.0)))


def count_sides(direction: Direction) -> int:
    """Return the number of sides of a test of this direction."""
    return 2 if direction == "either" else 1


def count_minimum_sign_test_seeds(direction: Direction, level: float) -> int:
    """Return how many seeds that agree exactly the sign test needs to fall below a level: 5 for 0.05 on one side."""
    return next(seeds for seeds in count(1) if is_significant(count_sides(direction) * 0.5**seeds, level))


def is_significant(p: float, level: float) -> bool:
    """Return whether p is below the level by more than rounding; False for NaN."""
    return p < subtract_rounding_tolerance(level)


def subtract_rounding_tolerance(level: float) -> float:
    """Return the level less rounding, so that a p which equals the level but for rounding is not below it."""
    return level * (1 - ROUNDING_SHARE)


def _subtract_smallest(effects_S: FloatArray, smallest: float, slack: float) -> FloatArray:
    distance_S = effects_S - smallest
    return np.where(np.abs(distance_S) <= slack, 0.0, distance_S)


def _compute_t_p(effects_S: FloatArray) -> float:
    if not effects_S.any():
        return 1.0
    seeds = len(effects_S)
    return float(stats.t.sf(effects_S.mean() / compute_spread(effects_S) * math.sqrt(seeds), seeds - 1))


def _compute_sign_p(effects_S: FloatArray) -> float:
    return float(0.5 ** len(effects_S)) if effects_S.mean() > 0 else 1.0


MOST_SEEDS_FLIPPED = 13
"""All sign flips are counted up to this number of seeds: there are fewer of them than resamples."""
RESAMPLING_SEED = 20_240_407


def compute_sign_flip_p(
    effects_S: FloatArray, direction: Direction, smallest: float = 0.0, rounding: float = 0.0
) -> float:
    """Return p of the sign-flip permutation test: under the null, each seed's effect has either sign equally often.

    All flips are counted for up to 13 seeds, else random ones. p never falls below 0.5 to the power of the number of
    seeds (twice that for `either`). NaN for fewer than two seeds.
    """
    if len(effects_S) < 2:
        return math.nan
    return compute_directed_p(_compute_flip_p, effects_S, direction, smallest, rounding)


def compute_shuffled_levels_p(values_SL: FloatArray, weights_L: FloatArray, direction: Direction) -> float:
    """Return p of the mean slope under permutations of each seed's responses (S, L) among the levels.

    NaN for fewer than two seeds.
    """
    if len(values_SL) < 2:
        return math.nan
    rng, orders_NL = np.random.default_rng(RESAMPLING_SEED), _draw_level_orders(len(weights_L))
    # All seeds use the same random orders, each in its own sequence: independent, and drawn only once.
    slopes_N = sum((values_L[orders_NL] @ weights_L)[rng.permutation(RESAMPLES)] for values_L in values_SL)
    sign = (-1.0 if direction == "decreasing" else 1.0) / len(values_SL)
    slopes_N, slope = sign * slopes_N, sign * float((values_SL @ weights_L).sum())
    slack = ROUNDING_SHARE * float((np.abs(values_SL) @ np.abs(weights_L)).sum()) / len(values_SL)
    as_steep = np.count_nonzero(slopes_N >= slope - slack)
    return float((1 + as_steep) / (1 + RESAMPLES))


@lru_cache(maxsize=8)
def _draw_level_orders(levels: int) -> npt.NDArray[np.int64]:
    """Draw random orders of the levels, the same in every process."""
    rng = np.random.default_rng(RESAMPLING_SEED)
    return rng.permuted(np.tile(np.arange(levels), (RESAMPLES, 1)), axis=1)


def _compute_flip_p(effects_S: FloatArray) -> float:
    sums_N, own = _draw_signs(len(effects_S)) @ effects_S, float(effects_S.sum())
    as_high = np.count_nonzero(sums_N >= own - ROUNDING_SHARE * float(np.abs(effects_S).sum()))
    extra = 0 if len(effects_S) <= MOST_SEEDS_FLIPPED else 1
    return float((as_high + extra) / (len(sums_N) + extra))


@lru_cache(maxsize=8)
def _draw_signs(seeds: int) -> FloatArray:
    """Return all combinations of the seeds' signs, or random ones where there are many, the same in every process."""
    if seeds <= MOST_SEEDS_FLIPPED:
        return np.array([*product((-1.0, 1.0), repeat=seeds)])
    return np.random.default_rng(RESAMPLING_SEED).choice([-1.0, 1.0], size=(RESAMPLES, seeds))


@dataclass(frozen=True)
class EffectEstimate:
    """An effect's estimate with its intervals and p-values; NaN where it needs more seeds.

    `effects_S` are the seeds' own effects. `p` is of an effect in the declared direction, however small, and `p_test`
    the test that gave it. `p_claim` is of the whole claim, an effect beyond the smallest that counts. `p_permutation`
    assumes no distribution. `p_refuting` is of an effect as large as claimed, where refuting it needs more than the
    interval; else NaN. `spread_of_seeds` is the responses' standard deviation over seeds within a cell, pooled
    over `cells`. `least_spread` is the least spread of effects that the interval assumes. `rounding` is how far apart
    two numbers in the effect's unit may lie and still be equal.
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
    p_refuting: float = math.nan

    @property
    def spread(self) -> float:
        """The standard deviation of the seeds' effects; NaN with fewer than two."""
        return compute_spread(self.effects_S)

    @property
    def agree(self) -> bool:
        """Whether there are several seeds and all have the same effect, up to rounding."""
        return len(self.effects_S) > 1 and have_equal_effects(self.effects_S, self.rounding)

    @property
    def standardised(self) -> float:
        """The estimate over the spread of the seeds' effects (d_z), corrected for few seeds; NaN without spread."""
        return self._standardise_by(self.spread)

    @property
    def standardised_pooled(self) -> float:
        """The estimate over the responses' own spread between seeds, corrected likewise; NaN without spread."""
        cells = max(1, self.cells)
        return self._standardise_by(self.spread_of_seeds, 1 + cells * (len(self.effects_S) - 1))

    def _standardise_by(self, spread: float, numbers: int | None = None) -> float:
        """Divide by a spread estimated from `numbers` values, by default one for each seed."""
        return (
            compute_hedges_correction(numbers or len(self.effects_S)) * self.value / spread
            if spread > self.rounding
            else math.nan
        )


def compute_hedges_correction(seeds: int) -> float:
    """Return Hedges' exact correction for a standard deviation of that many seeds: 0.72 for four, NaN for two.

    With two seeds the expectation of the ratio is infinite, so that no factor corrects it.
    """
    free = seeds - 1
    if free < 2:
        return math.nan
    log = special.gammaln(free / 2) - special.gammaln((free - 1) / 2) - 0.5 * math.log(free / 2)
    return float(math.exp(log))


class SeedEffects(NamedTuple):
    """Each seed's effect, and how far two of them may lie apart by the rounding of the responses alone."""

    effects_S: FloatArray
    rounding: float


def compute_effects(values_SC: FloatArray, weights_C: FloatArray) -> SeedEffects:
    """Return each seed's weighted sum over cells (S,); a sum within rounding of the responses is set to 0."""
    effects_S = values_SC @ weights_C
    rounding_S = ROUNDING_SHARE * (np.abs(values_SC) @ np.abs(weights_C))
    return SeedEffects(np.where(np.abs(effects_S) <= rounding_S, 0.0, effects_S), float(rounding_S.max(initial=0.0)))


def estimate_effect(
    effects: SeedEffects,
    direction: Direction,
    smallest: float,
    alpha: float,
    *,
    tested: PValue | None = None,
    p_permutation: float | None = None,
    values_SC: FloatArray | None = None,
) -> EffectEstimate:
    """Estimate the mean effect with its intervals at level 1 - alpha, and p-values.

    `tested` replaces the t test's p, `p_permutation` that of sign flips. `values_SC` are the responses, for their
    spread.
    """
    effects_S, rounding = effects.effects_S, max(effects.rounding, compute_rounding(effects.effects_S, smallest))
    nearest = smallest if direction == "neither" else 0.0
    tested = tested or compute_effect_p(effects_S, direction, nearest, rounding)
    claim = compute_effect_p(effects_S, direction, smallest, rounding).p
    if p_permutation is None:
        p_permutation = compute_sign_flip_p(effects_S, direction, nearest, rounding)
    return EffectEstimate(
        effects_S,
        float(effects_S.mean()) if len(effects_S) else math.nan,
        compute_t_interval(effects_S, alpha),
        bootstrap_interval(effects_S, alpha),
        tested.p,
        tested.by,
        float(np.maximum(tested.p, claim)),
        p_permutation,
        pool_spread(values_SC),
        cells=1 if values_SC is None else values_SC.shape[1],
        rounding=rounding,
    )


def pool_spread(values_SC: FloatArray | None) -> float:
    """Return the standard deviation over seeds within a cell, pooled over cells; NaN with fewer than two seeds."""
    if values_SC is None or len(values_SC) < 2:
        return math.nan
    return math.sqrt(float(values_SC.var(axis=0, ddof=1).mean()))


NO_ESTIMATE = EffectEstimate(np.empty(0), math.nan, UNKNOWN_INTERVAL, UNKNOWN_INTERVAL, math.nan, "none")


WEIGHTS_C = np.array([-1.0, 1.0])


def estimate_contrast(
    responses: PairedResponses, direction: Direction, smallest: float, alpha: float
) -> EffectEstimate:
    """Estimate the mean over seeds of second level - first level, of the two levels in `responses`.

    With direction `neither` this is the test of equivalence: p is the larger of two one-sided t tests against -smallest
    and smallest (Schuirmann 1987, J Pharmacokinet Biopharm 15:657-680).
    """
    effects = compute_effects(responses.values_SC, WEIGHTS_C)
    return estimate_effect(effects, direction, smallest, alpha, values_SC=responses.values_SC)


def estimate_difference_from_threshold(
    responses: PairedResponses, value: float, direction: Direction, smallest: float, alpha: float
) -> EffectEstimate:
    """Estimate the mean over seeds of the response less `value`; p is that of the one-sample t test.

    `responses` has one cell, which holds all trainings.
    """
    beside_value_SC = np.column_stack([np.full(len(responses.values_SC), value), responses.values_SC])
    effects = compute_effects(beside_value_SC, WEIGHTS_C)
    return estimate_effect(effects, direction, smallest, alpha, values_SC=responses.values_SC)


FEWEST_LEVELS_OF_PAGE = 3
PERMUTATIONS = 50_000
"""More than all orders of eight levels, so that a single seed's p is exact up to there."""


def estimate_trend(
    responses: PairedResponses,
    levels: Sequence[float],
    direction: Literal["increasing", "decreasing"],
    smallest: float,
    alpha: float,
) -> EffectEstimate:
    """Estimate the mean over seeds of the least-squares slope per unit of the factor; `levels` ascend.

    p is that of Page's test (JASA 58:216-230, 1963). With two levels Page's test does not exist, and p is that of the
    slopes' t test.
    """
    values_SL, weights_L = responses.values_SC, compute_slope_weights(np.asarray(levels, dtype=float))
    slopes = compute_effects(values_SL, weights_L)
    if len(levels) < FEWEST_LEVELS_OF_PAGE:
        return estimate_effect(slopes, direction, smallest, alpha, values_SC=values_SL)
    page = run_page_test(values_SL if direction == "increasing" else -values_SL)
    shuffled = compute_shuffled_levels_p(values_SL, weights_L, direction)
    return estimate_effect(slopes, direction, smallest, alpha, tested=page, p_permutation=shuffled, values_SC=values_SL)


def compute_slope_weights(levels_L: FloatArray) -> FloatArray:
    """Return the weights (L,) with which responses sum to the least-squares slope."""
    centred_L = levels_L - levels_L.mean()
    return np.asarray(centred_L / (centred_L @ centred_L))


def run_page_test(values_SL: FloatArray) -> PValue:
    """Return Page's p that responses (S, L) increase from left to right; compare a single seed with its own orders.

    Responses of a seed that differ by rounding share their rank.
    """
    seeds = len(values_SL)
    if not seeds:
        return PValue(math.nan, "none")
    rank_SL = rank_values(values_SL, compute_tie_tolerance(values_SL))
    p = _compute_one_seed_p(rank_SL[0]) if seeds == 1 else float(stats.page_trend_test(rank_SL).pvalue)
    return PValue(min(1.0, p), "page")


def _compute_one_seed_p(values_L: IntArray) -> float:
    """Test Page's statistic of one row, which scipy rejects, over all orders or many random ones."""
    predicted_L = np.arange(1, len(values_L) + 1)

    def page_l(ranks: FloatArray, axis: int = -1) -> FloatArray:
        return np.asarray((predicted_L * ranks).sum(axis=axis))

    found = stats.permutation_test(
        (stats.rankdata(values_L),),
        page_l,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        alternative="greater",
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


FREE_C = np.array([-1.0, 1.0, 0.0, 0.0])
FIXED_C = np.array([0.0, 0.0, -1.0, 1.0])


@dataclass(frozen=True)
class MediationEstimate:
    """The effect through the mediator (`through`, the claim's), the treatment's effect in both arms, and the share.

    The share is `through` over the free arm's effect. It is NaN with its interval where that effect's own interval
    contains zero: a share of what may be nothing is undefined. Below 0 the mediator works against the treatment; above
    1 the fixed arm's effect has the other sign.
    """

    through: EffectEstimate
    free: EffectEstimate
    fixed: EffectEstimate
    share: float
    share_ci: Interval


NO_MEDIATION: Final = MediationEstimate(NO_ESTIMATE, NO_ESTIMATE, NO_ESTIMATE, math.nan, UNKNOWN_INTERVAL)


def estimate_mediation(
    responses: PairedResponses, direction: Direction, smallest: float, alpha: float
) -> MediationEstimate:
    """Estimate a mediation from responses (S, 4).

    The cells are both levels of the treatment with the mediator free, then both with it fixed.
    """
    values_SC = responses.values_SC
    through, free, fixed = (compute_effects(values_SC, weights_C) for weights_C in (FREE_C - FIXED_C, FREE_C, FIXED_C))
    if not len(values_SC):
        return NO_MEDIATION
    share = compute_fieller_interval(through.effects_S, free.effects_S, alpha)
    return MediationEstimate(
        estimate_effect(through, direction, smallest, alpha, values_SC=values_SC),
        estimate_effect(free, "either", 0.0, alpha),
        estimate_effect(fixed, "either", 0.0, alpha),
        math.nan if math.isnan(share.low) else float(through.effects_S.mean() / free.effects_S.mean()),
        share,
    )


def compute_fieller_interval(part_S: FloatArray, whole_S: FloatArray, alpha: float) -> Interval:
    """Return Fieller's interval of mean(part) / mean(whole), paired (1954, J R Stat Soc B 16:175-185).

    NaN where the whole's own interval contains zero or ends on it, as the interval is then unbounded, and for fewer
    than two seeds.
    """
    seeds, largest = len(part_S), float(np.abs([part_S, whole_S]).max())
    if seeds < 2 or largest == 0:
        return UNKNOWN_INTERVAL
    part_S, whole_S = part_S / largest, whole_S / largest
    bound = stats.t.ppf(1 - alpha / 2, seeds - 1) ** 2 / seeds
    (part_var, both), (_, whole_var) = np.cov(part_S, whole_S)
    part, whole = float(part_S.mean()), float(whole_S.mean())
    a, b, c = whole**2 - bound * whole_var, part * whole - bound * both, part**2 - bound * part_var
    if a <= ROUNDING_SHARE * whole**2:
        return UNKNOWN_INTERVAL
    root = math.sqrt(max(0.0, b * b - a * c))
    return Interval(float((b - root) / a), float((b + root) / a))
