"""The flip rate is what Gaussian noise must do to a prediction, and none without noise."""

import math

import numpy as np
import pytest
from clouds import random_rows

from gapctl.metrics.classification import AccuracyCount, flip_rate, zero_shot_accuracy
from gapctl.metrics.embedding_set import normalise_rows

ALL = 100_000


def test_without_noise_no_prediction_changes_and_more_noise_changes_more() -> None:
    image_ND, class_CD = random_rows(500, 16, 1), random_rows(5, 16, 2)
    rates = [flip_rate(image_ND, class_CD, ALL, noise).value for noise in (0.0, 0.1, 0.3, 1.0)]

    assert rates[0] == 0
    assert rates == sorted(rates)
    assert rates[3] > 0.2


def test_two_classes_flip_as_often_as_the_normal_distribution_says() -> None:
    width, margin, noise = 8, 0.05, 0.4
    class_CD = np.eye(width)[:2]
    image_ND = normalise_rows(np.tile(np.eye(width)[2] + margin * (np.eye(width)[0]), (20_000, 1)))
    deviation = noise / math.sqrt(width) * math.sqrt(2)  # of the difference of two coordinates
    expected = 0.5 * math.erfc(margin / deviation / math.sqrt(2))

    assert flip_rate(image_ND, class_CD, ALL, noise).value == pytest.approx(expected, abs=0.01)


def test_a_sample_of_images_says_so() -> None:
    image_ND, class_CD = random_rows(1000, 16, 1), random_rows(5, 16, 2)
    part, whole = flip_rate(image_ND, class_CD, 300, 0.3), flip_rate(image_ND, class_CD, ALL, 0.3)

    assert (part.sample, part.population) == (300, 1000)
    assert part.low < whole.value < part.high


def test_counts_of_parts_add_up_to_the_accuracy_of_the_whole() -> None:
    image_ND, class_CD = random_rows(90, 6, 1), random_rows(4, 6, 2)
    label_N = np.arange(90) % 4
    parts = [AccuracyCount.of(image_ND[rows], label_N[rows], class_CD) for rows in (slice(50), slice(50, 90))]

    assert (parts[1] + parts[0]).percent() == zero_shot_accuracy(image_ND, label_N, class_CD)
    assert 0 < (parts[1] + parts[0]).percent() < 100
