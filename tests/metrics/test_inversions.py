"""Inversions of many permutations at once are those that comparing all pairs would count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapctl.metrics.geometry import count_inversions


@given(st.integers(1, 300), st.integers(1, 6), st.integers(0, 2**32))
def test_inversions_equal_a_count_over_all_pairs(length: int, rows: int, seed: int) -> None:
    rng = np.random.Generator(np.random.Philox(seed))
    permutation_KL = np.stack([rng.permutation(length) for _ in range(rows)])
    pairs = permutation_KL[:, :, None] > permutation_KL[:, None, :]

    assert count_inversions(permutation_KL) == np.triu(pairs, k=1).sum()


@pytest.mark.parametrize("length", [2, 127, 128, 129, 1000])
def test_order_has_none_and_its_reverse_all(length: int) -> None:
    order_L = np.arange(length)

    assert count_inversions(order_L[None]) == 0
    assert count_inversions(order_L[None, ::-1]) == length * (length - 1) // 2


def test_many_long_rows_are_counted_in_pieces() -> None:
    permutation_KL = np.broadcast_to(np.arange(2000)[::-1], (300, 2000))

    assert count_inversions(permutation_KL) == 300 * 2000 * 1999 // 2
