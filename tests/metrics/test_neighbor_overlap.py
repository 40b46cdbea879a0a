"""Neighbours of both modalities: the definition pair by pair, chance, and captions that are the same."""

import numpy as np
import pytest
from clouds import Rows, matched_rows, random_rows
from hypothesis import given
from hypothesis import strategies as st

from gapctl.metrics.geometry import compute_chance_overlap, neighbor_overlap

ALL = 10_000


def nearest(cloud_ND: Rows, row: int, neighbors: int) -> set[int]:
    others = [other for other in range(len(cloud_ND)) if other != row]
    return set(sorted(others, key=lambda other: -float(cloud_ND[row] @ cloud_ND[other]))[:neighbors])


@given(st.integers(4, 25), st.integers(1, 3), st.integers(0, 2**32))
def test_the_overlap_equals_its_definition_pair_by_pair(count: int, neighbors: int, seed: int) -> None:
    image_ND, text_ND = matched_rows(count, 6, seed)
    both = [nearest(image_ND, row, neighbors) & nearest(text_ND, row, neighbors) for row in range(count)]

    expected = np.mean([len(shared) for shared in both]) / neighbors
    assert neighbor_overlap(image_ND, text_ND, neighbors, ALL).value == pytest.approx(expected, abs=1e-3)


def test_equal_clouds_share_all_neighbors_and_unrelated_ones_what_chance_gives() -> None:
    image_ND, text_ND = random_rows(600, 16, 1), random_rows(600, 16, 2)

    assert neighbor_overlap(image_ND, image_ND, 10, ALL).value == pytest.approx(1)
    assert neighbor_overlap(image_ND, text_ND, 10, ALL).value == pytest.approx(
        compute_chance_overlap(600, 10), abs=0.003
    )


def test_where_captions_are_equal_the_overlap_is_the_mean_over_their_choices() -> None:
    image_ND = random_rows(41, 8)
    text_ND = np.repeat(random_rows(1, 8), 41, axis=0)

    assert neighbor_overlap(image_ND, text_ND, 10, ALL).value == pytest.approx(10 / 40)


def test_an_even_shift_of_one_modality_changes_neighbors_little_and_order_nothing() -> None:
    image_ND, text_ND = matched_rows(300, 12)
    order_N = np.random.Generator(np.random.Philox(1)).permutation(300)

    found = neighbor_overlap(image_ND, text_ND, 10, ALL).value
    assert neighbor_overlap(image_ND[order_N], text_ND[order_N], 10, ALL).value == pytest.approx(found)
    assert found > 5 * compute_chance_overlap(300, 10)


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="10 pairs do not have 10 neighbors each"):
        neighbor_overlap(random_rows(10, 4), random_rows(10, 4), 10, ALL)
