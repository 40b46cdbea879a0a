"""Draw the 24 shapes of a digit, in the order of `factors.VARIANTS`.

1. `apply_variants_to_digits` enlarges the digits and draws every variant of each.
2. `measure_stroke` finds a shape's medial axis and thickness, which all deformations start from.
3. `thin_stroke` and `thicken_stroke` change the thickness, `swell_stroke` and `fracture_stroke` add a fault.
4. `reduce_masks` and `shrink_images` return to the original size.

Each variant has its own random numbers, keyed by (key, digit's index): where it swells, where it breaks, and where a
small one is put. Skeletons that variants share (of the plain, thick and thin stroke) are made once.

Index letters: N digits, B digits of a block, V the 24 variants, H height, W width, P pixels, S skeleton points, C cuts.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Final, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gapctl.data.mad.factors import VARIANTS

LOW: Final = 28
UPSCALE: Final = 4
HIGH: Final = LOW * UPSCALE
SMALL: Final = 21
_SIGMA: Final = 2 * UPSCALE / 6.0
# Grey levels are truncated: without this, rounding in a product would change exact whole numbers.
_ROUNDING_GUARD: Final = 2.0**-10

Image = NDArray[np.uint8]
Matrix = NDArray[np.float32]
Mask = NDArray[np.bool_]
TIES: Final = HIGH * HIGH
_TIE_KEY: Final = 20240408
BoundingBox = tuple[slice, slice]
_THICKNESS_CHANGE: Final = 0.7
"""Share of half the mean thickness by which strokes are thinned or thickened."""
_SWELLING_STRENGTH: Final = 3
_SWELLING_RADIUS: Final = 7.0
"""Radius of a swelling in low-resolution pixels, before its factor sqrt(mean thickness) / 2."""
CUTS: Final = 3
_CUT_THICKNESS: Final = 1.5
"""Thickness of a cut in low-resolution pixels."""
_KEEP_AWAY: Final = 2 * UPSCALE
"""Least distance of a cut from tips and forks, in high-resolution pixels."""
_ANGLE_WINDOW: Final = 2 * UPSCALE
_CUT_EXTENSION: Final = 0.5 * UPSCALE
_BRUSH_RADIUS: Final = int(np.ceil((_CUT_THICKNESS * UPSCALE - 1) / 2))
_SQUARE: Final = np.argwhere(np.ones((2 * _BRUSH_RADIUS + 1, 2 * _BRUSH_RADIUS + 1))) - _BRUSH_RADIUS
_BRUSH: Final = _SQUARE[(_SQUARE**2).sum(axis=1) <= _BRUSH_RADIUS**2]
"""The pixels of a disk, from its centre."""
# The official generator draws its cuts on a padded image without moving them by the padding: they lie this
# far up and to the left of the skeleton point, and MAD's published images have them there.
_CUT_SHIFT: Final = -_BRUSH_RADIUS

_DRAWS: Final = 1 + CUTS + 2
_SMALL: Final = np.array([bool(variant.scale) for variant in VARIANTS])
_SMALL_OFFSET: Final = (LOW - SMALL) // 2


class ResamplingMatrices(NamedTuple):
    """Left factors of resampling: an image X becomes M @ X @ M.T."""

    enlarge: Matrix
    smooth: Matrix
    reduce: Matrix
    shrink: Matrix


@dataclass(frozen=True)
class Stroke:
    """A shape, its medial axis as (row, column) in raster order, and the distances to the background.

    `distance_box` holds the distances within `box`, which encloses the whole stroke.
    """

    mask_HW: Mask
    box: BoundingBox
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


def apply_variants_to_digits(digits_NHW: Image, first_index: int, key: int) -> Image:
    """Return uint8 (N, 24, 28, 28): every variant of digits whose indices start at `first_index`."""
    images = np.empty((len(digits_NHW), len(VARIANTS), LOW, LOW), np.uint8)
    for n, plain in enumerate(enlarge_digits(digits_NHW)):
        generator = np.random.Generator(np.random.Philox(key=np.array([key, first_index + n], dtype=np.uint64)))
        draws = generator.random((len(VARIANTS), _DRAWS))
        images[n] = reduce_masks(_draw_masks(plain, draws))
        small_BHW = shrink_images(images[n, _SMALL])
        images[n, _SMALL] = 0
        corner_B2 = _SMALL_OFFSET + (draws[_SMALL, -2:] < 0.5)
        for v, small, (top, left) in zip(np.flatnonzero(_SMALL), small_BHW, corner_B2, strict=True):
            images[n, v, top : top + SMALL, left : left + SMALL] = small
    return images


def _draw_masks(plain_HW: Mask, draws: NDArray[np.float64]) -> NDArray[np.bool_]:
    plain = measure_stroke(plain_HW)
    by_thickness = (plain, measure_stroke(thicken_stroke(plain)), measure_stroke(thin_stroke(plain)))
    places = [find_cut_places(stroke) for stroke in by_thickness]
    masks = np.empty((len(VARIANTS), *plain_HW.shape), dtype=np.bool_)
    for v, (variant, numbers) in enumerate(zip(VARIANTS, draws, strict=True)):
        stroke, cuts = by_thickness[variant.thickness], numbers[1 : 1 + CUTS]
        masks[v] = swell_stroke(stroke, numbers[0]) if variant.swelling else stroke.mask_HW
        if variant.fracture and variant.swelling:
            swollen = measure_stroke(masks[v])
            masks[v] = fracture_stroke(swollen, find_cut_places(swollen), cuts)
        elif variant.fracture:
            masks[v] = fracture_stroke(stroke, places[variant.thickness], cuts)
    return masks


def measure_stroke(mask_HW: Mask) -> Stroke:
    """Return the stroke of a (112, 112) mask; pixels outside the image are neither stroke nor ground."""
    if not mask_HW.any():
        nothing = np.empty((0, 0))
        return Stroke(mask_HW, (slice(0, 0), slice(0, 0)), nothing, np.empty((0, 2), np.int64), np.empty(0))
    box = _find_bounding_box(mask_HW, margin=1)
    inside = np.ascontiguousarray(mask_HW[box])
    # Without any background pixel the image's frame serves as background.
    frame = int(inside.all())
    framed = np.asarray(ndimage.distance_transform_edt(np.pad(inside, frame)))
    distance = framed[frame : len(framed) - frame, frame : framed.shape[1] - frame]
    rows, columns = list_set_pixels(find_medial_axis(inside, distance, shuffle_pixels()[box]))
    skeleton = np.stack((rows + box[0].start, columns + box[1].start), axis=1)
    return Stroke(mask_HW, box, distance, skeleton, distance[rows, columns])


def thicken_stroke(stroke: Stroke) -> Mask:
    """Dilate with a disk of `compute_change_radius`: pixels within that distance of the stroke join it."""
    if stroke.is_empty:
        return stroke.mask_HW
    radius = compute_change_radius(stroke)
    box = _find_bounding_box(stroke.mask_HW, margin=radius)
    thick = np.zeros_like(stroke.mask_HW)
    thick[box] = ndimage.distance_transform_edt(~stroke.mask_HW[box]) <= radius
    return thick


def thin_stroke(stroke: Stroke) -> Mask:
    """Erode with a disk of `compute_change_radius`: pixels farther than that from the ground stay."""
    thinned = np.zeros_like(stroke.mask_HW)
    thinned[stroke.box] = stroke.distance_box > compute_change_radius(stroke)
    return thinned


def compute_change_radius(stroke: Stroke) -> int:
    """Return 0.7 of half the mean thickness, cut to a whole number of pixels."""
    return int(_THICKNESS_CHANGE * stroke.mean_thickness / 2)


def _find_bounding_box(mask_HW: Mask, margin: int) -> BoundingBox:
    def span(axis: Literal[0, 1]) -> slice:
        occupied = np.flatnonzero(mask_HW.any(axis=axis))
        return slice(max(int(occupied[0]) - margin, 0), int(occupied[-1]) + margin + 1)

    return span(1), span(0)


def swell_stroke(stroke: Stroke, where: float) -> Mask:
    """Return the mask blown up around one skeleton point, chosen by `where` in [0, 1).

    A pixel at r from the centre takes its value from r (r / R)^2, for r up to R = 7 sqrt(mean thickness) / 2,
    radius and thickness in low-resolution pixels.
    """
    if stroke.is_empty:
        return stroke.mask_HW
    mask_HW, centre = stroke.mask_HW, stroke.skeleton_S2[int(where * len(stroke.skeleton_S2))]
    radius = float(UPSCALE * _SWELLING_RADIUS * np.sqrt(stroke.mean_thickness / UPSCALE) / 2.0)
    reach = int(radius)
    top, left = np.maximum(centre - reach, 0)
    bottom, right = np.minimum(centre + reach + 1, mask_HW.shape)
    rows = np.arange(top, bottom)[:, None] - centre[0]
    columns = np.arange(left, right)[None, :] - centre[1]
    squared = np.minimum((rows**2 + columns**2) / radius**2, 1.0)
    weight = squared ** ((_SWELLING_STRENGTH - 1) / 2)
    warped = mask_HW.copy()
    warped[top:bottom, left:right] = mask_HW[
        np.floor(centre[0] + weight * rows + 0.5).astype(np.intp),
        np.floor(centre[1] + weight * columns + 0.5).astype(np.intp),
    ]
    return warped


def fracture_stroke(stroke: Stroke, places_P: NDArray[np.int64], where_C: NDArray[np.float64]) -> Mask:
    """Return the mask with a cut at each place that a number in [0, 1) of `where_C` chooses.

    `places_P` are numbers of skeleton points, from `find_cut_places`. A cut is 1.5 low-resolution pixels thick and
    perpendicular to the skeleton.
    """
    if stroke.is_empty:
        return stroke.mask_HW
    chosen_C = places_P[(where_C * len(places_P)).astype(np.int64)]
    centre_C2, reach_C = stroke.skeleton_S2[chosen_C], stroke.distance_S[chosen_C] + _CUT_EXTENSION
    across_C = _measure_angles(stroke.skeleton_S2, centre_C2) + np.pi / 2
    half_C2 = reach_C[:, None] * np.stack((np.sin(across_C), np.cos(across_C)), axis=1)
    starts, ends = (centre_C2 + half_C2).astype(np.int64), (centre_C2 - half_C2).astype(np.int64)
    points_L2 = _draw_lines(starts, ends) + _CUT_SHIFT
    rows, columns = ((points_L2[:, axis, None] + _BRUSH[:, axis]).ravel() for axis in (0, 1))
    height, width = stroke.mask_HW.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    erased = stroke.mask_HW.copy()
    erased[rows[inside], columns[inside]] = False
    return erased


def find_cut_places(stroke: Stroke) -> NDArray[np.int64]:
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


def _measure_angles(skeleton_S2: NDArray[np.int64], centre_C2: NDArray[np.int64]) -> NDArray[np.float64]:
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


def _draw_lines(starts_C2: NDArray[np.int64], ends_C2: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pixels nearest to straight lines, those of the shorter ones with their end repeated."""
    way_C2 = ends_C2 - starts_C2
    steps_C11 = np.maximum(np.abs(way_C2).max(axis=1), 1)[:, None, None]
    step_CT1 = np.minimum(np.arange(int(steps_C11.max()) + 1)[:, None], steps_C11)
    gone_CT2 = (2 * step_CT1 * way_C2[:, None] + steps_C11) // (2 * steps_C11)
    pixels: NDArray[np.int64] = (starts_C2[:, None] + gone_CT2).reshape(-1, 2)
    return pixels


