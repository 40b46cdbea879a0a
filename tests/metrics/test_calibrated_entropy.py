"""Entropies over galleries of one size compare however large the evaluation was."""

import numpy as np
import pytest
from clouds import matched_rows, random_rows

from gapctl.metrics.entropy import calibrated_entropy, mean_entropy_nats

ALL = 10_000


def test_a_gallery_of_that_size_has_its_own_entropy() -> None:
    image_ND, text_ND = matched_rows(100, 8)

    found = calibrated_entropy(image_ND, text_ND, 14.0, 100, ALL)
    assert found.value == pytest.approx(mean_entropy_nats(image_ND, text_ND, 14.0))
    assert found.low == found.value == found.high


def test_a_larger_evaluation_changes_the_plain_entropy_and_not_the_calibrated_one() -> None:
    small, large = matched_rows(200, 16, seed=1), matched_rows(2000, 16, seed=2)

    plain = [mean_entropy_nats(*pairs, 14.0) for pairs in (small, large)]
    calibrated = [calibrated_entropy(*pairs, 14.0, 100, ALL).value for pairs in (small, large)]
    assert plain[1] - plain[0] > 1.5
    assert calibrated[1] == pytest.approx(calibrated[0], abs=0.1)


def test_constant_logits_have_the_entropy_of_the_fixed_size() -> None:
    text_ND = np.repeat(random_rows(1, 4), 250, axis=0)
    found = calibrated_entropy(random_rows(250, 4), text_ND, 5.0, 100, ALL)

    assert found.value == pytest.approx(np.log(100))
    assert (found.sample, found.population) == (200, 250)


def test_fewer_galleries_give_an_interval_around_the_value_of_all() -> None:
    image_ND, text_ND = matched_rows(1000, 8)
    part, whole = (calibrated_entropy(image_ND, text_ND, 14.0, 100, galleries) for galleries in (2, ALL))

    assert (part.sample, whole.sample) == (200, 1000)
    assert part.low < whole.value < part.high


def test_too_few_pairs_for_a_gallery_are_refused() -> None:
    with pytest.raises(ValueError, match="99 pairs do not make a gallery of 100"):
        calibrated_entropy(random_rows(99, 4), random_rows(99, 4), 1.0, 100, ALL)
