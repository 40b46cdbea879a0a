"""The frozen test images that every trial is measured on, and their captions.

Index letters: B images of the gallery, N digits of the test split, R rounds through them, 6 factors, L
tokens.
"""

from typing import Final

import numpy as np

from gapctl.data.mad.captions import CaptionRule, Order, write_captions
from gapctl.data.mad.draws import Purpose, generator
from gapctl.data.mad.factors import COLOURS, VARIANTS, factor_labels
from gapctl.data.mad.sampling import Integers, Samples
from gapctl.errors import InputError

GALLERY_SEED: Final = 20240407
_LOOKS: Final = len(VARIANTS) * len(COLOURS)


def frozen_gallery(digit_labels_N: Integers, size: int, main_factor: str, attributes: int, order: Order) -> Samples:
    """Return `size` different images with captions; the images are the same for every trial.

    Digits are taken in rounds, so each occurs as often as any other, or once more. Raises InputError if there
    are fewer than `size` different images: digits x 24 variants x 7 colours.
    """
    count = len(digit_labels_N)
    check_gallery(size, count)
    digit, variant, colour = _images(count, size)
    labels = factor_labels(np.asarray(digit_labels_N, dtype=np.int64)[digit], variant, colour)
    priority = generator(Purpose.WHICH_FACTORS, GALLERY_SEED).random((size, 6))
    place = generator(Purpose.PLACES, GALLERY_SEED).random((size, 6))
    tokens = write_captions(CaptionRule(main_factor, attributes, order), labels, priority, place)
    return Samples(digit, variant, colour, tokens, labels)


def check_gallery(size: int, digits: int) -> None:
    """Raise InputError if a test split of so many digits has fewer than `size` different images."""
    most = digits * _LOOKS
    if not 1 <= size <= most:
        raise InputError(
            f"evaluate.gallery is {size}, but the test split has {digits} digits and so {most} "
            f"different images. Set evaluate.gallery to 1 .. {most}."
        )


def _images(count: int, size: int) -> tuple[Integers, Integers, Integers]:
    rounds = -(-size // count)
    digit_RN = np.tile(generator(Purpose.DIGIT_ORDER, GALLERY_SEED).permutation(count), (rounds, 1))
    looks = generator(Purpose.GALLERY, GALLERY_SEED).random((count, _LOOKS))
    look_NR = np.argsort(looks, axis=1)[:, :rounds]
    digit = digit_RN.reshape(-1)[:size]
    look = look_NR.T[np.arange(rounds)[:, None], digit_RN].reshape(-1)[:size]
    return digit, look // len(COLOURS), look % len(COLOURS)
