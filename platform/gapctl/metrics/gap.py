"""The modality gap from sums over samples: one pass, any number of rows, mergeable, nothing N x N.

Definitions: arXiv 2404.07983, sec. 3 (L2M after arXiv 2203.02053; RMG), DESIGN section 6.
Index letters: N images, M texts (M = N where pairs are one to one), P matched pairs, D embedding.
"""

from dataclasses import dataclass
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.checks import check_numbers, check_range, check_unit_rows, make_pairing_error

Array = NDArray[np.float64]
LEAST_MATCHED_DISTANCE = 1e-3
"""What the official code takes for a matched distance that is not positive."""


@dataclass(frozen=True)
class CloudSums:
    """One modality: how many unit vectors were added, their sum (D,), and the sum of their squared norms."""

    count: int
    total_D: Array
    squares: float

    @classmethod
    def of(cls, cloud_ND: Array) -> "CloudSums":
        """The sums of some rows."""
        return cls(len(cloud_ND), cloud_ND.sum(axis=0), float(np.square(cloud_ND).sum()))

    def __add__(self, other: "CloudSums") -> "CloudSums":
        return CloudSums(self.count + other.count, self.total_D + other.total_D, self.squares + other.squares)

    @property
    def mean_D(self) -> Array:
        """The centroid."""
        return self.total_D / self.count

    @property
    def cosine_between(self) -> float:
        """Mean cosine over i != j."""
        return float((self.total_D @ self.total_D - self.squares) / (self.count * (self.count - 1)))

    @property
    def cosine_with_self(self) -> float:
        """Mean cosine over all i, j, self-pairs included."""
        return float(self.total_D @ self.total_D / self.count**2)


@dataclass(frozen=True)
class MatchedSums:
    """Matched pairs: how many, the sum of their cosines and of their distances."""

    count: int
    cosine: float
    distance: float

    @classmethod
    def of(cls, image_PD: Array, text_PD: Array) -> "MatchedSums":
        """The sums over rows that match one to one."""
        cosine = float(np.einsum("pd,pd->", image_PD, text_PD))
        return cls(len(image_PD), cosine, float(np.linalg.norm(image_PD - text_PD, axis=1).sum()))

    def __add__(self, other: "MatchedSums") -> "MatchedSums":
        return MatchedSums(self.count + other.count, self.cosine + other.cosine, self.distance + other.distance)


@dataclass(frozen=True)
class GapSums:
    """Everything that the gap's measures need; add two to merge what two workers saw."""

    image: CloudSums
    text: CloudSums
    matched: MatchedSums

    @classmethod
    def of(cls, image_ND: Array, text_MD: Array, text_to_image_M: NDArray[np.int64] | None = None) -> "GapSums":
        """The sums of L2-normalised embeddings; text j matches image `text_to_image_M[j]`, or image j.

        Raises InputError for rows of another length than one, and for numbers that are no image's.
        """
        check_unit_rows(image=image_ND, text=text_MD)
        if text_to_image_M is not None:
            check_numbers("text_to_image", text_to_image_M, len(text_MD), "text")
            check_range("text_to_image", text_to_image_M, len(image_ND), "the row of an image")
        elif len(image_ND) != len(text_MD):
            raise make_pairing_error(len(image_ND), len(text_MD))
        partner_MD = image_ND if text_to_image_M is None else image_ND[text_to_image_M]
        return cls(CloudSums.of(image_ND), CloudSums.of(text_MD), MatchedSums.of(partner_MD, text_MD))

    def __add__(self, other: "GapSums") -> "GapSums":
        return GapSums(self.image + other.image, self.text + other.text, self.matched + other.matched)

    @property
    def mean_difference_D(self) -> Array:
        """mean(image) - mean(text)."""
        return self.image.mean_D - self.text.mean_D

    def l2m(self) -> float:
        """The norm of the mean difference."""
        return float(np.linalg.norm(self.mean_difference_D))

    def l2i(self) -> float:
        """The mean distance of matched pairs."""
        return self.matched.distance / self.matched.count

    def alignment(self) -> float:
        """The mean squared distance of matched pairs (arXiv 2005.10242)."""
        return 2 - 2 * self._matched_cosine

    def rmg(self) -> float:
        """Matched distance m over m plus the mean intra-modal distance, self-pairs left out."""
        return _compute_relative_gap(self._matched_cosine, self.image.cosine_between, self.text.cosine_between)

    def rmg_with_diagonal(self) -> float:
        """The same with self-pairs in the intra-modal means."""
        return _compute_relative_gap(self._matched_cosine, self.image.cosine_with_self, self.text.cosine_with_self)

    def centroid_share(self) -> float:
        """The share of the mean squared matched distance that the two means explain."""
        return self.l2m() ** 2 / max(2 - 2 * self._matched_cosine, np.finfo(float).tiny)

    @property
    def _matched_cosine(self) -> float:
        return self.matched.cosine / self.matched.count


def _compute_relative_gap(matched: float, within_image: float, within_text: float) -> float:
    between = (1 - matched) / 2
    between = between if between > 0 else LEAST_MATCHED_DISTANCE
    within = ((1 - within_image) / 2 + (1 - within_text) / 2) / 2
    return between / (between + within)


def gap_direction(image_mean_D: Array, text_mean_D: Array) -> Array:
    """The unit vector from the mean text to the mean image (D,); zeros where there is no gap."""
    difference_D = image_mean_D - text_mean_D
    length = np.linalg.norm(difference_D)
    axis_D: Array = difference_D / length if length > 0 else difference_D
    return axis_D


def compute_gap_shares(mean_difference_D: Array) -> Array:
    """Each dimension's share of the squared mean difference, largest first; zeros where there is no gap."""
    squared_D = np.sort(np.square(mean_difference_D))[::-1]
    total = squared_D.sum()
    return squared_D / total if total > 0 else squared_D


def sum_top_shares(mean_difference_D: Array, count: int) -> float:
    """The share that the `count` largest dimensions carry."""
    return float(compute_gap_shares(mean_difference_D)[:count].sum())


def count_dimensions(mean_difference_D: Array, share: float) -> int:
    """How many of the largest dimensions carry at least `share`; 0 where there is no gap."""
    carried_D = np.cumsum(compute_gap_shares(mean_difference_D))
    return 0 if carried_D[-1] == 0 else int(np.searchsorted(carried_D, share - 1e-12) + 1)


class DimensionOverlap(NamedTuple):
    """The share of leading dimensions that two models have in common, and what unrelated choices have on average.

    `p` is how often these have at least as many in common (hypergeometric).
    """

    share: float
    chance: float
    p: float


def find_leading_dimensions(mean_difference_D: Array, count: int) -> NDArray[np.int64]:
    """The dimensions that carry most of the gap, largest first; of equal ones the earlier."""
    return np.argsort(-np.abs(mean_difference_D), kind="stable")[:count]


def measure_dimension_overlap(one_D: Array, other_D: Array, count: int) -> DimensionOverlap:
    """Whether the same dimensions carry the gap of two models of one width, by their mean differences.

    Raises ValueError where the widths differ or there are fewer than `count` dimensions.
    """
    width = len(one_D)
    if len(other_D) != width or not 0 < count <= width:
        raise ValueError(f"{count} leading dimensions of {width} and of {len(other_D)} do not compare")
    shared = len(np.intersect1d(find_leading_dimensions(one_D, count), find_leading_dimensions(other_D, count)))
    ways = sum(comb(count, same) * comb(width - count, count - same) for same in range(shared, count + 1))
    return DimensionOverlap(shared / count, count / width, ways / comb(width, count))
