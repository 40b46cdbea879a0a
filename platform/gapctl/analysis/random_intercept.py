"""Regress a response on a predictor over models in strata: a random intercept for each stratum, by REML.

1. `fit_random_intercept` fits response ~ design + (1 | stratum). Its likelihood has one free number, the share of the
   variance that lies between strata, which a bounded search always finds. A share of 0 is least squares.
2. `estimate_slopes` fits it twice: with the predictor as it is, and split into the stratum's mean and the deviation
   from it (Mundlak 1978, Econometrica 46:69-85), whose slopes differ where strata confound.

Intervals use t with two degrees of freedom fewer than there are strata, except within strata. Wald's z intervals are
too narrow with a dozen strata (docs/statistics.md).

Shapes: N models, K strata, D columns of a design, Q covariates.
"""

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from gapctl.analysis.estimates import ROUNDING_SHARE
from gapctl.analysis.paired_responses import FloatArray
from gapctl.analysis.results import EstimateWithInterval, Slopes

LARGEST_SHARE: Final = 0.9999
"""Beyond this share between strata, what varies within them is rounding."""
GRID: Final = 40
"""Shares that are tried before the search, so that it begins beside the highest likelihood."""
FEWEST_STRATA: Final = 3
RANK_TOLERANCE: Final = 1e-9


class RandomIntercept(NamedTuple):
    """The coefficients (D,), their covariance (D, D), and the share of the residual variance between strata."""

    coefficients_D: FloatArray
    covariance_DD: FloatArray
    share: float


def fit_random_intercept(
    response_N: FloatArray, design_ND: FloatArray, stratum_N: npt.NDArray[np.int64]
) -> RandomIntercept | None:
    """Fit response ~ design + (1 | stratum) by restricted maximum likelihood; `design_ND` includes the constant.

    Return None where the design is collinear or leaves no residual. `statsmodels` gives the same estimates where its
    MixedLM converges. It often does not where strata have nothing in common, as its search ends on the boundary.
    """
    models, columns = design_ND.shape
    scale_D = np.linalg.norm(design_ND, axis=0)
    if models <= columns or not scale_D.all():
        return None
    if np.linalg.matrix_rank(design_ND / scale_D, tol=RANK_TOLERANCE * math.sqrt(models)) < columns:
        return None
    size_K = np.bincount(stratum_N).astype(float)
    data = np.column_stack([response_N, design_ND])
    means = np.stack([np.bincount(stratum_N, column) / size_K for column in data.T], axis=1)
    within = data - means[stratum_N]
    products = within.T @ within

    def solve(share: float) -> tuple[float, FloatArray, FloatArray, float]:
        """Return -2 log of the restricted likelihood, coefficients, X'V^-1X and the residual sum at this share."""
        ratio = share / (1 - share)
        total = products + (means.T * (size_K / (1 + size_K * ratio))) @ means
        inner_DD, outer_D = total[1:, 1:], total[1:, 0]
        found_D = np.linalg.solve(inner_DD, outer_D)
        rest = float(total[0, 0] - outer_D @ found_D)
        if rest <= ROUNDING_SHARE * total[0, 0]:
            return -math.inf, found_D, inner_DD, 0.0
        likelihood = (models - columns) * math.log(rest) + np.log1p(size_K * ratio).sum()
        return float(likelihood + np.linalg.slogdet(inner_DD)[1]), found_D, inner_DD, rest

    shares = np.linspace(0.0, LARGEST_SHARE, GRID)
    tried = [solve(float(share))[0] for share in shares]
    best = int(np.argmin(tried))
    ends = (float(shares[max(0, best - 1)]), float(shares[min(GRID - 1, best + 1)]))
    found = optimize.minimize_scalar(lambda share: solve(float(share))[0], bounds=ends, method="bounded")
    share = float(found.x) if found.fun < tried[best] else float(shares[best])
    _, coefficients_D, inner_DD, rest = solve(share)
    if not rest:
        return None
    return RandomIntercept(coefficients_D, rest / (models - columns) * np.linalg.inv(inner_DD), share)


def estimate_slopes(
    response_N: FloatArray,
    predictor_N: FloatArray,
    covariates_NQ: FloatArray,
    stratum_N: npt.NDArray[np.int64],
    alpha: float,
) -> Slopes | None:
    """Estimate the slope of the response on the predictor: in the mixed model, between strata, and within them.

    Response and predictor are standardised over the cohort first. Return None where strata or models are too few, or
    where predictor and covariates are collinear.
    """
    strata = len(np.unique(stratum_N))
    if strata < FEWEST_STRATA or not (response_N.std() and predictor_N.std()):
        return None
    y_N, x_N = (_standardise(values_N) for values_N in (response_N, predictor_N))
    z_NQ = _choose_independent_columns(covariates_NQ)
    one_N = np.ones(len(y_N))
    mean_N = (np.bincount(stratum_N, x_N) / np.bincount(stratum_N))[stratum_N]
    mixed = fit_random_intercept(y_N, np.column_stack([x_N, one_N, z_NQ]), stratum_N)
    split = fit_random_intercept(y_N, np.column_stack([x_N - mean_N, mean_N, one_N, z_NQ]), stratum_N)
    free = len(y_N) - strata - 1 - z_NQ.shape[1]
    if mixed is None or split is None or free < 1:
        return None
    (within, between), variance = split.coefficients_D[:2], split.covariance_DD[:2, :2]
    apart, error = between - within, math.sqrt(variance[0, 0] + variance[1, 1] - 2 * variance[0, 1])
    return Slopes(
        mixed=_build_interval(mixed.coefficients_D[0], mixed.covariance_DD[0, 0], strata - 2, alpha),
        within=_build_interval(within, variance[0, 0], free, alpha),
        between=_build_interval(between, variance[1, 1], strata - 2, alpha),
        p_difference=float(2 * stats.t.sf(abs(apart) / error, strata - 2)),
        share_between=mixed.share,
    )


def _standardise(values_N: FloatArray) -> FloatArray:
    return np.asarray((values_N - values_N.mean()) / values_N.std())


def _choose_independent_columns(values_NQ: FloatArray) -> FloatArray:
    """Return orthonormal columns that span the covariates' deviations from their means."""
    centred_NQ = values_NQ - values_NQ.mean(axis=0)
    size_Q = np.abs(centred_NQ).max(axis=0, initial=0.0)
    centred_NQ = centred_NQ[:, size_Q > 0] / size_Q[size_Q > 0]
    direction_NQ, weight_Q, _ = np.linalg.svd(centred_NQ, full_matrices=False)
    return np.asarray(direction_NQ[:, weight_Q > RANK_TOLERANCE * math.sqrt(len(values_NQ))])


def _build_interval(value: float, variance: float, free: int, alpha: float) -> EstimateWithInterval:
    half = float(stats.t.ppf(1 - alpha / 2, free)) * math.sqrt(variance)
    return EstimateWithInterval(float(value), float(value - half), float(value + half))
