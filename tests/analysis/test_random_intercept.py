"""The mixed model with a random intercept: as statsmodels has it where that converges, and where it does not."""

import warnings

import numpy as np
import pytest
from statsmodels.regression.linear_model import OLS
from statsmodels.regression.mixed_linear_model import MixedLM

from gapctl.analysis.random_intercept import estimate_slopes, fit_random_intercept

STRATUM_N = np.repeat(np.arange(10), [14, 11, 9, 7, 5, 4, 3, 2, 1, 1])


def draw(share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A response and a design of a constant and two columns; `share` of the rest lies between strata."""
    rng = np.random.default_rng(seed)
    design = np.column_stack([np.ones(len(STRATUM_N)), rng.standard_normal((len(STRATUM_N), 2))])
    shared, own = rng.standard_normal(10)[STRATUM_N], rng.standard_normal(len(STRATUM_N))
    return design @ [1.0, 0.5, -0.3] + np.sqrt(share) * shared + np.sqrt(1 - share) * own, design


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_it_is_the_model_of_statsmodels(share: float) -> None:
    response, design = draw(share)
    found, expected = fit_random_intercept(response, design, STRATUM_N), MixedLM(response, design, STRATUM_N).fit()

    assert found is not None
    assert expected.converged
    assert found.coefficients_D == pytest.approx(expected.fe_params, abs=1e-4)
    between = float(np.asarray(expected.cov_re)[0, 0])
    assert found.share == pytest.approx(between / (between + expected.scale), abs=2e-3)
    # statsmodels inverts a Hessian in which the variance's own error has a part; these are the errors without it.
    covariance = expected.scale * np.eye(len(STRATUM_N)) + between * (STRATUM_N[:, None] == STRATUM_N)
    assert found.covariance_DD == pytest.approx(np.linalg.inv(design.T @ np.linalg.solve(covariance, design)), rel=2e-3)
    assert np.sqrt(found.covariance_DD.diagonal()) == pytest.approx(expected.bse_fe, rel=0.03)


def test_strata_with_nothing_in_common_give_least_squares_where_statsmodels_does_not_converge() -> None:
    response, design = draw(0.0, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not MixedLM(response, design, STRATUM_N).fit().converged

    found, expected = fit_random_intercept(response, design, STRATUM_N), OLS(response, design).fit()

    assert found is not None
    assert found.share == 0
    assert found.coefficients_D == pytest.approx(expected.params)
    assert np.sqrt(found.covariance_DD.diagonal()) == pytest.approx(expected.bse)


def test_a_collinear_design_and_a_perfect_fit_have_no_estimate() -> None:
    response, design = draw(0.5)

    assert fit_random_intercept(response, np.column_stack([design, design[:, 1]]), STRATUM_N) is None
    assert fit_random_intercept(design @ [1.0, 2.0, 3.0], design, STRATUM_N) is None


def test_slopes_that_differ_between_and_within_strata_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    shared, own = rng.standard_normal(10)[STRATUM_N], 0.3 * rng.standard_normal(len(STRATUM_N))
    response = -2 * shared + own + 0.1 * rng.standard_normal(len(STRATUM_N))

    slopes = estimate_slopes(response, shared + own, np.empty((len(STRATUM_N), 0)), STRATUM_N, 0.05)

    assert slopes is not None
    assert slopes.within.low > 0 > slopes.between.high
    assert slopes.p_difference < 0.001
    assert slopes.between.value < slopes.mixed.value < slopes.within.value


def test_what_a_covariate_explains_is_no_slope() -> None:
    rng = np.random.default_rng(1)
    cause = rng.standard_normal(len(STRATUM_N))
    response, predictor = (cause + 0.3 * rng.standard_normal(len(STRATUM_N)) for _ in range(2))

    def slope(covariates: np.ndarray) -> float:
        found = estimate_slopes(response, predictor, covariates, STRATUM_N, 0.05)
        assert found is not None
        return found.mixed.value

    assert slope(np.empty((len(STRATUM_N), 0))) > 0.8
    assert abs(slope(np.column_stack([cause, 2 * cause, np.ones(len(STRATUM_N))]))) < 0.3


@pytest.mark.parametrize("strata", [1, 2])
def test_two_strata_have_no_slopes(strata: int) -> None:
    rng = np.random.default_rng(0)

    found = estimate_slopes(*rng.standard_normal((2, 12)), np.empty((12, 0)), np.arange(12) % strata, 0.05)

    assert found is None
