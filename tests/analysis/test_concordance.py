"""Agreeing less disagreeing pairs by sorting, against counting every pair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gapctl.analysis.correlation import compute_kendall_taus, count_agreement, count_tied_pairs, rank_within_strata
from gapctl.analysis.estimates import IntArray
from gapctl.config.arms import ArmGrid


def counted(first_A: IntArray, second_A: IntArray) -> int:
    first, second = (np.sign(np.subtract.outer(rank_A, rank_A)) for rank_A in (first_A, second_A))
    return int((first * second).sum()) // 2


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**32 - 1), st.booleans())
def test_sorting_counts_what_comparing_every_pair_counts(count: int, different: int, seed: int, one: bool) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, different, (1 if one else 3, count)), rng.integers(0, count, (3, count))
    found = count_agreement(first, second)

    assert found.tolist() == [counted(row, other) for row, other in zip(np.tile(first, (3, 1)), second, strict=False)]
    assert count_tied_pairs(second).tolist() == [
        sum(np.sum(row[:place] == row[place]) for place in range(count)) for row in second
    ]


@pytest.mark.parametrize("count", [150, 1000])
def test_tau_of_many_arms_is_scipys(count: int) -> None:
    x, y = np.random.default_rng(1).integers(0, count, (2, 4, count)).astype(float)
    every = [range(count)]

    expected = [stats.kendalltau(*rows).statistic for rows in zip(x, y, strict=True)]
    assert compute_kendall_taus(rank_within_strata(x, every), rank_within_strata(y, every), every) == pytest.approx(
        expected
    )


def test_arms_of_other_strata_are_not_compared() -> None:
    """Within both levels of the given factor y rises with x; the levels themselves go the other way."""
    grid = ArmGrid((2, 3), (True, False))
    x, y = np.array([[0.0, 1, 2, 10, 11, 12]]), np.array([[10.0, 11, 12, 0, 1, 2]])

    assert compute_kendall_taus(
        rank_within_strata(x, grid.strata), rank_within_strata(y, grid.strata), grid.strata
    ) == [1.0]
    assert compute_kendall_taus(rank_within_strata(x, [range(6)]), rank_within_strata(y, [range(6)]), [range(6)]) == [
        -0.2
    ]
