"""Kendall's tau over models that come in strata: which pairs are compared, jackknife intervals, permutations.

1. `compare_model_pairs` compares every two models on every evaluation set, and `build_pair_mask` says which pairs a
  scope has.
2. `estimate_tau` is the mean over sets of tau-b, with the jackknife's error; `Tau` has its intervals and p-values. Each
   stratum is left out in turn where pairs of different strata count, as models of one stratum resemble each other.
   Within strata, single models are left out.
3. `run_model_permutation_test` permutes the predictor within groups, and `compute_strata_bootstrap_interval` resamples
  strata for comparison.

Shapes: E evaluation sets, N models (units), G groups left out in turn, K strata, R resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from gapctl.analysis.correlation import (
    TAU_TOLERANCE,
    Strata,
    TailShares,
    compute_directional_p,
    compute_kendall_taus,
    rank_within_strata,
    residualise,
)
from gapctl.analysis.estimates import BOOTSTRAP_SEED, RESAMPLING_SEED, Direction, IntArray
from gapctl.analysis.paired_responses import FloatArray
from gapctl.analysis.results import UNKNOWN_INTERVAL, EstimateWithInterval, Interval
from gapctl.config.arms import RANDOM_PERMUTATIONS
from gapctl.config.cohort import FEWEST_GROUPS
from gapctl.config.hypotheses import Scope

BoolArray = npt.NDArray[np.bool_]
STRATA_RESAMPLES: Final = 1_999


class Pairs(NamedTuple):
    """For each set and pair of models: whether both metrics order it alike (+1) or not (-1), and which tie it (0)."""

    agreement_ENN: FloatArray
    untied_x_ENN: FloatArray
    untied_y_ENN: FloatArray


def compare_model_pairs(x_EN: IntArray, y_EN: IntArray) -> Pairs:
    """Compare every two models by the ranks of both metrics."""
    signs_x, signs_y = (np.sign(rank_EN[:, :, None] - rank_EN[:, None, :]).astype(float) for rank_EN in (x_EN, y_EN))
    return Pairs(signs_x * signs_y, np.abs(signs_x), np.abs(signs_y))


def build_pair_mask(stratum_N: IntArray, scope: Scope) -> BoolArray:
    """Return which pairs of models (N, N) a scope compares."""
    same_NN = stratum_N[:, None] == stratum_N[None, :]
    apart_NN = ~np.eye(len(stratum_N), dtype=bool)
    if scope == "within_strata":
        return np.asarray(same_NN & apart_NN)
    return np.asarray(~same_NN if scope == "between_strata" else apart_NN)


@dataclass(frozen=True)
class Tau:
    """The mean over sets of tau-b, with its standard error and degrees of freedom; NaN where there is none.

    `by_set` are the sets' own taus (E,) and `errors_E` their errors. `units` are those with a pair in the scope.
    `fisher` says that the interval is Student's on Fisher's scale (atanh), which suits errors between strata.
    """

    value: float
    error: float
    free: float
    fisher: bool
    by_set: FloatArray
    errors_E: FloatArray
    free_by_set: float
    units: int
    spread_of_sets: float = 0.0

    def interval(self, alpha: float) -> Interval:
        """Return the interval at level 1 - alpha, within -1 and 1."""
        return _bound_tau(self.value, self.error, self.free, alpha, self.fisher, self.units)

    def with_interval(self, alpha: float) -> EstimateWithInterval:
        """Return the estimate with its interval."""
        return EstimateWithInterval(self.value, *self.interval(alpha))

    def set_interval(self, place: int, alpha: float) -> EstimateWithInterval:
        """Return one set's tau with its interval."""
        value, error = float(self.by_set[place]), float(self.errors_E[place])
        return EstimateWithInterval(value, *_bound_tau(value, error, self.free_by_set, alpha, self.fisher, self.units))

    def compute_p(self, direction: Direction, smallest: float) -> float:
        """Return p of a tau that is not beyond `smallest` in this direction; `neither` is the test of equivalence.

        NaN without an error.
        """
        if not math.isfinite(self.error):
            return math.nan
        above, below = (self._compute_tail(sign, smallest) for sign in (1, -1))
        if direction == "neither":  # two one-sided tests: tau lies below the smallest, and above its negative
            return max(1 - above, 1 - below)
        return compute_directional_p(TailShares(above, below), direction)

    def _compute_tail(self, sign: int, smallest: float) -> float:
        centre, error = _transform(sign * self.value, self.error, self.fisher, self.units)
        edge = math.atanh(smallest) if self.fisher else smallest
        return float(stats.t.sf((centre - edge) / error, self.free))


