"""A digit's stroke and how thick it is: measuring it, thickening and thinning it.

Lengths are in high-resolution pixels. Index letters: H height, W width of the high-resolution image, S points
of the skeleton.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gapctl.data.mad.skeleton import Mask, medial_axis, set_pixels, tie_breaker

Box = tuple[slice, slice]
_THICKNESS_CHANGE: Final = 0.7


@dataclass(frozen=True)
class Stroke:
    """A shape, its medial axis as (row, column) in raster order, and the distances to the background.

    `distance_box` are the distances of the pixels in `box`, outside of which there is no stroke.
    """

    mask_HW: Mask
    box: Box
    distance_box: NDArray[np.float64]
    skeleton_S2: NDArray[np.int64]
    distance_S: NDArray[np.float64]

    @property
    def is_empty(self) -> bool:
        """Whether there is no stroke at all, as in a blank image."""
        return len(self.skeleton_S2) == 0

    @property
    def mean_thickness(self) -> float:
        """Twice the mean distance to the background over the medial axis; 0 for an empty stroke."""
        return 0.0 if self.is_empty else 2.0 * float(self.distance_S.mean())


def measure_stroke(mask_HW: Mask) -> Stroke:
    """Return the stroke of a (112, 112) mask; what is outside the image is neither stroke nor ground."""
    if not mask_HW.any():
        nothing = np.empty((0, 0))
        return Stroke(mask_HW, (slice(0, 0), slice(0, 0)), nothing, np.empty((0, 2), np.int64), np.empty(0))
    box = _bounding_box(mask_HW, margin=1)
    inside = np.ascontiguousarray(mask_HW[box])
    distance = _distance_to_ground(inside)
    rows, columns = set_pixels(medial_axis(inside, distance, tie_breaker()[box]))
    skeleton = np.stack((rows + box[0].start, columns + box[1].start), axis=1)
    return Stroke(mask_HW, box, distance, skeleton, distance[rows, columns])


def thicken(stroke: Stroke) -> Mask:
    """Dilate with a disk of `change_radius`: what is at most so far from the stroke joins it."""
    if stroke.is_empty:
        return stroke.mask_HW
    radius = change_radius(stroke)
    box = _bounding_box(stroke.mask_HW, margin=radius)
    thick = np.zeros_like(stroke.mask_HW)
    thick[box] = ndimage.distance_transform_edt(~stroke.mask_HW[box]) <= radius
    return thick


def thin(stroke: Stroke) -> Mask:
    """Erode with a disk of `change_radius`: what is farther than that from the ground stays."""
    thinned = np.zeros_like(stroke.mask_HW)
    thinned[stroke.box] = stroke.distance_box > change_radius(stroke)
    return thinned


def change_radius(stroke: Stroke) -> int:
    """Return 0.7 of half the mean thickness, cut to a whole number of pixels."""
    return int(_THICKNESS_CHANGE * stroke.mean_thickness / 2)


def _distance_to_ground(mask_HW: Mask) -> NDArray[np.float64]:
    if not mask_HW.all():
        return np.asarray(ndimage.distance_transform_edt(mask_HW))
    # Without any ground a distance means nothing: the image's frame stands in for it.
    return np.asarray(ndimage.distance_transform_edt(np.pad(mask_HW, 1)))[1:-1, 1:-1]


def _bounding_box(mask_HW: Mask, margin: int) -> Box:
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    return _span(rows, margin), _span(columns, margin)


def _span(occupied: NDArray[np.int64], margin: int) -> slice:
    return slice(max(int(occupied[0]) - margin, 0), int(occupied[-1]) + margin + 1)
