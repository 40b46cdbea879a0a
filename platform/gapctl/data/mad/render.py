"""Colours on grey digits, as MAD's loader puts them (arXiv 2404.07983, appendix on MAD).

Index letters: N digits, V variants, B images, C the channels red, green and blue, H rows, W columns.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.factors import COLOURS
from gapctl.data.mad.images import Images

# Per channel: what stays of the stroke's grey level, and what every stroke pixel is filled with.
_KEEP: Final = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
_FILL: Final = {"cyan": (0, 255, 255), "magenta": (255, 0, 255), "yellow": (255, 255, 0)}


def _masks(table: dict[str, tuple[int, int, int]], default: int) -> NDArray[np.uint8]:
    return np.array([table.get(colour, (default,) * 3) for colour in COLOURS], dtype=np.uint8)


KEEP_7C: Final = _masks(_KEEP, default=255)
FILL_7C: Final = _masks(_FILL, default=0)


def render(
    images_NVHW: Images,
    digit_B: NDArray[np.int64],
    variant_B: NDArray[np.int64],
    colour_B: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Return uint8 (B, 3, 28, 28): the chosen variants in the chosen colours, on black.

    On pixels above 0, red, green and blue keep one channel of the grey level; cyan, magenta and yellow set
    two channels to 255 and keep the third.
    """
    grey: NDArray[np.uint8] = images_NVHW[digit_B, variant_B].reshape(len(digit_B), 1, -1)
    stroke = np.where(grey > 0, np.uint8(255), np.uint8(0))
    keep, fill = KEEP_7C[colour_B][:, :, None], FILL_7C[colour_B][:, :, None]
    return ((grey & keep) | (stroke & fill)).reshape(len(digit_B), 3, *images_NVHW.shape[2:])
