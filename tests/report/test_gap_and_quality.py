"""Kendall's tau between gap and quality: known answers, and agreement with scipy."""

import numpy as np
from scipy.stats import kendalltau

from gapctl.report.gap_and_quality import tau


def test_over_all_pairs_it_is_scipys_tau_b_with_ties() -> None:
    drawn = np.random.default_rng(0)
    one, other = drawn.integers(0, 5, 40).astype(float), drawn.integers(0, 5, 40).astype(float)

    assert np.isclose(tau(one, other, np.ones((40, 40), bool)), kendalltau(one, other).statistic)


def test_pairs_of_other_arms_do_not_count() -> None:
    """Within each arm quality rises with the gap; between the arms it falls."""
    gap, quality = np.array([1.0, 2.0, 11.0, 12.0]), np.array([11.0, 12.0, 1.0, 2.0])
    arm = np.array([0, 0, 1, 1])

    assert tau(gap, quality, arm[:, None] == arm) == 1.0
    assert tau(gap, quality, np.ones((4, 4), bool)) < 0


def test_nothing_to_compare_gives_nothing() -> None:
    assert tau(np.array([1.0, 1.0]), np.array([1.0, 2.0]), np.ones((2, 2), bool)) is None
