"""The probe finds a line where there is one, finds none where there is none, and is the minimum it claims to be."""

import numpy as np
import pytest
from clouds import matched_rows, random_rows
from scipy.optimize import minimize

from gapctl.metrics import separability
from gapctl.metrics.separability import linear_separability

ALL = 10_000


def test_clouds_with_a_gap_are_told_apart_and_clouds_without_are_not() -> None:
    apart, alike = matched_rows(400, 16, gap=1.0), matched_rows(4000, 16)

    assert linear_separability(*apart, ALL).value == 1
    assert linear_separability(*alike, ALL).value == pytest.approx(0.5, abs=0.03)


def test_a_slight_gap_is_seen_in_part() -> None:
    image_ND, text_ND = matched_rows(1000, 32, gap=0.05, noise=0.1)

    assert 0.55 < linear_separability(image_ND, text_ND, ALL).value < 0.95


def test_what_judges_was_not_trained_on() -> None:
    image_ND, text_ND = (
        random_rows(60, 200, 1),
        random_rows(60, 200, 2),
    )  # any labelling of 120 rows in 200 dimensions fits

    assert linear_separability(image_ND, text_ND, ALL).value < 0.75


def test_few_prompts_count_as_much_as_many_images() -> None:
    image_ND, text_ND = random_rows(2000, 12, 1), random_rows(40, 12, 2)

    assert linear_separability(image_ND, text_ND, ALL).value == pytest.approx(0.5, abs=0.25)


def test_the_fit_is_the_minimum_of_the_penalised_loss() -> None:
    image_ND, text_ND = matched_rows(100, 6, gap=0.1)
    rows = separability._labelled(*(np.column_stack([cloud, np.ones(100)]) for cloud in (image_ND, text_ND)))
    found = separability._fitted(rows)

    best = minimize(lambda weight: separability._loss(rows, weight), np.zeros(7), method="BFGS", tol=1e-10)
    assert found == pytest.approx(best.x, abs=1e-4)
    assert separability._loss(rows, found) <= best.fun + 1e-9


def test_more_rows_than_asked_for_are_sampled_and_said() -> None:
    image_ND, text_ND = matched_rows(300, 8)
    found = linear_separability(image_ND, text_ND, 100)

    assert (found.sample, found.population) == (100, 600)
    assert found.low < found.value < found.high
