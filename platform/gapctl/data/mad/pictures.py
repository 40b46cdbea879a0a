"""Pictures of captions: images that show what a caption says, and in all else what chance has.

They take the captions' place where both sides of a pair are images (arXiv 2405.18570 asks for the gap of one modality
on both sides). Each picture shares with the first image what its caption would have said of it and nothing more, not
even the handwriting, as it is drawn from another digit of the class, or of any class where none is said.

Index letters: B samples, L tokens of a caption, 6 factors in the order of `FACTORS`, N digits.
"""

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.captions import FIRST_VALUE_TOKEN
from gapctl.data.mad.draws import Purpose, generator
from gapctl.data.mad.factors import FACTORS, SHAPE_FACTORS, VALUES
from gapctl.errors import InputError

Integers = NDArray[np.int64]

UNSAID: Final = -1
_SIZES: Final = np.array([len(factor.values) for factor in FACTORS])
_VARIANT_SHAPE: Final = tuple(len(factor.values) for factor in SHAPE_FACTORS)
_FACTOR_OF_VALUE: Final = np.repeat(np.arange(len(FACTORS)), _SIZES)
_PLACE_OF_VALUE: Final = np.concatenate([np.arange(size) for size in _SIZES])


class Pictures(NamedTuple):
    """Images by digit, variant and colour."""

    digit_B: Integers
    variant_B: Integers
    colour_B: Integers


class Painter:
    """Draws pictures of captions from a split's digits."""

    def __init__(self, digit_labels_N: Integers) -> None:
        """Takes each digit's class."""
        self._by_class_N = np.argsort(digit_labels_N, kind="stable")
        self._counts = np.bincount(digit_labels_N, minlength=_SIZES[0])
        self._starts = np.cumsum(self._counts) - self._counts

    def pictures(self, tokens_BL: Integers, chance_B6: NDArray[np.float64]) -> Pictures:
        """Pictures of these captions; numbers from 0 to 1 decide what they leave open, and which digit is shown.

        Raises InputError where a caption says a digit that the split lacks.
        """
        said_B6 = said(tokens_BL)
        label_B6 = np.where(said_B6 == UNSAID, (chance_B6 * _SIZES).astype(np.int64), said_B6)
        variant_B = np.ravel_multi_index(tuple(label_B6[:, 1:5].T), _VARIANT_SHAPE)
        return Pictures(self._digits(said_B6[:, 0], chance_B6[:, 0]), variant_B.astype(np.int64), label_B6[:, 5])

    def _digits(self, class_B: Integers, chance_B: NDArray[np.float64]) -> Integers:
        anyone_B = class_B == UNSAID
        count_B = np.where(anyone_B, len(self._by_class_N), self._counts[class_B])
        if not count_B.all():
            lacking = sorted({int(digit) for digit in class_B[count_B == 0]})
            raise InputError(
                f"data.sides is image_image, but a split of data.source has no digit {lacking[0]} to draw pictures of; "
                "expected some of each class, or sides: image_text"
            )
        place_B = np.where(anyone_B, 0, self._starts[class_B]) + (chance_B * count_B).astype(np.int64)
        digit_B: Integers = self._by_class_N[place_B]
        return digit_B


def said(tokens_BL: Integers) -> Integers:
    """What captions say of each factor, as labels (B, 6); UNSAID where they say nothing."""
    value_BL = tokens_BL - FIRST_VALUE_TOKEN
    row_S, place_S = np.nonzero((value_BL >= 0) & (value_BL < len(VALUES)))
    value_S = value_BL[row_S, place_S]
    said_B6 = np.full((len(tokens_BL), len(FACTORS)), UNSAID, dtype=np.int64)
    said_B6[row_S, _FACTOR_OF_VALUE[value_S]] = _PLACE_OF_VALUE[value_S]
    return said_B6


class PictureSampler:
    """The second images of a training: pure functions of (seed, epoch, index), like all else that it sees."""

    def __init__(self, seed: int, digit_labels_N: Integers) -> None:
        self._seed = seed
        self._count = len(digit_labels_N)
        self._painter = Painter(digit_labels_N)

    def pictures(self, position_B: Integers, tokens_BL: Integers) -> Pictures:
        """Pictures of the captions at these positions."""
        epochs, indices = np.divmod(position_B, self._count)
        chance_B6 = np.empty((len(position_B), len(FACTORS)))
        for epoch in np.unique(epochs):
            rows = np.flatnonzero(epochs == epoch)
            chance_B6[rows] = _chance(self._seed, int(epoch), self._count)[indices[rows]]
        return self._painter.pictures(tokens_BL, chance_B6)


@lru_cache(maxsize=4)
def _chance(seed: int, epoch: int, count: int) -> NDArray[np.float64]:
    return generator(Purpose.PICTURE, seed, epoch).random((count, len(FACTORS)))


def frozen_pictures(digit_labels_N: Integers, tokens_BL: Integers, seed: int) -> Pictures:
    """Pictures of captions that are the same for every trial: a gallery's, drawn from its own split."""
    chance_B6 = generator(Purpose.PICTURE, seed).random((len(tokens_BL), len(FACTORS)))
    return Painter(digit_labels_N).pictures(tokens_BL, chance_B6)
