"""Define the factors of a MAD image, their values, and the 24 shapes of a digit.

Index letters: N samples, 6 factors in the order of `FACTORS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Factor:
    """One property of an image. Its values are also the captions' words, so no two factors share one."""

    name: str
    values: tuple[str, ...]


class Variant(NamedTuple):
    """The labels of the four factors that determine a digit's shape."""

    thickness: int
    swelling: int
    fracture: int
    scale: int


DIGIT: Final = Factor("digit", tuple(str(digit) for digit in range(10)))
THICKNESS: Final = Factor("thickness", ("no thickthinning", "thickening", "thinning"))
SWELLING: Final = Factor("swelling", ("no swelling", "swelling"))
FRACTURE: Final = Factor("fracture", ("no fracture", "fracture"))
SCALE: Final = Factor("scale", ("large", "small"))
COLOUR: Final = Factor("colour", ("gray", "red", "green", "blue", "cyan", "magenta", "yellow"))

FACTORS: Final = (DIGIT, THICKNESS, SWELLING, FRACTURE, SCALE, COLOUR)
FACTOR_NAMES: Final = tuple(factor.name for factor in FACTORS)
VALUES: Final = tuple(value for factor in FACTORS for value in factor.values)
SHAPE_FACTORS: Final = (THICKNESS, SWELLING, FRACTURE, SCALE)
VARIANTS: Final = tuple(
    Variant(*labels) for labels in product(*(range(len(factor.values)) for factor in SHAPE_FACTORS))
)
COLOURS: Final = COLOUR.values


def find_factor_index(name: str) -> int:
    """Return the position of a factor in `FACTORS`. Raise ValueError for an unknown name."""
    return FACTOR_NAMES.index(name)


def find_first_value_index(name: str) -> int:
    """Return the position in `VALUES` of a factor's first value."""
    return sum(len(factor.values) for factor in FACTORS[: find_factor_index(name)])


def compute_factor_labels(
    digit_label_N: NDArray[int64], variant_N: NDArray[int64], colour_N: NDArray[int64]
) -> NDArray[int64]:
    """Return the labels of images within each factor (N, 6), from their digit's label, variant and colour (N,)."""
    import numpy as np

    labels_N6 = np.empty((len(digit_label_N), len(FACTORS)), dtype=np.int64)
    labels_N6[:, 0] = digit_label_N
    labels_N6[:, 1:5] = np.asarray(VARIANTS, dtype=np.int64)[variant_N]
    labels_N6[:, 5] = colour_N
    return labels_N6
