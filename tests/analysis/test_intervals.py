"""Intervals over few seeds: Student's t keeps its promise, the bootstrap does not, so t decides."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gapctl.analysis.estimates import bootstrap_interval, compute_effect_p, compute_half_width, compute_t_interval


def test_the_t_interval_agrees_with_a_table() -> None:
    """t at 97.5 % and 2 degrees of freedom is 4.3027; effects 1, 2, 3 have mean 2 and standard deviation 1."""
    found = compute_t_interval(np.array([1.0, 2.0, 3.0]), alpha=0.05)

    assert found == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), rel=1e-6)


@given(
    effects=st.lists(st.floats(-100, 100), min_size=2, max_size=8).filter(lambda found: np.ptp(found) > 1e-3),
    alpha=st.floats(0.001, 0.5),
)
def test_the_t_interval_is_scipys(effects: list[float], alpha: float) -> None:
    reference = stats.ttest_1samp(effects, 0.0).confidence_interval(1 - alpha)

    assert compute_t_interval(np.array(effects), alpha) == pytest.approx(
        (reference.low, reference.high), rel=1e-9, abs=1e-9
    )


@pytest.mark.parametrize("effects", [[], [0.3]])
def test_fewer_than_two_seeds_have_no_interval(effects: list[float]) -> None:
    found = np.array(effects)

    assert all(math.isnan(side) for side in (*compute_t_interval(found, 0.05), *bootstrap_interval(found, 0.05)))


def test_seeds_that_agree_have_an_interval_of_no_width() -> None:
    effects = np.full(3, 0.25)

    assert compute_t_interval(effects, 0.05) == (0.25, 0.25)
    assert bootstrap_interval(effects, 0.05) == (0.25, 0.25)


def test_more_seeds_narrow_the_interval() -> None:
    widths = compute_half_width(1.0, np.arange(2.0, 50.0), 0.05)

    assert (np.diff(widths) < 0).all()


def test_the_bootstrap_gives_the_same_interval_each_time_and_keeps_within_the_effects() -> None:
    effects = np.array([-0.31, -0.24, -0.27, -0.22])
    first, again = bootstrap_interval(effects, 0.05), bootstrap_interval(effects, 0.05)

    assert first == again
    assert effects.min() <= first.low < effects.mean() < first.high <= effects.max()


def test_at_three_seeds_t_covers_what_it_says_and_the_bootstrap_does_not() -> None:
    """1,500 rounds: the standard error of a share near 95 % is 0.6 points, of one near 75 % 1.1 points."""
    rng = np.random.default_rng(11)
    samples = rng.standard_normal((1_500, 3))

    by_t = [compute_t_interval(effects, 0.05) for effects in samples]
    by_bootstrap = [bootstrap_interval(effects, 0.05, "percentile", resamples=999) for effects in samples]

    assert 0.93 < np.mean([found.low <= 0 <= found.high for found in by_t]) < 0.97
    assert 0.70 < np.mean([found.low <= 0 <= found.high for found in by_bootstrap]) < 0.80


def test_effects_too_small_to_square_still_have_a_spread() -> None:
    """A spread of 0 would make the interval of any two such effects certain."""
    effects = np.array([0.3, -0.1, 0.25])

    assert compute_t_interval(1e-200 * effects, 0.05) == pytest.approx(
        [1e-200 * end for end in compute_t_interval(effects, 0.05)]
    )
    assert compute_effect_p(1e-200 * effects, "increasing").p == pytest.approx(
        compute_effect_p(effects, "increasing").p
    )
