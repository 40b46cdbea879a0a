"""Object bias (MOAD, arXiv 2404.07983, sec. 3): exact means over all pairs i < j, from sums per label.

Index letters: N embeddings, F attribute factors, D embedding, K labels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.gap import Array

Labels = NDArray[np.int64]


class SameDifferent(NamedTuple):
    """Mean cosine of pairs that share a label, and of pairs that do not; NaN where there is no such pair."""

    same: float
    different: float


class Moad(NamedTuple):
    """Object bias and its parts: `value` is (object same - different) - (attribute same - different)."""

    value: float
    object: SameDifferent
    attribute: SameDifferent


def same_and_different(embedding_ND: Array, label_N: Labels) -> SameDifferent:
    """Mean cosine over pairs i < j with equal and with unequal labels, of L2-normalised rows."""
    _, index_N, count_K = np.unique(label_N, return_inverse=True, return_counts=True)
    sum_KD = np.zeros((len(count_K), embedding_ND.shape[1]))
    np.add.at(sum_KD, index_N, embedding_ND)
    squares = float(np.square(embedding_ND).sum())
    total_D = sum_KD.sum(axis=0)
    same = (float(np.square(sum_KD).sum()) - squares) / 2
    everything = (float(total_D @ total_D) - squares) / 2
    pairs_same = int((count_K * (count_K - 1) // 2).sum())
    pairs = len(label_N) * (len(label_N) - 1) // 2
    return SameDifferent(_ratio(same, pairs_same), _ratio(everything - same, pairs - pairs_same))


def moad(embedding_ND: Array, object_N: Labels, attribute_NF: Labels) -> Moad:
    """Object bias; attributes are compared within each factor (column) and averaged over factors."""
    by_object = same_and_different(embedding_ND, object_N)
    columns = attribute_NF.reshape(len(embedding_ND), -1).T
    by_factor = np.array([same_and_different(embedding_ND, column) for column in columns])
    by_attribute = SameDifferent(*(float(value) for value in by_factor.mean(axis=0)))
    value = (by_object.same - by_object.different) - (by_attribute.same - by_attribute.different)
    return Moad(value, by_object, by_attribute)


def _ratio(total: float, count: int) -> float:
    return total / count if count else float("nan")
