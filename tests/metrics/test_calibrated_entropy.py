"""Entropies over galleries of one size compare however large the evaluation was."""

import numpy as np
import pytest
from clouds import matched_rows, random_rows

from gapctl.metrics.entropy import compute_mean_entropy, estimate_entropy_at_gallery_size

ALL = 10_000


def test_a_gallery_of_that_size_has_its_own_entropy() -> None:
    image_ND, text_ND = matched_rows(100, 8)

    found = estimate_entropy_at_gallery_size(image_ND, text_ND, 14.0, 100, ALL)
    assert found.value == pytest.approx(compute_mean_entropy(image_ND, text_ND, 14.0))
    assert found.low == found.value == found.high


def test_a_larger_evaluation_changes_the_plain_entropy_and_not_the_calibrated_one() -> None:
    small, large = matched_rows(200, 16, seed=1), matched_rows(2000, 16, seed=2)

    plain = [compute_mean_entropy(*pairs, 14.0) for pairs in (small, large)]
    calibrated = [estimate_entropy_at_gallery_size(*pairs, 14.0, 100, ALL).value for pairs in (small, large)]
    assert plain[1] - plain[0] > 1.5
    assert calibrated[1] == pytest.approx(calibrated[0], abs=0.1)


def test_constant_logits_have_the_entropy_of_the_fixed_size() -> None:
    text_ND = np.repeat(random_rows(1, 4), 250, axis=0)
    found = estimate_entropy_at_gallery_size(random_rows(250, 4), text_ND, 5.0, 100, ALL)

    assert found.value == pytest.approx(np.log(100))
    assert (found.sample, found.population) == (200, 250)


def test_fewer_galleries_give_an_interval_around_the_value_of_all() -> None:
    image_ND, text_ND = matched_rows(1000, 8)
    part, whole = (estimate_entropy_at_gallery_size(image_ND, text_ND, 14.0, 100, galleries) for galleries in (2, ALL))

    assert (part.sample, whole.sample) == (200, 1000)
    assert part.low < whole.value < part.high


def test_all_pairs_dealt_into_galleries_are_still_one_deal_of_many() -> None:
    image_ND, text_ND = matched_rows(1000, 8)
    every, single = (estimate_entropy_at_gallery_size(image_ND, text_ND, 14.0, size, ALL) for size in (100, 600))

    assert (every.sample, every.population, every.galleries, every.whole) == (1000, 1000, 10, False)
    assert every.low < every.value < every.high
    assert (single.galleries, single.whole) == (1, False)
    assert np.isnan(single.low)


@pytest.mark.parametrize("galleries", [3, 8])
def test_the_interval_holds_the_mean_over_all_galleries_as_often_as_it_says(galleries: int) -> None:
    """Pairs of few kinds, as captions are: with queries taken for independent, 8 galleries hold it in half the draws.

    Of 200 draws at 95 %, fewer than 181 come once in 200 times.
    """
    kinds = np.random.default_rng(3).integers(0, 20, 400)
    image_ND, text_ND = (cloud[kinds] for cloud in matched_rows(20, 6, noise=0.3))
    rng, held, values = np.random.default_rng(4), [], []
    for _ in range(200):
        rows = rng.permutation(400)
        found = estimate_entropy_at_gallery_size(image_ND[rows], text_ND[rows], 14.0, 50, galleries)
        held.append((found.low, found.high))
        values.append(found.value)

    assert sum(low <= np.mean(values) <= high for low, high in held) >= 181


def test_too_few_pairs_for_a_gallery_are_refused() -> None:
    with pytest.raises(ValueError, match="99 pairs do not make a gallery of 100"):
        estimate_entropy_at_gallery_size(random_rows(99, 4), random_rows(99, 4), 1.0, 100, ALL)
