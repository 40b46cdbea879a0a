"""Forecast a response at levels left out in turn: by a line through the other levels, with and without predictors.

1. `estimate_prediction` is the entry: from responses paired by seed to the skill, its interval and p. A level is a
   replicate, at its mean over seeds.
2. `build_error_matrix` gives the errors of all leave-one-out forecasts as one product, by the hat matrix.
3. `compute_skill_interval` leaves out a further level in turn (the jackknife), on the scale of the logarithm.
4. `compute_permuted_p` permutes among the levels what predictors are to explain.

Shapes: R responses, L levels, Q columns that a line is fitted to, N permutations.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from scipy import stats

from gapctl.analysis.correlation import list_permutations
from gapctl.analysis.estimates import (
    BOOTSTRAP_SEED,
    NO_ESTIMATE,
    RESAMPLES,
    ROUNDING_SHARE,
    EffectEstimate,
)
from gapctl.analysis.paired_responses import FloatArray, PairedResponses
from gapctl.analysis.results import UNKNOWN_INTERVAL, ForecastSummary, Interval, LevelForecast
from gapctl.config.arms import ArmGrid
from gapctl.config.hypotheses import Level, Prediction

RANK_TOLERANCE: Final = 1e-9
"""A column is a linear combination of the others where its residual, given them, is below this share of it."""
ALONE: Final = 1e-7
"""Where a level's leverage is this near 1, the line runs through it, and no other level tells that direction."""


@dataclass(frozen=True)
class PredictionEstimate:
    """A prediction's estimate, and what stands beside it; `note` explains a missing estimate."""

    estimate: EffectEstimate
    summary: ForecastSummary | None = None
    note: str = ""


