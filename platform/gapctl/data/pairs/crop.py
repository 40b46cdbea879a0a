"""Crops as torchvision's RandomResizedCrop draws them, for many samples at once.

Index letters: N samples, T tries.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.draws import Purpose
from gapctl.data.sample_draws import sample_generator

RATIOS: Final = (3 / 4, 4 / 3)
TRIES: Final = 10
_LOG_LOW, _LOG_HIGH = math.log(RATIOS[0]), math.log(RATIOS[1])


class Box(NamedTuple):
    """A part of a picture in pixels; `right` and `bottom` are the first beyond it."""

    left: int
    top: int
    right: int
    bottom: int


def crop_boxes(
    size_N2: NDArray[np.int32], scale: tuple[float, float], seed: int, epoch: int, sample_N: NDArray[np.int64]
) -> list[Box]:
    """A box for each picture of this width and height: a pure function of (sample, seed, epoch).

    The area is uniform in `scale` (shares of the picture's), the ratio of width to height log-uniform from 3/4 to 4/3,
    the place uniform. After ten tries that do not fit, it is the middle of the picture, cut to the nearest ratio.
    """
    numbers = 2 * TRIES + 2
    draw_ND = np.stack(
        [sample_generator(Purpose.CROP, seed, epoch, int(sample)).random(numbers) for sample in sample_N]
    )
    area_N1 = size_N2.prod(axis=1, dtype=np.float64)[:, None]
    area_NT = area_N1 * (scale[0] + (scale[1] - scale[0]) * draw_ND[:, :TRIES])
    ratio_NT = np.exp(_LOG_LOW + (_LOG_HIGH - _LOG_LOW) * draw_ND[:, TRIES : 2 * TRIES])
    side_NT2 = np.rint(np.sqrt(np.stack([area_NT * ratio_NT, area_NT / ratio_NT], axis=2))).astype(np.int64)
    fits_NT = ((side_NT2 > 0) & (side_NT2 <= size_N2[:, None])).all(axis=2)
    every_N = np.arange(len(size_N2))
    side_N2 = np.where(fits_NT.any(axis=1)[:, None], side_NT2[every_N, fits_NT.argmax(axis=1)], _nearest_ratio(size_N2))
    free_N2 = size_N2 - side_N2
    corner_N2 = np.where(
        fits_NT.any(axis=1)[:, None], (draw_ND[:, 2 * TRIES :] * (free_N2 + 1)).astype(np.int64), free_N2 // 2
    )
    return [Box(*corner, *end) for corner, end in zip(corner_N2.tolist(), (corner_N2 + side_N2).tolist(), strict=True)]


def _nearest_ratio(size_N2: NDArray[np.int32]) -> NDArray[np.int64]:
    width_N, height_N = size_N2.T.astype(np.float64)
    wide_N = np.minimum(width_N, np.rint(height_N * RATIOS[1]))
    high_N = np.minimum(height_N, np.rint(width_N / RATIOS[0]))
    side_N2: NDArray[np.int64] = np.maximum(1, np.stack([wide_N, high_N], axis=1)).astype(np.int64)
    return side_N2
