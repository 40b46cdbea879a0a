"""Swelling: a radial power warp around a point of the skeleton (Morpho-MNIST, arXiv 1809.10780, sec. 2.2)."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.morphology import Stroke
from gapctl.data.mad.resample import UPSCALE
from gapctl.data.mad.skeleton import Mask

_STRENGTH: Final = 3
_RADIUS: Final = 7.0


def swell(stroke: Stroke, where: float) -> Mask:
    """Return the mask blown up around one skeleton point, chosen by `where` in [0, 1).

    A pixel at r from the centre takes its value from r (r / R)^2, for r up to R = 7 sqrt(mean thickness) / 2,
    radius and thickness in low-resolution pixels.
    """
    if stroke.is_empty:
        return stroke.mask_HW
    centre = stroke.skeleton_S2[int(where * len(stroke.skeleton_S2))]
    radius = UPSCALE * _RADIUS * np.sqrt(stroke.mean_thickness / UPSCALE) / 2.0
    return _warp(stroke.mask_HW, centre, float(radius))


def _warp(mask_HW: Mask, centre: NDArray[np.int64], radius: float) -> Mask:
    reach = int(radius)
    top, left = np.maximum(centre - reach, 0)
    bottom, right = np.minimum(centre + reach + 1, mask_HW.shape)
    rows = np.arange(top, bottom)[:, None] - centre[0]
    columns = np.arange(left, right)[None, :] - centre[1]
    squared = np.minimum((rows**2 + columns**2) / radius**2, 1.0)
    weight = squared ** ((_STRENGTH - 1) / 2)
    warped = mask_HW.copy()
    warped[top:bottom, left:right] = mask_HW[
        np.floor(centre[0] + weight * rows + 0.5).astype(np.intp),
        np.floor(centre[1] + weight * columns + 0.5).astype(np.intp),
    ]
    return warped