def _transform(value: float, error: float, fisher: bool, units: int) -> tuple[float, float]:
    """Return an estimate and its error on the scale of the interval."""
    if not fisher:
        return value, error
    within = 1 - 1 / max(2, units)
    inside = min(max(value, -within), within)
    return math.atanh(inside), error / (1 - inside**2)


def _bound_tau(value: float, error: float, free: float, alpha: float, fisher: bool, units: int) -> Interval:
    if not math.isfinite(error):
        return UNKNOWN_INTERVAL
    centre, error = _transform(value, error, fisher, units)
    half = float(stats.t.ppf(1 - alpha / 2, free)) * error
    if fisher:
        # An estimate of 1 lies beyond the last value that Fisher's scale holds here, and belongs to its interval.
        return Interval(min(value, math.tanh(centre - half)), max(value, math.tanh(centre + half)))
    return Interval(max(-1.0, centre - half), min(1.0, centre + half))


def estimate_tau(pairs: Pairs, stratum_N: IntArray, scope: Scope, *, other_strata: bool = False) -> Tau:
    """Estimate tau over the pairs of a scope, with the jackknife's error.

    The jackknife's covariance over sets holds what the sets share, as the same models are in each. Where sets differ by
    more than that, their true taus have a spread, which widens the interval: a random-effects mean with equal weights.

    Where strata are left out, degrees of freedom are one fewer than their effective number, (sum n)^2 / sum n^2, and
    the interval is on Fisher's scale. `other_strata` leaves them out within strata too, for other strata of this kind.
    """
    scope_NN, across = build_pair_mask(stratum_N, scope), scope != "within_strata" or other_strata
    group_N = stratum_N if across else np.arange(len(stratum_N))
    pairs_N = scope_NN.sum(axis=1)
    size_G = np.bincount(group_N, pairs_N if scope == "within_strata" else pairs_N > 0)
    by_set, left_EG = (
        compute_taus_by_evaluation_set(pairs, scope_NN),
        compute_leave_group_out_taus(pairs, scope_NN, group_N)[:, size_G > 0],
    )
    size_G = size_G[size_G > 0]
    groups = len(size_G)
    if groups < FEWEST_GROUPS or not (np.isfinite(by_set).all() and np.isfinite(left_EG).all()):
        unknown_E = np.full(len(by_set), math.nan)
        return Tau(float(by_set.mean()), math.nan, math.nan, across, by_set, unknown_E, math.nan, 0)
    effective = float(size_G.sum() ** 2 / (size_G**2).sum())
    free = max(1.0, effective - (1 if across else len(np.unique(stratum_N[pairs_N > 0]))))
    away_EG = left_EG - by_set[:, None]
    covariance_EE = (groups - 1) / groups * away_EG @ away_EG.T
    # Models in perfect order have a jackknife without spread. The least error is one model turned half round.
    units = int((pairs_N > 0).sum())
    short_E = np.sqrt(np.maximum(0.0, (2 / units) ** 2 - covariance_EE.diagonal()))
    covariance_EE = covariance_EE + np.outer(short_E, short_E)
    shared, between = _split_variance(by_set, covariance_EE)
    variance, sets = shared + between, len(by_set)
    # Few sets show their spread badly. One fewer than their number are the degrees of freedom where they differ.
    free_of_mean = min(free, sets - 1) if between else free
    return Tau(
        float(by_set.mean()),
        math.sqrt(variance),
        free_of_mean,
        across,
        by_set,
        np.sqrt(covariance_EE.diagonal()),
        free,
        units,
        math.sqrt(between * sets),
    )


def compute_taus_by_evaluation_set(pairs: Pairs, scope_NN: BoolArray) -> FloatArray:
    """Return each set's tau-b over the pairs of a scope (E,); NaN where one metric ties them all."""
    with np.errstate(invalid="ignore"):
        return _compute_tau([(count_ENN * scope_NN).sum(axis=(1, 2)) for count_ENN in pairs])


def compute_leave_group_out_taus(pairs: Pairs, scope_NN: BoolArray, group_N: IntArray) -> FloatArray:
    """Return each set's tau without the models of each group (E, G); NaN where no untied pair is left."""
    member_NG = np.eye(int(group_N.max(initial=0)) + 1)[group_N]
    left = []
    for count_ENN in pairs:
        scoped_ENN = count_ENN * scope_NN
        inside_EG = ((scoped_ENN @ member_NG) * member_NG).sum(axis=1)
        touching_EG = 2 * scoped_ENN.sum(axis=2) @ member_NG - inside_EG
        left.append(scoped_ENN.sum(axis=(1, 2))[:, None] - touching_EG)
    with np.errstate(invalid="ignore"):
        return _compute_tau(left)


