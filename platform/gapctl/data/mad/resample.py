"""Changing the size of digits by splines, as matrices: resampling and smoothing are linear and separable.

The matrices do what scikit-image's `pyramid_expand`, `pyramid_reduce` and `rescale` do with the settings of
Morpho-MNIST (arXiv 1809.10780) and MAD (arXiv 2404.07983), at the price of a product.

Index letters: B images, H height, W width; 28 low-resolution pixels, 112 high-resolution ones.
"""

from functools import cache
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

LOW: Final = 28
UPSCALE: Final = 4
HIGH: Final = LOW * UPSCALE
SMALL: Final = 21
_SIGMA: Final = 2 * UPSCALE / 6.0
# Grey levels are cut to whole numbers: without this, rounding in a product would decide about exact ones.
_ROUNDING_GUARD: Final = 2.0**-10

Image = NDArray[np.uint8]
Matrix = NDArray[np.float32]


class Operators(NamedTuple):
    """Left factors of resampling: an image X becomes M @ X @ M.T."""

    enlarge: Matrix
    smooth: Matrix
    reduce: Matrix
    shrink: Matrix


@cache
def operators() -> Operators:
    """Return the matrices, each made by sending unit vectors through scipy's filters."""
    enlarge = _zoom_matrix(LOW, HIGH, order=3)
    smooth = ndimage.gaussian_filter1d(np.eye(HIGH), _SIGMA, axis=0, mode="reflect")
    reduce = _zoom_matrix(HIGH, LOW, order=3) @ smooth
    shrink = _zoom_matrix(LOW, SMALL, order=1)
    return Operators(*(np.ascontiguousarray(m, np.float32) for m in (enlarge, smooth, reduce, shrink)))


def _zoom_matrix(size: int, new_size: int, order: Literal[1, 3]) -> NDArray[np.float64]:
    columns = [
        ndimage.zoom(unit, float(new_size / size), order=order, mode="mirror", grid_mode=True) for unit in np.eye(size)
    ]
    return np.stack(columns, axis=1)


def enlarge(images_BHW: Image) -> NDArray[np.bool_]:
    """Return the digits four times as large, smoothed, and binarised at half of their range.

    uint8 (B, 28, 28) to bool (B, 112, 112). An image without contrast has no stroke and becomes all False.
    """
    matrices = operators()
    images = images_BHW.astype(np.float32) / np.float32(255)
    large = _both_sides(matrices.enlarge, images)
    np.clip(large, images.min((1, 2), keepdims=True), images.max((1, 2), keepdims=True), out=large)
    grey = _to_grey(_both_sides(matrices.smooth, large)).astype(np.float32)
    low, high = grey.min((1, 2), keepdims=True), grey.max((1, 2), keepdims=True)
    stroke: NDArray[np.bool_] = (grey >= low + (high - low) / 2) & (high > low)
    return stroke


def reduce(masks_BHW: NDArray[np.bool_]) -> Image:
    """Return the shapes as grey images of the original size: bool (B, 112, 112) to uint8 (B, 28, 28)."""
    return _to_grey(_both_sides(operators().reduce, masks_BHW.astype(np.float32)))


def shrink(images_BHW: Image) -> Image:
    """Return the images at three quarters of their size: uint8 (B, 28, 28) to (B, 21, 21)."""
    return _to_grey(_both_sides(operators().shrink, images_BHW.astype(np.float32) / np.float32(255)))


def _both_sides(matrix: Matrix, images_BHW: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = images_BHW @ matrix.T
    both: NDArray[np.float32] = np.matmul(matrix, rows)
    return both


def _to_grey(images_BHW: NDArray[np.float32]) -> Image:
    levels = np.clip(images_BHW, 0.0, 1.0) * np.float32(255) + np.float32(_ROUNDING_GUARD)
    return levels.astype(np.uint8)
