"""Measures that tell a gap of the means from pairs that cannot match, and biases of factors with unlike many values."""

import math

import numpy as np
import pytest
from clouds import matched_rows, random_rows
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gapctl.metrics.bias import BiasSums
from gapctl.metrics.embedding_set import Embeddings, normalise_rows
from gapctl.metrics.gap import GapSums
from gapctl.metrics.suite import measure_embeddings

Array = NDArray[np.float64]


def mean_quarter_distance(one_ND: Array, other_ND: Array) -> float:
    return float(np.square(one_ND - other_ND).sum(axis=1).mean() / 4)


def mean_within(cloud_ND: Array) -> float:
    first, second = np.triu_indices(len(cloud_ND), k=1)
    return mean_quarter_distance(cloud_ND[first], cloud_ND[second])


def shifted_by_hand(image_ND: Array, text_MD: Array, owner_M: NDArray[np.int64]) -> float:
    """RMG of rows of which the texts were moved so that both means coincide."""
    moved_MD = text_MD + image_ND.mean(axis=0) - text_MD.mean(axis=0)
    matched = mean_quarter_distance(image_ND[owner_M], moved_MD)
    within = (mean_within(image_ND) + mean_within(moved_MD)) / 2
    return matched / (matched + within)


@given(st.integers(3, 30), st.integers(2, 8), st.integers(0, 2**32), st.floats(0, 3))
def test_rmg_shifted_is_rmg_of_rows_that_were_moved(count: int, width: int, seed: int, gap: float) -> None:
    image_ND, text_ND = matched_rows(count, width, seed, gap=gap)
    sums = GapSums.of(image_ND, text_ND)

    assert sums.rmg_shifted() == pytest.approx(shifted_by_hand(image_ND, text_ND, np.arange(count)), rel=1e-9)
    assert sums.rmg_shifted() <= sums.rmg() + 1e-12


@pytest.mark.parametrize("more", [10, 3])
def test_it_is_so_where_images_have_unlike_many_texts(more: int) -> None:
    image_ND, first_ND = matched_rows(10, 5, 2, gap=0.5)
    text_MD = np.concatenate([first_ND, random_rows(more, 5, 9)])
    owner_M = np.concatenate([np.arange(10), np.arange(more)])
    found = measure_embeddings(Embeddings(image_ND, text_MD, text_to_image_M=owner_M))["gap/rmg_shifted"]

    assert found == pytest.approx(shifted_by_hand(image_ND, text_MD, owner_M), rel=1e-9)


def test_it_is_so_for_class_prompts() -> None:
    label_N, prompt_CD = np.array([0, 0, 0, 1, 2, 2]), random_rows(3, 4, 5)
    image_ND = normalise_rows(prompt_CD[label_N] + random_rows(6, 4, 6))
    found = measure_embeddings(Embeddings(image_ND, prompt_CD, prompt_of_N=label_N))["gap/rmg_shifted"]
    shift_D = image_ND.mean(axis=0) - prompt_CD.mean(axis=0)
    matched = mean_quarter_distance(image_ND, prompt_CD[label_N] + shift_D)

    assert found == pytest.approx(matched / (matched + (mean_within(image_ND) + mean_within(prompt_CD)) / 2), rel=1e-9)


def test_a_gap_of_the_means_alone_leaves_nothing_and_pairs_that_cannot_match_leave_half() -> None:
    rows_ND = np.concatenate([random_rows(3_000, 16), np.zeros((3_000, 1))], axis=1)
    offset_D = np.eye(17)[16]
    apart = GapSums.of(normalise_rows(rows_ND + 2 * offset_D), normalise_rows(rows_ND - 2 * offset_D))
    unmatched = GapSums.of(random_rows(3_000, 16, 1), random_rows(3_000, 16, 2))

    assert apart.rmg() > 0.85
    assert apart.rmg_shifted() < 0.02
    assert unmatched.rmg_shifted() == pytest.approx(0.5, abs=0.01)


def simplex(values: int) -> Array:
    """Unit rows as far apart as so many can be, one for each value."""
    return normalise_rows(np.eye(values) - 1 / values)


@pytest.mark.parametrize(("objects", "attributes"), [(10, 2), (2, 7), (3, 3)])
def test_objects_that_are_all_that_counts_have_a_normalised_bias_of_one_however_many(
    objects: int, attributes: int
) -> None:
    object_N, attribute_N = (grid.ravel() for grid in np.indices((objects, attributes * 400)))
    rows_ND = simplex(objects)[object_N]
    sums = BiasSums.of(rows_ND, object_N, attribute_N[:, None] % attributes)

    assert sums.by_object.separation() == pytest.approx(1, abs=1e-9)
    assert sums.moad_normalised() == pytest.approx(1, abs=0.01)
    assert sums.moad().value == pytest.approx(objects / (objects - 1), abs=0.01)


def test_biases_of_factors_of_unlike_size_cancel_where_each_is_as_separate_as_it_can_be() -> None:
    object_N, attribute_N, copy_N = (grid.ravel() for grid in np.indices((10, 2, 500)))
    rows_ND = normalise_rows(np.concatenate([simplex(10)[object_N], simplex(2)[attribute_N]], axis=1))
    sums = BiasSums.of(rows_ND, object_N, attribute_N[:, None])

    assert len(copy_N) == len(rows_ND)
    assert sums.moad_normalised() == pytest.approx(0, abs=1e-3)
    assert sums.moad().value < -0.4


def test_a_single_label_leaves_it_undefined() -> None:
    sums = BiasSums.of(random_rows(9, 4), np.zeros(9, np.int64), np.arange(9)[:, None] % 3)

    assert np.isnan(sums.moad_normalised())


@given(st.integers(0, 2**32), st.floats(0.01, 3))
def test_an_offset_spreads_cosines_as_a_temperature_raised_by_its_gain_does(seed: int, height: float) -> None:
    rows_ND = np.concatenate([random_rows(40, 6, seed % 1000), np.zeros((40, 1))], axis=1)
    rows_ND = np.concatenate([rows_ND, -rows_ND])  # of mean 0
    other_ND = rows_ND[np.random.default_rng(seed).permutation(80)]
    offset_D = height * np.eye(7)[6]
    image_ND, text_ND = normalise_rows(rows_ND + offset_D), normalise_rows(other_ND - offset_D)
    sums = GapSums.of(image_ND, text_ND)
    spread, before = (one.std() for one in (image_ND @ text_ND.T, rows_ND @ other_ND.T))

    assert sums.temperature_gain() == pytest.approx(math.log(before / spread), rel=1e-6, abs=1e-9)
    assert sums.temperature_gain() == pytest.approx(-math.log(1 - (sums.l2m() / 2) ** 2), rel=1e-9, abs=1e-12)
