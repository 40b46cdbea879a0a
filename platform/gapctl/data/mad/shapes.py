"""The 24 shapes of a digit, in the order of `factors.VARIANTS`.

Each variant has its own random numbers, keyed by (key, digit's index): where it swells, where it breaks, and
where a small one is put. What variants share (skeletons of the plain, thick and thin stroke) is made once.

Index letters: N digits, V the 24 variants, H height, W width.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.factors import VARIANTS
from gapctl.data.mad.fracture import CUTS, fracture, places_to_cut
from gapctl.data.mad.morphology import measure_stroke, thicken, thin
from gapctl.data.mad.resample import LOW, SMALL, Image, enlarge, reduce, shrink
from gapctl.data.mad.skeleton import Mask
from gapctl.data.mad.swelling import swell

_DRAWS: Final = 1 + CUTS + 2
_SMALL: Final = np.array([bool(variant.scale) for variant in VARIANTS])
_SMALL_OFFSET: Final = (LOW - SMALL) // 2


def draw_shapes(digits_NHW: Image, first_index: int, key: int) -> Image:
    """Return uint8 (N, 24, 28, 28): every variant of digits whose indices start at `first_index`."""
    images = np.empty((len(digits_NHW), len(VARIANTS), LOW, LOW), np.uint8)
    for n, plain in enumerate(enlarge(digits_NHW)):
        draws = _random_numbers(key, first_index + n)
        images[n] = reduce(_high_resolution(plain, draws))
        images[n, _SMALL] = _paste_small(shrink(images[n, _SMALL]), draws[_SMALL, -2:])
    return images


def _random_numbers(key: int, index: int) -> NDArray[np.float64]:
    generator = np.random.Generator(np.random.Philox(key=np.array([key, index], dtype=np.uint64)))
    return generator.random((len(VARIANTS), _DRAWS))


def _high_resolution(plain_HW: Mask, draws: NDArray[np.float64]) -> NDArray[np.bool_]:
    plain = measure_stroke(plain_HW)
    by_thickness = (plain, measure_stroke(thicken(plain)), measure_stroke(thin(plain)))
    places = [places_to_cut(stroke) for stroke in by_thickness]
    masks = np.empty((len(VARIANTS), *plain_HW.shape), dtype=np.bool_)
    for v, (variant, numbers) in enumerate(zip(VARIANTS, draws, strict=True)):
        stroke, cuts = by_thickness[variant.thickness], numbers[1 : 1 + CUTS]
        masks[v] = swell(stroke, numbers[0]) if variant.swelling else stroke.mask_HW
        if variant.fracture and variant.swelling:
            swollen = measure_stroke(masks[v])
            masks[v] = fracture(swollen, places_to_cut(swollen), cuts)
        elif variant.fracture:
            masks[v] = fracture(stroke, places[variant.thickness], cuts)
    return masks


def _paste_small(small_BHW: Image, where_B2: NDArray[np.float64]) -> Image:
    pasted = np.zeros((len(small_BHW), LOW, LOW), np.uint8)
    for image, small, (top, left) in zip(pasted, small_BHW, _SMALL_OFFSET + (where_B2 < 0.5), strict=True):
        image[top : top + SMALL, left : left + SMALL] = small
    return pasted
