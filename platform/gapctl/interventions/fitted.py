"""What every intervention comes to: one affine map per modality, after which rows are normalised again.

Index letters: N images, M texts, R rows of either, D embedding.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from gapctl.errors import InputError
from gapctl.metrics.gap import Array

VANISHED = 1e-9
"""A row whose norm is smaller has nothing left but rounding."""


class Clouds(NamedTuple):
    """The embeddings of both modalities: (N, D) and (M, D)."""

    image_ND: Array
    text_MD: Array


@dataclass(frozen=True)
class Affine:
    """Takes a row x to (x - offset) * scale, less its component along `without`, a unit vector, if there is one.

    With another `share` than 1 a row goes only so much of the way there.
    """

    offset_D: Array
    scale_D: Array
    without_D: Array | None = None
    share: float = 1.0

    def moved(self, row_RD: Array) -> Array:
        """The rows after the map, (R, D)."""
        moved_RD: Array = (row_RD - self.offset_D) * self.scale_D
        if self.without_D is not None:
            moved_RD -= np.outer(moved_RD @ self.without_D, self.without_D)
        return moved_RD if self.share == 1 else row_RD + self.share * (moved_RD - row_RD)


@dataclass(frozen=True)
class Fitted:
    """An intervention with all that it learned from the calibration split."""

    image: Affine
    text: Affine

    def partly(self, share: float) -> "Fitted":
        """The same, going only so much of the way: 0 changes nothing, and half of `shift 1` is `shift 0.5`."""
        return Fitted(replace(self.image, share=share), replace(self.text, share=share))

    def moved(self, image_ND: Array, text_MD: Array) -> Clouds:
        """L2-normalised embeddings after the maps, not normalised again."""
        return Clouds(self.image.moved(image_ND), self.text.moved(text_MD))

    def apply(self, image_ND: Array, text_MD: Array) -> Clouds:
        """L2-normalised embeddings after the maps, normalised; raises InputError where a row is left without length."""
        return Clouds(self.images(image_ND), self.texts(text_MD))

    def images(self, image_ND: Array) -> Array:
        """Images alone."""
        return _unit("image", self.image.moved(image_ND))

    def texts(self, text_MD: Array) -> Array:
        """Texts alone, class prompts for one."""
        return _unit("text", self.text.moved(text_MD))


def nothing(width: int) -> Fitted:
    """The intervention that changes nothing."""
    return Fitted(unchanged(width), unchanged(width))


def unchanged(width: int) -> Affine:
    """The map that takes a row to itself."""
    return Affine(np.zeros(width), np.ones(width))


def _unit(name: str, row_RD: Array) -> Array:
    norm_R = np.linalg.norm(row_RD, axis=1)
    gone_R = np.flatnonzero(~np.isfinite(norm_R) | (norm_R < VANISHED))
    if len(gone_R):
        raise InputError(
            f"{name} row {gone_R[0]} has no length left ({len(gone_R)} of {len(row_RD)} such rows), so it has no "
            "direction; the embeddings are too alike or too narrow for this intervention"
        )
    unit_RD: Array = row_RD / norm_R[:, None]
    return unit_RD
