"""Small real data for tests: a few of the bundled digits with all their variants, made in a moment."""

from functools import cache

import numpy as np

from gapctl.data.mad.digits import load_digits
from gapctl.data.mad.feed import TrialData
from gapctl.data.mad.images import MadSplit, generate_variant_images
from gapctl.data.mad.source import Split


@cache
def small_data(train: int = 60, test: int = 20) -> TrialData:
    """The first digits of the bundle's two splits."""
    return TrialData(train=_split("train", train), test=_split("test", test))


def _split(split: Split, count: int) -> MadSplit:
    digits = load_digits("bundled", split)
    rows = np.linspace(0, len(digits.labels_N) - 1, count).astype(int)
    images_NVHW = generate_variant_images(digits.images_NHW[rows], seed=1, workers=1)
    return MadSplit(images_NVHW, digits.labels_N[rows], f"first-{count}")
