"""The V-measure of a weighted gallery: the clusters stay as they were found, the rows in them are drawn anew.

Index letters: B resamples, U units, R rows of both modalities, P occupied pairs of cluster and label, C clusters or
labels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.gap import Array

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class ClusterStatistic:
    """quality/v_measure of rows whose clusters, labels and units are known.

    Rows are sorted by their pair of cluster and label; `start_P` is each pair's first row.
    """

    unit_R: Numbers
    start_P: Numbers
    cluster_P: Numbers
    label_P: Numbers

    @classmethod
    def of(cls, cluster_R: Numbers, label_R: Numbers, unit_R: Numbers) -> "ClusterStatistic":
        """From each row's cluster, label and the unit that it is drawn with."""
        cluster_R, label_R = (np.unique(each_R, return_inverse=True)[1] for each_R in (cluster_R, label_R))
        pair_R = cluster_R * (label_R.max() + 1) + label_R
        order_R = np.argsort(pair_R, kind="stable")
        start_P = np.unique(pair_R[order_R], return_index=True)[1]
        return cls(unit_R[order_R], start_P, cluster_R[order_R][start_P], label_R[order_R][start_P])

    def values(self, weight_BU: Array) -> dict[str, Array]:
        """As gapctl.metrics.clustering.v_measure has it, but 0 where all labels that were drawn are equal."""
        count_BP = np.add.reduceat(weight_BU[:, self.unit_R], self.start_P, axis=1)
        of_clusters_B, of_labels_B = (_entropy(_summed(count_BP, kind_P)) for kind_P in (self.cluster_P, self.label_P))
        both_B = of_clusters_B + of_labels_B
        shared_B = np.maximum(both_B - _entropy(count_BP), 0)
        return {"quality/v_measure": np.where(of_labels_B > 0, 2 * shared_B / np.where(both_B > 0, both_B, 1), 0)}

    def drawn(self) -> dict[str, int]:
        """How many units have rows."""
        return {"quality/v_measure": len(np.unique(self.unit_R))}


def _summed(count_BP: Array, kind_P: Numbers) -> Array:
    """The counts of pairs that share a cluster, or a label, (B, C)."""
    order_P = np.argsort(kind_P, kind="stable")
    start_C = np.unique(kind_P[order_P], return_index=True)[1]
    summed_BC: Array = np.add.reduceat(count_BP[:, order_P], start_C, axis=1)
    return summed_BC


def _entropy(count_BC: Array) -> Array:
    """The entropy of each row of counts, nats."""
    share_BC = count_BC / count_BC.sum(axis=1, keepdims=True)
    logarithm_BC = np.log(share_BC, where=share_BC > 0, out=np.zeros_like(share_BC))
    entropy_B: Array = -(share_BC * logarithm_BC).sum(axis=1)
    return entropy_B
