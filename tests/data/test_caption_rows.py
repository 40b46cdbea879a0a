"""Each caption that a training or its prompts can show has one row, by the values that it names."""

import math
from itertools import combinations

import numpy as np
import pytest

from gapctl.config.trial import FACTOR_VALUES, FactorName, MadCaptions, MadData
from gapctl.data.mad.captions import build_prompt_tokens
from gapctl.data.mad.factors import FACTORS
from gapctl.data.mad.rows import IMAGE_ROWS, compute_likelihood_ratios, number_captions, number_images
from gapctl.data.mad.sampler import MadSampler

DIGITS_N = np.arange(50) % 10


def data(attributes: int, main: FactorName = "digit", noise: float = 0.0) -> MadData:
    return MadData(main_factor=main, captions=MadCaptions(attributes=attributes, noise=noise))


@pytest.mark.parametrize("main", ["digit", "swelling", "colour"])
@pytest.mark.parametrize("attributes", range(6))
def test_there_is_a_row_for_each_caption_that_differs_in_what_it_names(main: FactorName, attributes: int) -> None:
    others = [size for factor, size in FACTOR_VALUES.items() if factor != main]

    expected = FACTOR_VALUES[main] * sum(math.prod(named) for named in combinations(others, attributes))
    assert number_captions(data(attributes, main)).trained == expected


def test_fixed_captions_have_a_row_for_each_of_their_values_and_synonyms_none_of_their_own() -> None:
    fixed = MadData(captions=MadCaptions(attributes=2, fixed=("thickness", "scale")))
    worded = MadData(captions=MadCaptions(attributes=2, synonyms=4))

    for about, expected in ((fixed, 10 * 3 * 2), (worded, number_captions(data(2)).trained)):
        rows = number_captions(about)
        drawn = rows.find(MadSampler(0, DIGITS_N, about).samples(np.arange(3_000)).tokens_BL)
        assert rows.trained == expected
        assert set(drawn.tolist()) <= set(range(expected))


def test_a_table_has_at_most_3_320_captions_of_digits() -> None:
    assert [number_captions(data(attributes)).trained for attributes in range(6)] == [10, 160, 930, 2540, 3320, 1680]


@pytest.mark.parametrize("noise", [0.0, 0.7])
@pytest.mark.parametrize("attributes", range(6))
def test_every_drawn_caption_has_a_row_that_it_shares_with_those_of_its_values_alone(
    attributes: int, noise: float
) -> None:
    about = data(attributes, noise=noise)
    samples = MadSampler(0, DIGITS_N, about).samples(np.arange(3_000))
    rows = number_captions(about)

    row_B = rows.find(samples.tokens_BL)

    assert int(row_B.max()) < rows.trained
    named = [tuple(sorted(row)) for row in samples.tokens_BL.tolist()]
    assert len(set(zip(named, row_B.tolist(), strict=True))) == len(set(named)) == len(set(row_B.tolist()))


@pytest.mark.parametrize("attributes", [0, 1, 5])
def test_every_prompt_has_a_row_and_those_that_no_training_shows_come_last(attributes: int) -> None:
    about = data(attributes)
    rows = number_captions(about)

    found = {
        factor: rows.find(build_prompt_tokens(factor, about, 32, 2404_07983).reshape(-1, 8)) for factor in FACTOR_VALUES
    }

    assert all(int(row_B.max()) < rows.number for row_B in found.values())
    assert (found["colour"] >= rows.trained).all() == (attributes == 0)
    assert (found["digit"] < rows.trained).all()


def test_a_caption_of_another_length_has_no_row() -> None:
    tokens_BL = MadSampler(0, DIGITS_N, data(3)).samples(np.arange(5)).tokens_BL

    with pytest.raises(ValueError, match="none of those that the training and its prompts can show"):
        number_captions(data(2)).find(tokens_BL)


def test_images_are_numbered_by_their_labels_one_to_one() -> None:
    sizes = [len(factor.values) for factor in FACTORS]
    labels_N6 = np.stack(np.unravel_index(np.random.default_rng(0).permutation(IMAGE_ROWS), sizes), axis=1)

    assert sorted(number_images(labels_N6).tolist()) == list(range(1_680))


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("attributes", [0, 2])
def test_likelihood_ratios_are_those_of_the_samples_that_training_draws(attributes: int, noise: float) -> None:
    uneven_N = np.repeat(np.arange(10), np.arange(5, 15))
    about = data(attributes, noise=noise)
    samples = MadSampler(0, uneven_N, about).samples(np.arange(400_000))
    image_B, row_B = number_images(samples.labels_B6), number_captions(about).find(samples.tokens_BL)
    ratio_RN = compute_likelihood_ratios(about, uneven_N)

    # The mean of the ratio over images is 1 for each caption, and over matched pairs it is that of its square.
    share_R = np.bincount(image_B, minlength=IMAGE_ROWS) / len(image_B)
    share_N = np.bincount(row_B, minlength=ratio_RN.shape[1]) / len(row_B)
    trained_N = share_R @ ratio_RN[:, : number_captions(about).trained]
    np.testing.assert_allclose(trained_N, 1.0, rtol=0.12)
    expected = float(share_R @ np.square(ratio_RN) @ share_N)
    assert float(ratio_RN[image_B, row_B].mean()) == pytest.approx(expected, rel=0.02)
