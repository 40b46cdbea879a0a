"""The probe finds a line where there is one, finds none where there is none, and is the minimum it claims to be."""

import numpy as np
import pytest
from clouds import Rows, matched_rows, random_rows
from scipy.optimize import minimize

from gapctl.metrics import separability
from gapctl.metrics.embedding_set import normalise_rows
from gapctl.metrics.sampling import SampleEstimate
from gapctl.metrics.separability import linear_separability

ALL = 10_000


def of_pairs(image_ND: Rows, text_ND: Rows, most: int = ALL) -> SampleEstimate:
    """The measure where row i of the texts belongs to image i."""
    pair_N = np.arange(len(image_ND))
    return linear_separability(image_ND, pair_N, text_ND, pair_N, most)


def test_clouds_with_a_gap_are_told_apart_and_clouds_without_are_not() -> None:
    apart, alike = matched_rows(400, 16, gap=1.0), matched_rows(4000, 16)

    assert of_pairs(*apart).value == 1
    assert of_pairs(*alike).value == pytest.approx(0.5, abs=0.03)


def test_a_slight_gap_is_seen_in_part() -> None:
    image_ND, text_ND = matched_rows(1000, 32, gap=0.05, noise=0.1)

    assert 0.55 < of_pairs(image_ND, text_ND).value < 0.95


def test_what_judges_was_not_trained_on() -> None:
    image_ND, text_ND = (
        random_rows(60, 200, 1),
        random_rows(60, 200, 2),
    )  # any labelling of 120 rows in 200 dimensions fits

    assert of_pairs(image_ND, text_ND).value < 0.75


@pytest.mark.parametrize("captions", [1, 2, 5])
@pytest.mark.parametrize("seed", range(8))
def test_without_a_gap_any_number_of_captions_gives_an_interval_that_holds_one_half(captions: int, seed: int) -> None:
    image_N = np.arange(400)
    text_to_image_M = np.random.Generator(np.random.Philox(seed)).permutation(np.repeat(image_N, captions))
    shared_ND = random_rows(400, 16, seed)
    image_ND = normalise_rows(shared_ND + 0.5 * random_rows(400, 16, seed + 100))
    text_MD = normalise_rows(shared_ND[text_to_image_M] + 0.5 * random_rows(400 * captions, 16, seed + 200))

    found = linear_separability(image_ND, image_N, text_MD, text_to_image_M, ALL)

    assert found.low <= 0.5 <= found.high
    assert found.high - found.low < 0.12


@pytest.mark.parametrize("classes", [20, 100])
@pytest.mark.parametrize("seed", range(4))
def test_without_a_gap_class_prompts_give_an_interval_that_holds_one_half(classes: int, seed: int) -> None:
    prompt_CD = random_rows(classes, 32, seed)
    class_N = np.random.Generator(np.random.Philox(seed)).integers(0, classes, 2000)
    image_ND = normalise_rows(prompt_CD[class_N] + 0.5 * random_rows(2000, 32, seed + 100))

    found = linear_separability(image_ND, class_N, prompt_CD, np.arange(classes), ALL)

    assert found.low <= 0.5 <= found.high


@pytest.mark.parametrize("captions", [2, 5])
def test_a_gap_is_found_however_many_captions_an_image_has(captions: int) -> None:
    text_to_image_M = np.repeat(np.arange(200), captions)
    image_ND, text_ND = matched_rows(200, 16, gap=1.0)

    found = linear_separability(image_ND, np.arange(200), text_ND[text_to_image_M], text_to_image_M, ALL)

    assert found.value == 1


def test_one_caption_each_in_any_order_is_what_rows_in_order_are() -> None:
    image_ND, text_ND = matched_rows(300, 12, gap=0.05)
    shuffled_M = np.random.Generator(np.random.Philox(3)).permutation(300)

    found = linear_separability(image_ND, np.arange(300), text_ND[shuffled_M], shuffled_M, 100)

    assert found == of_pairs(image_ND, text_ND, 100)


def test_images_of_a_single_class_cannot_be_dealt_out_and_have_no_value() -> None:
    found = linear_separability(random_rows(50, 8, 1), np.zeros(50, int), random_rows(3, 8, 2), np.arange(3), ALL)

    assert np.isnan(found.value)


def test_the_fit_is_the_minimum_of_the_penalised_loss() -> None:
    image_ND, text_ND = matched_rows(100, 6, gap=0.1)
    rows = separability._label_modalities(*(np.column_stack([cloud, np.ones(100)]) for cloud in (image_ND, text_ND)))
    found = separability._fit_probe(rows)

    best = minimize(lambda weight: separability._compute_loss(rows, weight), np.zeros(7), method="BFGS", tol=1e-10)
    assert found == pytest.approx(best.x, abs=1e-4)
    assert separability._compute_loss(rows, found) <= best.fun + 1e-9


def test_more_rows_than_asked_for_are_sampled_and_said() -> None:
    image_ND, text_ND = matched_rows(300, 8)
    found = of_pairs(image_ND, text_ND, 100)

    assert (found.sample, found.population) == (100, 600)
    assert found.low < found.value < found.high