def find_medial_axis(mask_HW: Mask, distance_HW: NDArray[np.float64], ties_HW: NDArray[np.int64]) -> Mask:
    """Return the medial axis of a mask, given its distances to the background.

    `ties_HW` ranks pixels of equal distance and cornerness: different numbers from 0 to `TIES` - 1.
    """
    rows, columns = list_set_pixels(mask_HW)
    squared = np.rint(distance_HW[rows, columns] ** 2).astype(np.int64)
    empty = 9 - _sum_blocks(mask_HW)[rows, columns].astype(np.int64)
    order = np.argsort((squared * 16 + empty) * TIES + ties_HW[rows, columns])
    result = mask_HW.astype(np.uint8, order="C")
    in_order = np.arange(len(rows), dtype=np.int32)
    _select_removal_loop()(result, rows[order], columns[order], in_order, build_keep_table())
    return result.astype(np.bool_)


def list_set_pixels(mask_HW: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows and the columns of the set pixels, as `nonzero` does, but faster."""
    rows, columns = np.divmod(np.flatnonzero(mask_HW), mask_HW.shape[1])
    return rows, columns


def _sum_blocks(mask_HW: Mask) -> NDArray[np.uint8]:
    height, width = mask_HW.shape
    framed = np.zeros((height + 2, width + 2), np.uint8)
    framed[1:-1, 1:-1] = mask_HW
    in_row = framed[:, :-2] + framed[:, 1:-1] + framed[:, 2:]
    in_block: NDArray[np.uint8] = in_row[:-2] + in_row[1:-1] + in_row[2:]
    return in_block


@cache
def _select_removal_loop() -> Callable[..., None]:
    # Not a public name of scikit-image, but 30 times as fast as Python; the tests hold both to the same
    # result.
    with suppress(ImportError):
        return cast(
            Callable[..., None],
            getattr(import_module("skimage.morphology._skeletonize"), "_skeletonize_loop", thin_in_place),
        )
    return thin_in_place


def thin_in_place(
    result_HW: NDArray[np.uint8],
    rows_P: NDArray[np.int64],
    columns_P: NDArray[np.int64],
    order_P: NDArray[np.int32],
    keep_512: NDArray[np.uint8],
) -> None:
    """Set pixels of `result_HW` to 0, visited in the given order, unless the table keeps them."""
    framed = np.pad(result_HW, 1)
    weights = 2 ** np.arange(9).reshape(3, 3)
    for row, column in zip(rows_P[order_P].tolist(), columns_P[order_P].tolist(), strict=True):
        block = framed[row : row + 3, column : column + 3]
        framed[row + 1, column + 1] = keep_512[(block * weights).sum()]
    result_HW[:] = framed[1:-1, 1:-1]


@cache
def build_keep_table() -> NDArray[np.uint8]:
    """Return for each of the 512 3x3 neighbourhoods whether its middle stays: 1 if it carries the connection.

    Bit 3 * row + column of an index is that pixel.
    """
    keep = np.zeros(512, dtype=np.uint8)
    middle = np.arange(9).reshape(3, 3) == 4
    for index in range(512):
        pattern = ((index >> np.arange(9)) & 1).reshape(3, 3)
        pieces, pieces_without = (ndimage.label(each, np.ones((3, 3)))[1] for each in (pattern, pattern * ~middle))
        keep[index] = pattern[1, 1] and (pattern.sum() < 3 or pieces != pieces_without)
    return keep


@cache
def shuffle_pixels() -> NDArray[np.int64]:
    """Return a fixed shuffle of the pixel numbers of a high-resolution image: int64 (112, 112)."""
    generator = np.random.Generator(np.random.Philox(key=_TIE_KEY))
    return generator.permutation(TIES).reshape(HIGH, HIGH)


def enlarge_digits(images_BHW: Image) -> NDArray[np.bool_]:
    """Return the digits four times as large, smoothed, and binarised at half of their range.

    uint8 (B, 28, 28) to bool (B, 112, 112). An image without contrast has no stroke and becomes all False.
    """
    matrices = build_matrices()
    images = images_BHW.astype(np.float32) / np.float32(255)
    large = _apply_matrix(matrices.enlarge, images)
    np.clip(large, images.min((1, 2), keepdims=True), images.max((1, 2), keepdims=True), out=large)
    grey = _convert_to_grey(_apply_matrix(matrices.smooth, large)).astype(np.float32)
    low, high = grey.min((1, 2), keepdims=True), grey.max((1, 2), keepdims=True)
    stroke: NDArray[np.bool_] = (grey >= low + (high - low) / 2) & (high > low)
    return stroke


def reduce_masks(masks_BHW: NDArray[np.bool_]) -> Image:
    """Return the shapes as grey images of the original size: bool (B, 112, 112) to uint8 (B, 28, 28)."""
    return _convert_to_grey(_apply_matrix(build_matrices().reduce, masks_BHW.astype(np.float32)))


def shrink_images(images_BHW: Image) -> Image:
    """Return the images at three quarters of their size: uint8 (B, 28, 28) to (B, 21, 21)."""
    return _convert_to_grey(_apply_matrix(build_matrices().shrink, images_BHW.astype(np.float32) / np.float32(255)))


def _apply_matrix(matrix: Matrix, images_BHW: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = images_BHW @ matrix.T
    both: NDArray[np.float32] = np.matmul(matrix, rows)
    return both


def _convert_to_grey(images_BHW: NDArray[np.float32]) -> Image:
    levels = np.clip(images_BHW, 0.0, 1.0) * np.float32(255) + np.float32(_ROUNDING_GUARD)
    return levels.astype(np.uint8)


@cache
def build_matrices() -> ResamplingMatrices:
    """Return the resampling matrices, each from sending unit vectors through scipy's filters."""
    enlarge = _build_zoom_matrix(LOW, HIGH, order=3)
    smooth = ndimage.gaussian_filter1d(np.eye(HIGH), _SIGMA, axis=0, mode="reflect")
    reduce = _build_zoom_matrix(HIGH, LOW, order=3) @ smooth
    shrink = _build_zoom_matrix(LOW, SMALL, order=1)
    return ResamplingMatrices(*(np.ascontiguousarray(m, np.float32) for m in (enlarge, smooth, reduce, shrink)))


def _build_zoom_matrix(size: int, new_size: int, order: Literal[1, 3]) -> NDArray[np.float64]:
    columns = [
        ndimage.zoom(unit, float(new_size / size), order=order, mode="mirror", grid_mode=True) for unit in np.eye(size)
    ]
    return np.stack(columns, axis=1)
