"""Pictures show what a caption says and nothing else of the image that it describes."""

import numpy as np
import pytest

from gapctl.config.trial import MadData
from gapctl.data.mad.factors import FACTOR_NAMES, FACTORS, compute_factor_labels
from gapctl.data.mad.sampler import (
    UNSPECIFIED,
    CaptionImageSampler,
    ImageIndices,
    MadSampler,
    MadSamples,
    parse_captions,
    sample_images_of_captions,
)
from gapctl.errors import InputError

DIGITS = np.random.default_rng(0).integers(0, 10, 500)
MANY = np.arange(4_000)


def drawn(attributes: int, main: str = "digit", seed: int = 0) -> tuple[MadSamples, ImageIndices]:
    about = MadData.model_validate({"main_factor": main, "captions": {"attributes": attributes}})
    samples = MadSampler(seed, DIGITS, about).samples(MANY)
    return samples, CaptionImageSampler(DIGITS).sample_training_images(seed, MANY, samples.tokens_BL)


def labels(pictures: ImageIndices) -> np.ndarray:
    return compute_factor_labels(DIGITS[pictures.digit_B], pictures.variant_B, pictures.colour_B)


@pytest.mark.parametrize("main", ["digit", "colour"])
@pytest.mark.parametrize("attributes", [0, 2, 5])
def test_a_picture_shows_all_that_its_caption_says(main: str, attributes: int) -> None:
    samples, pictures = drawn(attributes, main)
    said_B6, shown_B6 = parse_captions(samples.tokens_BL), labels(pictures)

    assert ((said_B6 != UNSPECIFIED).sum(axis=1) == attributes + 1).all()
    assert np.array_equal(said_B6[said_B6 != UNSPECIFIED], samples.labels_B6[said_B6 != UNSPECIFIED])
    assert np.array_equal(shown_B6[said_B6 != UNSPECIFIED], said_B6[said_B6 != UNSPECIFIED])


@pytest.mark.parametrize("factor", range(1, 6))
def test_what_is_not_said_is_had_by_chance(factor: int) -> None:
    samples, pictures = drawn(0)
    size = len(FACTORS[factor].values)
    agree = labels(pictures)[:, factor] == samples.labels_B6[:, factor]

    assert agree.mean() == pytest.approx(1 / size, abs=4 * 0.5 / np.sqrt(len(MANY)))
    shares = np.bincount(labels(pictures)[:, factor], minlength=size) / len(MANY)
    assert shares == pytest.approx(np.full(size, 1 / size), abs=0.04)


def test_the_digit_is_another_hands_and_anyones_where_it_is_not_said() -> None:
    _, pictures = drawn(5)
    samples, anyones = drawn(0, "colour")
    same_hand = pictures.digit_B == drawn(5)[0].digit_B

    assert same_hand.mean() < 0.05
    assert len(np.unique(pictures.digit_B)) > 450
    assert (DIGITS[anyones.digit_B] == samples.labels_B6[:, 0]).mean() == pytest.approx(0.1, abs=0.03)


def test_pictures_are_functions_of_seed_and_position() -> None:
    samples, pictures = drawn(2)
    some = np.array([3_999, 7, 501])
    again = CaptionImageSampler(DIGITS).sample_training_images(0, some, samples.tokens_BL[some])

    assert all(np.array_equal(column[some], other) for column, other in zip(pictures, again, strict=True))
    assert not np.array_equal(drawn(2, seed=1)[1].digit_B, pictures.digit_B)
    assert not np.array_equal(pictures.colour_B[:500], pictures.colour_B[500:1_000])


def test_a_gallerys_pictures_are_the_same_for_every_trial() -> None:
    tokens_BL = drawn(1)[0].tokens_BL[:50]
    first, second = (sample_images_of_captions(DIGITS, tokens_BL, 7) for _ in "ab")

    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_a_digit_that_a_split_lacks_is_named() -> None:
    tokens_BL = drawn(0)[0].tokens_BL

    with pytest.raises(InputError, match=r"no digit 3 to draw pictures of; expected .* sides: image_text"):
        CaptionImageSampler(DIGITS[DIGITS != 3]).pictures(tokens_BL, np.zeros((len(tokens_BL), len(FACTOR_NAMES))))
