"""Measure object bias (MOAD, arXiv 2404.07983, sec. 3): exact means over all pairs i < j, from sums per label.

Index letters: N embeddings, F attribute factors, D embedding, K labels.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gapctl.metrics.checks import Integers, Rows, check_integer_keys, check_integers_per_row, check_unit_rows
from gapctl.metrics.gap import Array, Sums


class SameDifferentCosine(NamedTuple):
    """Mean cosine of pairs that share a label, and of pairs that do not; NaN if there is no such pair."""

    same: float
    different: float


class Moad(NamedTuple):
    """Object bias and its parts: `value` is (object same - different) - (attribute same - different)."""

    value: float
    object: SameDifferentCosine
    attribute: SameDifferentCosine


@dataclass(frozen=True)
class LabelSums(Sums):
    """Sums of unit rows by label: the labels in ascending order (K,), their counts (K,), their sums in float64 (K, D).

    `squares` is the sum of all squared norms. The labels of two sums that are added may differ.
    """

    label_K: Integers
    count_K: Integers
    total_KD: Array
    squares: float

    @classmethod
    def of(cls, embedding_ND: Rows, label_N: Integers) -> "LabelSums":
        """Return the sums of the rows (N, D) by their labels (N,), in float64."""
        label_K, count_K = np.unique(label_N, return_counts=True)
        sorted_ND = embedding_ND[np.argsort(label_N, kind="stable")]
        total_KD = np.stack(
            [rows_KD.sum(axis=0, dtype=np.float64) for rows_KD in np.split(sorted_ND, np.cumsum(count_K)[:-1])]
        )
        return cls(label_K, count_K, total_KD, float(np.square(embedding_ND).sum(dtype=np.float64)))

    def __add__(self, other: "LabelSums") -> "LabelSums":
        squares = self.squares + other.squares
        if np.array_equal(self.label_K, other.label_K):
            return LabelSums(self.label_K, self.count_K + other.count_K, self.total_KD + other.total_KD, squares)
        label_K = np.union1d(self.label_K, other.label_K)
        count_K = np.zeros(len(label_K), np.int64)
        total_KD = np.zeros((len(label_K), self.total_KD.shape[1]))
        for part in (self, other):
            place_K = np.searchsorted(label_K, part.label_K)
            count_K[place_K] += part.count_K
            total_KD[place_K] += part.total_KD
        return LabelSums(label_K, count_K, total_KD, squares)

    def mean_cosines(self) -> SameDifferentCosine:
        """Return the mean cosine over pairs i < j with equal and with unequal labels."""
        total_D = self.total_KD.sum(axis=0)
        same = (float(np.square(self.total_KD).sum()) - self.squares) / 2
        everything = (float(total_D @ total_D) - self.squares) / 2
        pairs_same = int((self.count_K * (self.count_K - 1) // 2).sum())
        count = int(self.count_K.sum())
        pairs = count * (count - 1) // 2
        return SameDifferentCosine(
            _divide_or_nan(same, pairs_same), _divide_or_nan(everything - same, pairs - pairs_same)
        )

    def separation(self) -> float:
        """Return same - different as a share of its maximum; NaN where no pair has equal or no pair unequal labels."""
        cosines, labels = self.mean_cosines(), int(np.count_nonzero(self.count_K))
        return float(cosines.same - cosines.different) * (labels - 1) / max(labels, 1)


@dataclass(frozen=True)
class BiasSums(Sums):
    """One modality's sums by object, and by attribute for each factor."""

    by_object: LabelSums
    by_factor: tuple[LabelSums, ...]

    @classmethod
    def of(cls, embedding_ND: Array, object_N: Integers, attribute_NF: Integers) -> "BiasSums":
        """Return the sums of the rows (N, D) by object (N,) and by each column of the attributes (N, F)."""
        columns = attribute_NF.reshape(len(embedding_ND), -1).T
        by_factor = tuple(LabelSums.of(embedding_ND, column_N) for column_N in columns)
        return cls(LabelSums.of(embedding_ND, object_N), by_factor)

    def moad(self) -> Moad:
        """Return object bias. Attributes are compared within each factor and averaged over factors."""
        by_object = self.by_object.mean_cosines()
        by_factor = np.array([sums.mean_cosines() for sums in self.by_factor])
        by_attribute = SameDifferentCosine(*(float(value) for value in by_factor.mean(axis=0)))
        value = (by_object.same - by_object.different) - (by_attribute.same - by_attribute.different)
        return Moad(value, by_object, by_attribute)

    def moad_normalised(self) -> float:
        """Return object bias with each kind of label's same - different as a share of its maximum.

        Of unit rows with C labels, equally frequent, that is C / (C - 1): each label's rows are one, and the labels a
        simplex. Two labels may lie twice as far apart as ten do.
        """
        return self.by_object.separation() - float(np.mean([sums.separation() for sums in self.by_factor]))

    def metrics(self, side: str) -> dict[str, float]:
        """Return object bias and its four parts by name, for embeddings of the side `image` or `text`."""
        bias = self.moad()
        return {
            f"bias/moad_{side}": bias.value,
            f"bias/moad_{side}_normalised": self.moad_normalised(),
            f"bias/object_same_{side}": bias.object.same,
            f"bias/object_different_{side}": bias.object.different,
            f"bias/attribute_same_{side}": bias.attribute.same,
            f"bias/attribute_different_{side}": bias.attribute.different,
        }


def mean_label_cosines(embedding_ND: Array, label_N: Integers) -> SameDifferentCosine:
    """Return the mean cosine over pairs i < j with equal and with unequal labels, for L2-normalised rows (N, D).

    Raise InputError for rows that are not of length one or have no label.
    """
    check_unit_rows(embedding=embedding_ND)
    check_integer_keys(embedding=(embedding_ND, label_N))
    return LabelSums.of(embedding_ND, label_N).mean_cosines()


def moad(embedding_ND: Array, object_N: Integers, attribute_NF: Integers) -> Moad:
    """Return object bias of L2-normalised rows (N, D); each column of `attribute_NF` is a factor.

    Attributes are compared within each factor and averaged over factors. Raise InputError for rows that are not of
    length one or have no label.
    """
    check_unit_rows(embedding=embedding_ND)
    check_integer_keys(embedding=(embedding_ND, object_N))
    check_integers_per_row("attributes", attribute_NF, len(embedding_ND), "embedding", columns=True)
    return BiasSums.of(embedding_ND, object_N, attribute_NF).moad()


def _divide_or_nan(total: float, count: int) -> float:
    return total / count if count else float("nan")
