"""The gap of a weighted gallery: what gapctl.metrics.gap computes, for many ways of drawing images at once.

Index letters: B resamples, U units of which the first N are the images, M texts, R rows of either, D embedding.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.interventions.fitted import Clouds
from gapctl.interventions.statistic import ItemMeans, Items
from gapctl.metrics.gap import LEAST_MATCHED_DISTANCE, Array

_MATCHED = "matched cosine"


class _Centre(NamedTuple):
    """A weighted cloud: its mean (B, D) and its mean cosine over pairs of different rows (B,)."""

    mean_BD: Array
    cosine_B: Array


@dataclass(frozen=True)
class GapStatistic:
    """gap/l2m and gap/rmg of L2-normalised clouds.

    `image_of_text_M` says with which image each text is drawn; None where texts are prompts, which always are.
    A row drawn twice makes no pair with itself, which would lower the spread within a modality.
    """

    clouds: Clouds
    image_of_text_M: NDArray[np.int64] | None
    matched: ItemMeans

    @classmethod
    def of(
        cls, clouds: Clouds, image_of_text_M: NDArray[np.int64] | None, prompt_of_N: NDArray[np.int64] | None
    ) -> "GapStatistic":
        """Texts match the images they are drawn with; prompts match the images that `prompt_of_N` gives them."""
        image_ND, text_MD = clouds
        if prompt_of_N is not None:
            drawn_P, text_P = np.arange(len(image_ND)), prompt_of_N
        else:
            drawn_P = np.arange(len(text_MD)) if image_of_text_M is None else image_of_text_M
            text_P = np.arange(len(text_MD))
        cosine_P = np.einsum("pd,pd->p", image_ND[drawn_P], text_MD[text_P])
        matched = ItemMeans.of({_MATCHED: Items(cosine_P, drawn_P)}, len(image_ND))
        return cls(clouds, None if prompt_of_N is not None else drawn_P, matched)

    def values(self, weight_BU: Array) -> dict[str, Array]:
        """Both measures; texts are drawn with their images, also where they share a caption."""
        weight_BN = weight_BU[:, : len(self.clouds.image_ND)]
        image, text = _centre(self.clouds.image_ND, weight_BN), _centre(self.clouds.text_MD, self._texts(weight_BN))
        between_B = (1 - self.matched.values(weight_BN)[_MATCHED]) / 2
        between_B = np.where(between_B > 0, between_B, LEAST_MATCHED_DISTANCE)
        within_B = ((1 - image.cosine_B) / 2 + (1 - text.cosine_B) / 2) / 2
        return {
            "gap/l2m": np.linalg.norm(image.mean_BD - text.mean_BD, axis=1),
            "gap/rmg": between_B / (between_B + within_B),
        }

    def drawn(self) -> dict[str, int]:
        """All images."""
        return dict.fromkeys(("gap/l2m", "gap/rmg"), len(self.clouds.image_ND))

    def _texts(self, weight_BN: Array) -> Array:
        if self.image_of_text_M is None:
            return np.ones((1, len(self.clouds.text_MD)))
        drawn_BM: Array = weight_BN[:, self.image_of_text_M]
        return drawn_BM


def _centre(row_RD: Array, weight_BR: Array) -> _Centre:
    sum_BD, weight_B = weight_BR @ row_RD, weight_BR.sum(axis=1)
    own_B = np.square(weight_BR) @ np.square(row_RD).sum(axis=1)
    pairs_B = weight_B**2 - np.square(weight_BR).sum(axis=1)
    return _Centre(sum_BD / weight_B[:, None], (np.square(sum_BD).sum(axis=1) - own_B) / pairs_B)
