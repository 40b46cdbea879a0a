"""How many directions each modality uses, and the angle between the subspaces that they span (arXiv 2510.03268).

All of it follows from sums of products of coordinates, (D, D) whatever the number of rows.

Index letters: N embeddings, D embedding, R directions of a subspace.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.gap import Array

CARRIED: Final = 0.9
"""The share of a cloud's squared length that its subspace carries."""


@dataclass(frozen=True)
class SecondMoments:
    """The sum of x x' over the rows of one modality; add two to merge what two workers saw."""

    total_DD: Array

    @classmethod
    def of(cls, cloud_ND: NDArray[np.floating]) -> "SecondMoments":
        """The sums of some rows, in float64."""
        wide_ND = cloud_ND.astype(np.float64, copy=False)
        return cls(wide_ND.T @ wide_ND)

    def __add__(self, other: "SecondMoments") -> "SecondMoments":
        return SecondMoments(self.total_DD + other.total_DD)

    def spectrum(self) -> tuple[Array, Array]:
        """Squared singular values of the cloud (D,), largest first, and their directions as columns (D, D).

        What rounding alone leaves where the rank is smaller is zero.
        """
        squared_D, direction_DD = np.linalg.eigh(self.total_DD)
        rounding = squared_D[-1] * len(squared_D) * np.finfo(np.float64).eps
        return np.where(squared_D > rounding, squared_D, 0.0)[::-1], direction_DD[:, ::-1]


def effective_rank(moments: SecondMoments) -> float:
    """exp of the entropy of the singular values as shares of their sum (Roy and Vetterli 2007), means not removed.

    1 where all rows are on one line, at most D.
    """
    singular_D = np.sqrt(moments.spectrum()[0])
    share_D = singular_D[singular_D > 0] / singular_D.sum()
    return math.exp(-float(share_D @ np.log(share_D)))


def smallest_principal_angle(image: SecondMoments, text: SecondMoments) -> float:
    """The smallest angle between the modalities' subspaces, in degrees; 0 where they share a direction.

    A modality's subspace is spanned by the fewest of its singular directions that carry 90 % of its squared length
    (from the origin: the mean is in it). Two subspaces of together more than D directions always share one.
    """
    image_DR, text_DR = _basis(image), _basis(text)
    if image_DR.shape[1] + text_DR.shape[1] > len(image_DR):
        return 0.0
    cosine = np.linalg.svd(image_DR.T @ text_DR, compute_uv=False)[0]
    return math.degrees(_angle(float(cosine), image_DR, text_DR))


def _angle(cosine: float, image_DR: Array, text_DR: Array) -> float:
    """By its sine where it is small, since the cosine of a small angle is 1 to most of its digits."""
    if cosine < math.sqrt(0.5):
        return math.acos(cosine)
    fewer_DR, more_DR = sorted((image_DR, text_DR), key=lambda basis_DR: basis_DR.shape[1])
    outside_DR = fewer_DR - more_DR @ (more_DR.T @ fewer_DR)
    return math.asin(min(1.0, float(np.linalg.svd(outside_DR, compute_uv=False)[-1])))


def _basis(moments: SecondMoments) -> Array:
    squared_D, direction_DD = moments.spectrum()
    carried_D = np.cumsum(squared_D) / squared_D.sum()
    return direction_DD[:, : int(np.searchsorted(carried_D, CARRIED - 1e-12)) + 1]
