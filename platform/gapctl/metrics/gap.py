"""Measure the modality gap from sums over samples: one pass, any number of rows, and no N x N matrix.

Definitions: arXiv 2404.07983, sec. 3 (L2M after arXiv 2203.02053; RMG); docs/reference/metrics.md. A new
metric has its formula here, its name in `streaming.EmbeddingSums.metrics` and its meaning in `config/metrics.py`.

Index letters: N images, M texts (M = N where pairs are one to one), P matched pairs, D embedding.
"""

import math
from dataclasses import dataclass, field, fields
from math import comb
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.checks import (
    Integers,
    check_index_range,
    check_integers_per_row,
    check_unit_rows,
    make_pairing_error,
)

Array = NDArray[np.float64]
LEAST_MATCHED_DISTANCE = 1e-3
"""The official code's substitute for a mean matched distance that is not positive."""


@dataclass(frozen=True)
class Sums:
    """Sums over rows. Add two to merge the rows of two workers: each field is added, and so are sums within sums."""

    def __add__(self, other: Self) -> Self:
        """Raise ValueError if only one of both has a sum that may be left out."""
        added: list[object] = []
        for each in fields(self):
            one, another = getattr(self, each.name), getattr(other, each.name)
            if (one is None) != (another is None):
                what = each.metadata["meaning"]
                raise ValueError(
                    f"one of two sums has no {what}, so that they cannot be added; give both the same inputs"
                )
            if isinstance(one, tuple):
                added.append(tuple(first + second for first, second in zip(one, another, strict=True)))
            else:
                added.append(None if one is None else one + another)
        return type(self)(*added)


@dataclass(frozen=True)
class CloudSums(Sums):
    """Sums over the unit rows of one modality: their count, their sum (D,), and the sum of their squared norms."""

    count: int
    total_D: Array
    squares: float

    @classmethod
    def of(cls, cloud_ND: Array) -> "CloudSums":
        """Return the sums of the rows (N, D)."""
        return cls(len(cloud_ND), cloud_ND.sum(axis=0), float(np.square(cloud_ND).sum()))

    @property
    def mean_D(self) -> Array:
        """The centroid (D,)."""
        return self.total_D / self.count

    @property
    def cosine_between(self) -> float:
        """Mean cosine over pairs i != j."""
        return float((self.total_D @ self.total_D - self.squares) / (self.count * (self.count - 1)))

    @property
    def cosine_with_self(self) -> float:
        """Mean cosine over all pairs i, j, each row with itself included."""
        return float(self.total_D @ self.total_D / self.count**2)


@dataclass(frozen=True)
class MatchedSums(Sums):
    """Sums over matched pairs: their count, and the sums of their cosines, their distances and their differences (D,).

    Where images have several texts each, the mean of the differences need not be that of images less that of texts.
    Differences are None where no measure needs them.
    """

    count: int
    cosine: float
    distance: float
    difference_D: Array | None = field(default=None, metadata={"meaning": "differences of pairs"})

    @classmethod
    def of(cls, image_PD: Array, text_PD: Array) -> "MatchedSums":
        """Return the sums over pairs; row i of both arrays (P, D) is a pair."""
        cosine = float(np.einsum("pd,pd->", image_PD, text_PD))
        difference_PD = image_PD - text_PD
        distance = float(np.linalg.norm(difference_PD, axis=1).sum())
        return cls(len(image_PD), cosine, distance, difference_PD.sum(axis=0))


