"""Colours, the contact sheet and the information table."""

from pathlib import Path

import numpy as np
import pytest

from gapctl.config.trial import MadData
from gapctl.data.mad.captions import list_caption_information
from gapctl.data.mad.contact_sheet import draw_contact_sheet
from gapctl.data.mad.factors import COLOURS
from gapctl.data.mad.images import render_images

LOOKS = {
    "gray": (100, 100, 100),
    "red": (100, 0, 0),
    "green": (0, 100, 0),
    "blue": (0, 0, 100),
    "cyan": (100, 255, 255),
    "magenta": (255, 100, 255),
    "yellow": (255, 255, 100),
}


@pytest.mark.parametrize("colour", COLOURS)
def test_a_colour_changes_the_stroke_and_leaves_the_ground_black(colour: str) -> None:
    images = np.zeros((1, 24, 28, 28), np.uint8)
    images[0, 3, 5, 6] = 100
    zero = np.zeros(1, np.int64)
    picture = render_images(images, zero, zero + 3, zero + COLOURS.index(colour))
    assert picture.shape == (1, 3, 28, 28)
    assert picture.dtype == np.uint8
    assert tuple(picture[0, :, 5, 6]) == LOOKS[colour]
    picture[0, :, 5, 6] = 0
    assert not picture.any()


def test_each_image_of_a_batch_gets_its_own_digit_variant_and_colour() -> None:
    images = np.arange(2 * 24, dtype=np.uint8).reshape(2, 24, 1, 1) + np.zeros((28, 28), np.uint8)
    picture = render_images(images, np.array([1, 0]), np.array([2, 23]), np.array([0, 1]))
    assert picture[:, :, 0, 0].tolist() == [[26, 26, 26], [23, 0, 0]]


def test_a_contact_sheet_shows_every_sample_and_its_caption(tmp_path: Path) -> None:
    sheet = draw_contact_sheet("bundled", MadData(), columns=3, rows=2, seed=0)
    pixels = np.asarray(sheet)
    cell_height, cell_width = pixels.shape[0] // 2, pixels.shape[1] // 3
    for row in range(2):
        for column in range(3):
            cell = pixels[row * cell_height :, column * cell_width :][:cell_height, :cell_width]
            picture, caption = cell[12:152, 12:152], cell[155:]
            assert 0.02 < (picture.max(axis=2) > 100).mean() < 0.9
            assert (caption.max(axis=2) < 100).sum() > 100
    assert np.array_equal(pixels, np.asarray(draw_contact_sheet("bundled", MadData(), 3, 2, 0)))


# PAPER.md: shared and imbalance in bits, distinct captions, text-private bits of subset and order.
TABLE = [
    (0, 3.32, 7.39, 10, 0, 0),
    (1, 4.80, 5.91, 160, 2.32, 1.00),
    (2, 6.28, 4.44, 930, 3.32, 2.58),
    (3, 7.76, 2.96, 2540, 3.32, 4.58),
    (4, 9.24, 1.48, 3320, 2.32, 6.91),
    (5, 10.71, 0, 1680, 0, 9.49),
]


@pytest.mark.parametrize("expected", TABLE, ids=lambda row: f"k={row[0]}")
def test_information_is_what_the_paper_s_table_says(expected: tuple[float, ...]) -> None:
    assert tuple(list_caption_information()[int(expected[0])]) == pytest.approx(expected, abs=0.006)


def test_canonical_captions_hide_nothing_in_their_order() -> None:
    assert all(row.order == 0 for row in list_caption_information(order="canonical"))


@pytest.mark.parametrize("main", ["digit", "scale", "colour"])
def test_what_a_caption_tells_and_what_it_leaves_out_make_the_whole_image(main: str) -> None:
    for row in list_caption_information(main):
        assert row.shared + row.imbalance == pytest.approx(np.log2(10 * 3 * 2 * 2 * 2 * 7))
