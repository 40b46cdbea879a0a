"""Uniformity equals its definition over all pairs, and says how far a sample of rows can be trusted."""

import numpy as np
import pytest
from clouds import Rows, matched_rows, random_rows
from hypothesis import given
from hypothesis import strategies as st

from gapctl.metrics.geometry import cross_uniformity, uniformity

ALL = 10_000


def kernel(one_D: Rows, other_D: Rows) -> float:
    return float(np.exp(-2 * np.square(one_D - other_D).sum()))


@given(st.integers(2, 30), st.integers(2, 8), st.integers(0, 2**32))
def test_uniformity_is_the_log_of_the_mean_over_pairs_of_different_rows(count: int, width: int, seed: int) -> None:
    cloud_ND = random_rows(count, width, seed)
    pairs = [kernel(cloud_ND[i], cloud_ND[j]) for i in range(count) for j in range(i)]

    assert uniformity(cloud_ND, ALL).value == pytest.approx(np.log(np.mean(pairs)), rel=1e-9)


@given(st.integers(2, 20), st.integers(0, 2**32))
def test_between_modalities_only_pairs_that_do_not_match_count(count: int, seed: int) -> None:
    image_ND, text_MD = random_rows(count, 5, seed), random_rows(2 * count, 5, seed + 1)
    text_to_image_M = np.arange(2 * count) % count
    pairs = [kernel(image_ND[i], text_MD[j]) for i in range(count) for j in range(2 * count) if text_to_image_M[j] != i]

    found = cross_uniformity(image_ND, np.arange(count), text_MD, text_to_image_M, ALL)
    assert found.value == pytest.approx(np.log(np.mean(pairs)), rel=1e-9)
    assert found.low == found.value == found.high


def test_a_cloud_in_one_point_is_not_uniform_and_an_even_one_nears_its_bound() -> None:
    wide_ND = random_rows(400, 512)

    assert uniformity(np.repeat(wide_ND[:1], 50, axis=0), ALL).value == pytest.approx(0, abs=1e-12)
    assert uniformity(wide_ND, ALL).value == pytest.approx(-4, abs=0.05)


def test_the_interval_of_a_sample_holds_the_value_over_all_rows_about_as_often_as_it_says() -> None:
    held = []
    for seed in range(40):
        cloud_ND, _ = matched_rows(300, 6, seed, gap=0.5)
        whole, part = uniformity(cloud_ND, ALL), uniformity(cloud_ND, 60)
        held.append(part.low <= whole.value <= part.high)
        assert (part.sample, part.population, part.whole) == (60, 300, False)

    assert 34 <= sum(held) <= 40
    assert uniformity(cloud_ND, 300).whole


def test_no_pair_that_does_not_match_has_no_uniformity() -> None:
    one_ND = random_rows(3, 4)

    assert np.isnan(cross_uniformity(one_ND, np.zeros(3, int), one_ND, np.zeros(3, int), ALL).value)
