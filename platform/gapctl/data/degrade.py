"""The reverse imbalance: images that hold less, while captions stay as they are.

Index letters: H and W rows and columns, C the three colours.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.draws import Purpose
from gapctl.data.sample_draws import sample_generator
from gapctl.spec.data import AMOUNTS
from gapctl.spec.nearest import did_you_mean

Pixels = NDArray[np.uint8]

PATCH: Final = 16
"""Rows and columns of a patch that is dropped, those of the usual vision transformer."""
GREY: Final = 128


@dataclass(frozen=True)
class DegradeRule:
    """How images are impoverished, and by how much; raises ValueError for values outside their range."""

    degrade: str
    amount: float = 0.0

    def __post_init__(self) -> None:
        if self.degrade not in DEGRADATIONS:
            close = did_you_mean(self.degrade, DEGRADATIONS)
            raise ValueError(f"degrade is {self.degrade!r}, expected one of {', '.join(DEGRADATIONS)}{close}")
        low, high = AMOUNTS[self.degrade]
        if not low <= self.amount <= high:
            raise ValueError(f"amount is {self.amount}, expected {low:g} to {high:g} for {self.degrade}")


class Degradation(NamedTuple):
    """A line of the table: what is removed, what `amount` means, and whether each access draws anew."""

    removes: str
    amount: str
    per_access: bool
    apply: Callable[[Pixels, float, np.random.Generator], Pixels]


def degrade(rule: DegradeRule, image_HWC: Pixels, seed: int, epoch: int, sample: int) -> Pixels:
    """The image as a training sees it, of the same shape; a pure function of (sample, seed, epoch)."""
    draws = sample_generator(Purpose.DEGRADATION, seed, epoch, sample)
    return DEGRADATIONS[rule.degrade].apply(image_HWC, rule.amount, draws)


def _blur(image_HWC: Pixels, amount: float, draws: np.random.Generator) -> Pixels:
    from PIL import Image, ImageFilter

    return np.asarray(Image.fromarray(image_HWC).filter(ImageFilter.GaussianBlur(amount)))


def _downscale(image_HWC: Pixels, amount: float, draws: np.random.Generator) -> Pixels:
    from PIL import Image

    height, width = image_HWC.shape[:2]
    small = (max(1, round(width / amount)), max(1, round(height / amount)))
    shrunk = Image.fromarray(image_HWC).resize(small, Image.Resampling.BOX)
    return np.asarray(shrunk.resize((width, height), Image.Resampling.BICUBIC))


def _grey(image_HWC: Pixels, amount: float, draws: np.random.Generator) -> Pixels:
    from PIL import Image

    return np.asarray(Image.fromarray(image_HWC).convert("L").convert("RGB"))


def _drop_patches(image_HWC: Pixels, amount: float, draws: np.random.Generator) -> Pixels:
    rows, columns = (-(-side // PATCH) for side in image_HWC.shape[:2])
    order = np.argsort(draws.random(rows * columns), kind="stable")
    dropped = order[: round(amount * rows * columns)]
    left = image_HWC.copy()
    for row, column in zip(*np.divmod(dropped, columns), strict=True):
        left[row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] = GREY
    return left


DEGRADATIONS: Final[Mapping[str, Degradation]] = {
    "none": Degradation("nothing", "", False, lambda image_HWC, amount, draws: image_HWC),
    "blur": Degradation("detail finer than the blur", "standard deviation, pixels", False, _blur),
    "downscale": Degradation("all but 1 / amount^2 of the pixels", "factor of each side", False, _downscale),
    "grey": Degradation("colour", "", False, _grey),
    "patches": Degradation(f"patches of {PATCH} x {PATCH} pixels", "share of them", True, _drop_patches),
}
"""Every degradation by its name."""
