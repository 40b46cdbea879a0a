"""Colours, the contact sheet and the information table."""

from pathlib import Path

import numpy as np
import pytest

from gapctl.config.trial import MadData
from gapctl.data.mad.contact_sheet import draw_contact_sheet
from gapctl.data.mad.factors import COLOURS
from gapctl.data.mad.images import compose_coloured_images

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
    picture = compose_coloured_images(images, zero, zero + 3, zero + COLOURS.index(colour))
    assert picture.shape == (1, 3, 28, 28)
    assert picture.dtype == np.uint8
    assert tuple(picture[0, :, 5, 6]) == LOOKS[colour]
    picture[0, :, 5, 6] = 0
    assert not picture.any()


def test_each_image_of_a_batch_gets_its_own_digit_variant_and_colour() -> None:
    images = np.arange(2 * 24, dtype=np.uint8).reshape(2, 24, 1, 1) + np.zeros((28, 28), np.uint8)
    picture = compose_coloured_images(images, np.array([1, 0]), np.array([2, 23]), np.array([0, 1]))
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
