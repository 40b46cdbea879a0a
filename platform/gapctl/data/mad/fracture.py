"""Fractures: cuts across the stroke, away from its tips and forks (Morpho-MNIST, arXiv 1809.10780, sec. 2.2).

Index letters: S points of the skeleton, P points that a cut may go through, C cuts, L pixels of the cuts'
lines.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.morphology import Stroke
from gapctl.data.mad.resample import UPSCALE
from gapctl.data.mad.skeleton import Mask

CUTS: Final = 3
_THICKNESS: Final = 1.5
_KEEP_AWAY: Final = 2 * UPSCALE
_ANGLE_WINDOW: Final = 2 * UPSCALE
_EXTENSION: Final = 0.5 * UPSCALE
_BRUSH_RADIUS: Final = int(np.ceil((_THICKNESS * UPSCALE - 1) / 2))
# The official generator draws its cuts on a padded image without moving them by the padding: they lie this
# far up and to the left of the skeleton point, and MAD's published images have them there.
_SHIFT: Final = -_BRUSH_RADIUS


def _disk(radius: int) -> NDArray[np.int64]:
    offsets = np.argwhere(np.ones((2 * radius + 1, 2 * radius + 1))) - radius
    inside: NDArray[np.int64] = offsets[(offsets**2).sum(axis=1) <= radius**2]
    return inside


_BRUSH: Final = _disk(_BRUSH_RADIUS)


def fracture(stroke: Stroke, places_P: NDArray[np.int64], where_C: NDArray[np.float64]) -> Mask:
    """Return the mask with a cut at each place that a number in [0, 1) of `where_C` chooses.

    `places_P` are numbers of skeleton points, from `places_to_cut`. A cut is 1.5 low-resolution pixels thick
    and perpendicular to the skeleton.
    """
    if stroke.is_empty:
        return stroke.mask_HW
    chosen_C = places_P[(where_C * len(places_P)).astype(np.int64)]
    centre_C2, reach_C = stroke.skeleton_S2[chosen_C], stroke.distance_S[chosen_C] + _EXTENSION
    across_C = _angles(stroke.skeleton_S2, centre_C2) + np.pi / 2
    half_C2 = reach_C[:, None] * np.stack((np.sin(across_C), np.cos(across_C)), axis=1)
    starts, ends = (centre_C2 + half_C2).astype(np.int64), (centre_C2 - half_C2).astype(np.int64)
    return _erase(stroke.mask_HW, _lines(starts, ends) + _SHIFT)


def places_to_cut(stroke: Stroke) -> NDArray[np.int64]:
    """Return the skeleton points at least 2 low-resolution pixels from tips and forks, or all if none are.

    A tip has one neighbour on the skeleton; a fork has three once the surroundings of the tips are gone. Each
    point counts as adjacent to itself, too.
    """
    points = stroke.skeleton_S2.astype(np.int16)
    rows, columns = points[:, 0], points[:, 1]
    squared_SS = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    adjacent_SS, near_SS = squared_SS <= 2, squared_SS <= _KEEP_AWAY**2
    tips = np.count_nonzero(adjacent_SS, axis=1) == 1 + 1
    kept = ~near_SS[:, tips].any(axis=1)
    forks = kept & (np.count_nonzero(adjacent_SS & kept, axis=1) == 3 + 1)
    places = np.flatnonzero(kept & ~near_SS[:, forks].any(axis=1))
    return places if len(places) else np.arange(len(points))


def _angles(skeleton_S2: NDArray[np.int64], centre_C2: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the skeleton's direction around each point, from its second moments in a square window."""
    offset_C2S = skeleton_S2.T[None] - centre_C2[:, :, None]
    inside_CS = (np.abs(offset_C2S) <= _ANGLE_WINDOW).all(axis=1)
    seen_C2S = (offset_C2S * inside_CS[:, None]).astype(np.float64)
    count, (y, x) = np.count_nonzero(inside_CS, axis=1), seen_C2S.sum(axis=2).T
    # Whole numbers far below 2^53: the products' sums are exact in whatever order they are taken.
    products_C22 = seen_C2S @ seen_C2S.transpose(0, 2, 1)
    xx = products_C22[:, 1, 1] - x * x / count
    yy = products_C22[:, 0, 0] - y * y / count
    xy = products_C22[:, 0, 1] - x * y / count
    angles: NDArray[np.float64] = 0.5 * np.arctan2(2.0 * xy, xx - yy)
    return angles


def _lines(starts_C2: NDArray[np.int64], ends_C2: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pixels nearest to straight lines, those of the shorter ones with their end repeated."""
    way_C2 = ends_C2 - starts_C2
    steps_C11 = np.maximum(np.abs(way_C2).max(axis=1), 1)[:, None, None]
    step_CT1 = np.minimum(np.arange(int(steps_C11.max()) + 1)[:, None], steps_C11)
    gone_CT2 = (2 * step_CT1 * way_C2[:, None] + steps_C11) // (2 * steps_C11)
    pixels: NDArray[np.int64] = (starts_C2[:, None] + gone_CT2).reshape(-1, 2)
    return pixels


def _erase(mask_HW: Mask, points_L2: NDArray[np.int64]) -> Mask:
    height, width = mask_HW.shape
    rows = (points_L2[:, :1] + _BRUSH[:, 0]).ravel()
    columns = (points_L2[:, 1:] + _BRUSH[:, 1]).ravel()
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    erased = mask_HW.copy()
    erased[rows[inside], columns[inside]] = False
    return erased