def _compute_tau(counts: Sequence[FloatArray]) -> FloatArray:
    agreement, untied_x, untied_y = counts
    return np.asarray(agreement / np.sqrt(untied_x * untied_y))


def _split_variance(by_set: FloatArray, covariance_EE: FloatArray) -> tuple[float, float]:
    """Return the parts of the variance of the mean over sets: of models, and of sets' true taus (0 for one set)."""
    sets = len(by_set)
    shared = float(covariance_EE.sum()) / sets**2
    if sets == 1:
        return shared, 0.0
    expected = (float(covariance_EE.trace()) - sets * shared) / (sets - 1)
    return shared, max(0.0, float(by_set.var(ddof=1)) - expected) / sets


class Residuals(NamedTuple):
    """Values of models on one set (1, N), with the directions that were removed (N, Q), or None.

    Values no further apart than `slack_11` are tied; None stands for rounding alone.
    """

    values_1N: FloatArray
    span_NQ: FloatArray | None = None
    slack_11: FloatArray | None = None


def run_model_permutation_test(
    predictors: Sequence[Residuals], rank_y_EN: IntArray, strata: Strata, permutations: int = RANDOM_PERMUTATIONS
) -> TailShares:
    """Permute the predictor among the models of each stratum, alike in all sets; count mean taus as extreme.

    `rank_y_EN` are the response's ranks within these strata. Where covariates were removed, they are removed again
    after each permutation (Freedman and Lane 1983, J Bus Econ Stat 1:292-298).
    """
    orders_RN = _draw_orders(strata, permutations)
    own_1N = np.arange(orders_RN.shape[1])[None]
    taus = [_average_permuted(predictors, rank_y_EN, strata, some_RN) for some_RN in (own_1N, orders_RN)]
    found, permuted_R = float(taus[0][0]), taus[1]
    above = 1 + np.count_nonzero(permuted_R >= found - TAU_TOLERANCE)
    below = 1 + np.count_nonzero(permuted_R <= found + TAU_TOLERANCE)
    return TailShares(above / (permutations + 1), below / (permutations + 1))


def _draw_orders(strata: Strata, permutations: int) -> IntArray:
    rng = np.random.default_rng(RESAMPLING_SEED)
    orders_RN = np.tile(np.arange(sum(map(len, strata))), (permutations, 1))
    for places in strata:
        orders_RN[:, places] = rng.permuted(orders_RN[:, places], axis=1)
    return orders_RN


def _average_permuted(
    predictors: Sequence[Residuals], rank_y_EN: IntArray, strata: Strata, orders_RN: IntArray
) -> FloatArray:
    found_R = np.zeros(len(orders_RN))
    for (values_1N, span_NQ, slack_11), rank_y_N in zip(predictors, rank_y_EN, strict=True):
        if span_NQ is None:
            rank_RN = rank_within_strata(values_1N, strata, slack_11)[0][orders_RN]
        else:
            rank_RN = rank_within_strata(residualise(span_NQ, values_1N[0][orders_RN]), strata, slack_11)
        found_R += np.nan_to_num(compute_kendall_taus(rank_y_N[None], rank_RN, strata))
    return np.asarray(found_R / len(predictors))


def compute_strata_bootstrap_interval(pairs: Pairs, stratum_N: IntArray, scope: Scope, alpha: float) -> Interval:
    """Return the percentile interval of tau when whole strata are resampled.

    It decides nothing: a dozen unequal strata make it too narrow. Copies of one stratum are not compared.
    """
    strata = int(stratum_N.max()) + 1
    member_NK, scope_NN = np.eye(strata)[stratum_N], build_pair_mask(stratum_N, scope)
    drawn_RK = np.random.default_rng(BOOTSTRAP_SEED).multinomial(strata, [1 / strata] * strata, STRATA_RESAMPLES)
    sums = []
    for count_ENN in pairs:
        cells_EKK = member_NK.T @ (count_ENN * scope_NN) @ member_NK
        own_EK = cells_EKK.diagonal(axis1=1, axis2=2)
        crossed_ER = np.einsum("rk,ekl,rl->er", drawn_RK, cells_EKK, drawn_RK, optimize=True)
        sums.append(crossed_ER - own_EK @ (drawn_RK * (drawn_RK - 1)).T)
    with np.errstate(invalid="ignore"):
        taus_R = _compute_tau(sums).mean(axis=0)
    known = taus_R[np.isfinite(taus_R)]
    if len(known) < STRATA_RESAMPLES / 2:
        return UNKNOWN_INTERVAL
    return Interval(*(float(end) for end in np.quantile(known, [alpha / 2, 1 - alpha / 2])))