class _ForecastErrors(NamedTuple):
    """The matrices (L, L) that give the errors of forecasts from `beyond` alone, and with the predictors."""

    before_LL: FloatArray
    after_LL: FloatArray

    def compute_squares(self, response_NL: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the squared errors (N, L) of responses (N, L), before and after."""
        return (response_NL @ self.before_LL.T) ** 2, (response_NL @ self.after_LL.T) ** 2


def estimate_prediction(
    hypothesis: Prediction, levels: tuple[Level, ...], responses: PairedResponses, alpha: float
) -> PredictionEstimate:
    """Estimate the skill of forecasts; `responses` are the response, the predictors, then those of `beyond`.

    No estimate is made where no seed is complete, for fewer levels than the hypothesis needs, and where nothing is left
    to forecast: the response is the same at all levels, or `beyond` tells it exactly.
    """
    if not responses.seeds:
        return PredictionEstimate(NO_ESTIMATE)
    if len(levels) < hypothesis.fewest_levels:
        wanted = f"at least {hypothesis.fewest_levels} are needed to forecast each from the others"
        return PredictionEstimate(NO_ESTIMATE, note=f"{len(levels)} levels are too few: {wanted}")
    response_L, *metrics = responses.values_RSC.mean(axis=1)
    added, given = metrics[: len(hypothesis.predictors)], metrics[len(hypothesis.predictors) :]
    before_LQ, after_LQ = _join_columns(given, len(levels)), _join_columns([*given, *added], len(levels))
    forecasts = _ForecastErrors(build_error_matrix(before_LQ), build_error_matrix(after_LQ))
    (before_L,), (after_L,) = forecasts.compute_squares(response_L[None])
    slack = len(levels) * (ROUNDING_SHARE * float(np.abs(response_L).max())) ** 2
    if before_L.sum() <= slack:
        same = "is told exactly by " + " and ".join(hypothesis.beyond) if given else "is the same at all levels"
        return PredictionEstimate(NO_ESTIMATE, note=f"nothing is left to forecast: {hypothesis.response} {same}")
    skill = compute_skill(before_L, after_L)
    spread = _compute_jackknife_error(response_L, before_LQ, after_LQ, slack)
    p = compute_permuted_p(response_L, before_LQ, forecasts)
    distance = _take_logarithm(1 - skill) - math.log(1 - hypothesis.smallest_effect)
    claim = compute_claim_p(distance, spread, len(levels))
    estimate = EffectEstimate(
        (before_L - after_L) / before_L.mean(),
        skill,
        compute_skill_interval(skill, spread, len(levels), alpha),
        _bootstrap_skill(before_L, after_L, alpha),
        p,
        "permutation",
        p_claim=max(p, claim),
        p_permutation=p,
        cells=len(levels),
        rounding=ROUNDING_SHARE,
    )
    return PredictionEstimate(estimate, _summarise(levels, responses, response_L, forecasts))


def _join_columns(metrics: list[FloatArray], levels: int) -> FloatArray:
    return np.array(metrics).reshape(-1, levels).T


def build_error_matrix(columns_LQ: FloatArray) -> FloatArray:
    """Return the matrix (L, L) that turns a response into each level's error when the other levels forecast it.

    A forecast is the least-squares line with intercept; its errors left out are (I - H) y / (1 - h), of the hat matrix
    H with diagonal h (Allen 1974, Technometrics 16:125-127). Columns that are constant, or told by others, add nothing.
    A level of leverage 1 alone tells some direction of the columns: the others cannot, so that the line of least norm
    through them forecasts it.
    """
    count = len(columns_LQ)
    unit_LQ = _scale_columns(columns_LQ)
    basis_LK, sizes_K, _ = np.linalg.svd(unit_LQ, full_matrices=False)
    basis_LK = basis_LK[:, sizes_K > RANK_TOLERANCE * math.sqrt(count)]
    left_LL = np.eye(count) - 1 / count - basis_LK @ basis_LK.T
    free_L = left_LL.diagonal()
    errors_LL = left_LL / np.where(free_L > ALONE, free_L, 1.0)[:, None]
    for level in np.flatnonzero(free_L <= ALONE):
        errors_LL[level] = _refit_without(int(level), columns_LQ)
    return np.asarray(errors_LL)


def _scale_columns(columns_LQ: FloatArray) -> FloatArray:
    """Return the columns less their means, each with a largest deviation of 1; constant ones become 0."""
    centred_LQ = columns_LQ - columns_LQ.mean(axis=0)
    largest_Q = np.abs(centred_LQ).max(axis=0, initial=0.0)
    varies_Q = largest_Q > RANK_TOLERANCE * np.abs(columns_LQ).max(axis=0, initial=0.0)
    return np.asarray(np.where(varies_Q, centred_LQ / np.where(varies_Q, largest_Q, 1.0), 0.0))


def _refit_without(level: int, columns_LQ: FloatArray) -> FloatArray:
    """Return one row of the error matrix by a fit to the other levels, of least norm."""
    others = np.arange(len(columns_LQ)) != level
    largest_Q = np.abs(columns_LQ - columns_LQ.mean(axis=0)).max(axis=0, initial=0.0)
    unit_LQ = columns_LQ / np.where(largest_Q > 0, largest_Q, 1.0)
    centre_Q = unit_LQ[others].mean(axis=0)
    inverse_QL = np.linalg.pinv(_drop_rounding(unit_LQ[others] - centre_Q), rcond=RANK_TOLERANCE)
    row_L = np.ones(len(columns_LQ))
    row_L[others] = -1 / others.sum() - (unit_LQ[level] - centre_Q) @ inverse_QL
    return row_L


def _drop_rounding(centred_LQ: FloatArray) -> FloatArray:
    """Return deviations from the mean with columns that vary by rounding alone set to 0."""
    return np.asarray(np.where(np.abs(centred_LQ).max(axis=0, initial=0.0) > RANK_TOLERANCE, centred_LQ, 0.0))


def compute_skill(before_L: FloatArray, after_L: FloatArray) -> float:
    """Return the share of the squared errors that is taken away; below 0 where there is more than before."""
    return float(1 - after_L.sum() / before_L.sum())


def _take_logarithm(share: float) -> float:
    """Return the logarithm of the share of the error that is left; one of rounding counts as the least there is."""
    return math.log(max(share, ROUNDING_SHARE**2))


def _compute_jackknife_error(
    response_L: FloatArray, before_LQ: FloatArray, after_LQ: FloatArray, slack: float
) -> float:
    """Return the standard error of the logarithm of the error left, by leaving out each level from all of it.

    Tukey's jackknife (1958, Ann Math Stat 29:614). All lines are fitted anew, as forecasts share their levels.
    """
    count, left = len(response_L), []
    for level in range(count):
        kept = np.arange(count) != level
        forecasts = _ForecastErrors(build_error_matrix(before_LQ[kept]), build_error_matrix(after_LQ[kept]))
        before_L, after_L = forecasts.compute_squares(response_L[kept])
        if before_L.sum() <= slack:
            return math.inf
        left.append(_take_logarithm(float(after_L.sum() / before_L.sum())))
    return math.sqrt((count - 1) * float(np.var(left)))


def compute_skill_interval(skill: float, error: float, levels: int, alpha: float) -> Interval:
    """Return Student's interval on the scale of the logarithm of the error left, as skills; it never exceeds 1."""
    if not math.isfinite(error):
        return UNKNOWN_INTERVAL
    centre, half = _take_logarithm(1 - skill), float(stats.t.ppf(1 - alpha / 2, levels - 1)) * error
    return Interval(-math.expm1(centre + half), -math.expm1(centre - half))


def compute_claim_p(distance: float, error: float, levels: int) -> float:
    """Return p of a skill beyond the smallest; `distance` is of the logarithms of the errors left."""
    if not math.isfinite(error):
        return math.nan
    if error == 0:
        return 1.0 if distance >= 0 else 0.0
    return float(stats.t.cdf(distance / error, levels - 1))


def compute_permuted_p(response_L: FloatArray, before_LQ: FloatArray, forecasts: _ForecastErrors) -> float:
    """Return the share of permutations with a skill at least as large as the observed one, which counts itself.

    What `beyond` leaves of the response is permuted among the levels, and the fit of `beyond` is added again
    (Freedman and Lane 1983, J Bus Econ Stat 1:292-298). Without `beyond` that permutes the predictors' rows.
    """
    unit_LQ = _scale_columns(before_LQ)
    fitted_L = response_L.mean() + unit_LQ @ np.linalg.pinv(unit_LQ, rcond=RANK_TOLERANCE) @ response_L
    grid = ArmGrid((len(response_L),), (False,))
    permuted_NL = fitted_L + (response_L - fitted_L)[list_permutations(grid)]
    before_NL, after_NL = forecasts.compute_squares(np.vstack([response_L, permuted_NL]))
    left_N = after_NL.sum(axis=1) / before_NL.sum(axis=1)
    as_small = np.count_nonzero(left_N[1:] <= left_N[0] * (1 + RANK_TOLERANCE) + ROUNDING_SHARE**2)
    extra = grid.counted - len(permuted_NL)
    return min(1.0, float((as_small + extra) / grid.counted))


def _bootstrap_skill(before_L: FloatArray, after_L: FloatArray, alpha: float) -> Interval:
    """Return the percentile interval of the skill over levels drawn with replacement, with their forecasts as is."""
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    drawn_NL = rng.integers(len(before_L), size=(RESAMPLES, len(before_L)))
    with np.errstate(divide="ignore", invalid="ignore"):
        skills_N = 1 - after_L[drawn_NL].sum(axis=1) / before_L[drawn_NL].sum(axis=1)
    low, high = np.nanquantile(skills_N, [alpha / 2, 1 - alpha / 2])
    return Interval(float(low), float(high))


def _summarise(
    levels: tuple[Level, ...], responses: PairedResponses, response_L: FloatArray, forecasts: _ForecastErrors
) -> ForecastSummary:
    before_L, after_L = (response_L - matrix_LL @ response_L for matrix_LL in forecasts)
    rows = zip(levels, *(each.tolist() for each in (response_L, before_L, after_L)), strict=True)
    return ForecastSummary(
        seeds=len(responses.seeds) * responses.each,
        noun=responses.noun,
        error_before=math.sqrt(float(((response_L - before_L) ** 2).mean())),
        error=math.sqrt(float(((response_L - after_L) ** 2).mean())),
        levels=tuple(LevelForecast(*row) for row in rows),
    )