@dataclass(frozen=True)
class GapSums(Sums):
    """The sums from which all measures of the gap follow."""

    image: CloudSums
    text: CloudSums
    matched: MatchedSums

    @classmethod
    def of(cls, image_ND: Array, text_MD: Array, text_to_image_M: Integers | None = None) -> "GapSums":
        """Return the sums of L2-normalised embeddings; text j matches image `text_to_image_M[j]`, or else image j.

        Raise InputError for rows that are not of length one, and for an entry of `text_to_image_M` that is no image's
        row.
        """
        check_unit_rows(image=image_ND, text=text_MD)
        if text_to_image_M is not None:
            check_integers_per_row("text_to_image", text_to_image_M, len(text_MD), "text")
            check_index_range("text_to_image", text_to_image_M, len(image_ND), "the row of an image")
        elif len(image_ND) != len(text_MD):
            raise make_pairing_error(len(image_ND), len(text_MD))
        partner_MD = image_ND if text_to_image_M is None else image_ND[text_to_image_M]
        return cls(CloudSums.of(image_ND), CloudSums.of(text_MD), MatchedSums.of(partner_MD, text_MD))

    @property
    def mean_difference_D(self) -> Array:
        """The mean image minus the mean text (D,)."""
        return self.image.mean_D - self.text.mean_D

    def l2m(self) -> float:
        """Return the norm of the mean difference."""
        return float(np.linalg.norm(self.mean_difference_D))

    def temperature_gain(self) -> float:
        """Return the logarithm of the factor by which a constant offset as large as the mean gap raises a temperature.

        Two clouds that are a distance L apart and otherwise alike keep 1 - (L / 2)^2 of their squared length for what
        differs between rows, so that their cosines spread by so much less: as at a temperature divided by it.
        """
        return -math.log(max(1 - (self.l2m() / 2) ** 2, np.finfo(float).tiny))

    def l2i(self) -> float:
        """Return the mean distance of matched pairs."""
        return self.matched.distance / self.matched.count

    def alignment(self) -> float:
        """Return the mean squared distance of matched pairs (arXiv 2005.10242)."""
        return 2 - 2 * self._matched_cosine

    def rmg(self) -> float:
        """Return the relative modality gap m / (m + w): m the mean distance of matched pairs, w that within modalities.

        Distances are (1 - cosine) / 2. Pairs of a row with itself are left out of w.
        """
        within_image, within_text = self.image.cosine_between, self.text.cosine_between
        return float(compute_relative_gap(self._matched_cosine, within_image, within_text))

    def rmg_with_diagonal(self) -> float:
        """Return the relative modality gap with each row's pair with itself included in the means within modalities."""
        within_image, within_text = self.image.cosine_with_self, self.text.cosine_with_self
        return float(compute_relative_gap(self._matched_cosine, within_image, within_text))

    def rmg_shifted(self) -> float:
        """Return the relative modality gap after one modality was moved by the mean difference, so that means coincide.

        Rows are not put back on the sphere: a distance is a quarter of the squared one, which on the sphere is (1 -
        cosine) / 2. Those within modalities stay as they are.
        """
        assert self.matched.difference_D is not None
        shift_D, pair_D = self.mean_difference_D, self.matched.difference_D / self.matched.count
        nearer = float(2 * shift_D @ pair_D - shift_D @ shift_D)  # by so much squared distances of pairs shrink
        matched = self._matched_cosine + nearer / 2
        return float(compute_relative_gap(matched, self.image.cosine_between, self.text.cosine_between))

    def centroid_share(self) -> float:
        """Return the share of the mean squared matched distance that the distance of the two means explains."""
        return self.l2m() ** 2 / max(2 - 2 * self._matched_cosine, np.finfo(float).tiny)

    @property
    def _matched_cosine(self) -> float:
        return self.matched.cosine / self.matched.count


def compute_relative_gap(matched: float | Array, within_image: float | Array, within_text: float | Array) -> Array:
    """Return the relative modality gap from mean cosines: of matched pairs, and of pairs within each modality."""
    between = np.asarray((1 - matched) / 2)
    between = np.where(between > 0, between, LEAST_MATCHED_DISTANCE)
    within = ((1 - within_image) / 2 + (1 - within_text) / 2) / 2
    gap: Array = between / (between + within)
    return gap


def gap_direction(image_mean_D: Array, text_mean_D: Array) -> Array:
    """Return the unit vector from the mean text to the mean image (D,), or zeros if the means are equal."""
    difference_D = image_mean_D - text_mean_D
    length = np.linalg.norm(difference_D)
    axis_D: Array = difference_D / length if length > 0 else difference_D
    return axis_D


def compute_gap_shares(mean_difference_D: Array) -> Array:
    """Return each dimension's share of the squared mean difference (D,), largest first; zeros if there is no gap."""
    squared_D = np.sort(np.square(mean_difference_D))[::-1]
    total = squared_D.sum()
    return squared_D / total if total > 0 else squared_D


def compute_top_dimensions_share(mean_difference_D: Array, count: int) -> float:
    """Return the share of the squared mean difference in its `count` largest dimensions."""
    return float(compute_gap_shares(mean_difference_D)[:count].sum())


def count_dimensions_for_share(mean_difference_D: Array, share: float) -> int:
    """Return the smallest number of dimensions that carry at least `share` of the gap; 0 if there is no gap."""
    carried_D = np.cumsum(compute_gap_shares(mean_difference_D))
    return 0 if carried_D[-1] == 0 else int(np.searchsorted(carried_D, share - 1e-12) + 1)


class DimensionOverlap(NamedTuple):
    """The share of leading dimensions that two models have in common, and its mean for unrelated models.

    `p` is the probability that unrelated models have at least as many in common (hypergeometric).
    """

    share: float
    chance: float
    p: float


def find_leading_dimensions(mean_difference_D: Array, count: int) -> Integers:
    """Return the `count` dimensions that carry most of the gap, largest first, ties in ascending order."""
    return np.argsort(-np.abs(mean_difference_D), kind="stable")[:count]


def measure_dimension_overlap(one_D: Array, other_D: Array, count: int) -> DimensionOverlap:
    """Return how many leading dimensions two models of one width share, given their mean differences (D,).

    Raise ValueError if the widths differ or there are fewer than `count` dimensions.
    """
    width = len(one_D)
    if len(other_D) != width or not 0 < count <= width:
        raise ValueError(f"{count} leading dimensions of {width} and of {len(other_D)} do not compare")
    shared = len(np.intersect1d(find_leading_dimensions(one_D, count), find_leading_dimensions(other_D, count)))
    ways = sum(comb(count, same) * comb(width - count, count - same) for same in range(shared, count + 1))
    return DimensionOverlap(shared / count, count / width, ways / comb(width, count))
