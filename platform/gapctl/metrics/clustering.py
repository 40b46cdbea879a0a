"""Measure whether images and texts of one class share a cluster: k-means on both, against labels (arXiv 2601.18525).

Index letters: N images, M texts, R rows of both modalities, D embedding, C clusters, L labels.
"""

import math
from typing import Final, NamedTuple

import numpy as np

from gapctl.metrics.checks import Integers, Rows, RowSource, check_integer_keys, check_unit_rows
from gapctl.metrics.comparisons import cluster_rows
from gapctl.metrics.gap import Array
from gapctl.metrics.sampling import DrawPurpose, SampleEstimate, make_metric_generator, sample_row_numbers

KMEANS_STARTS: Final = 3


class Clusters(NamedTuple):
    """Each row's cluster (R,), and the sum of squared distances to the clusters' centres."""

    cluster_R: Integers
    spread: float


def estimate_clustering_v_measure(
    image_ND: RowSource, image_label_N: Integers, text_MD: RowSource, text_label_M: Integers, most: int
) -> SampleEstimate:
    """Measure the V-measure of k-means over the unit rows of both modalities together.

    There are as many clusters as labels. At most `most` rows of each modality are drawn. The estimate has no interval.
    """
    check_unit_rows(image=image_ND, text=text_MD)
    check_integer_keys(image=(image_ND, image_label_N), text=(text_MD, text_label_M))
    image_rows, text_rows = (sample_row_numbers(DrawPurpose.PAIRS, len(cloud), most) for cloud in (image_ND, text_MD))
    row_RD = np.concatenate([image_ND[image_rows], text_MD[text_rows]])
    label_R = np.concatenate([image_label_N[image_rows], text_label_M[text_rows]])
    value = v_measure(k_means(row_RD, len(np.unique(label_R))).cluster_R, label_R)
    return SampleEstimate(value, math.nan, math.nan, len(row_RD), len(image_ND) + len(text_MD))


def v_measure(cluster_R: Integers, label_R: Integers) -> float:
    """Return the harmonic mean of homogeneity and completeness (Rosenberg and Hirschberg 2007), 0 to 1.

    Homogeneity is the information that a row's cluster gives about its label, as a share of the labels' entropy;
    completeness is the same with labels and clusters exchanged. NaN if all labels are equal.
    """
    cluster_of_R, label_of_R = (np.unique(each_R, return_inverse=True)[1] for each_R in (cluster_R, label_R))
    together = _compute_entropy(np.bincount(cluster_of_R * (label_of_R.max() + 1) + label_of_R))
    of_clusters, of_labels = _compute_entropy(np.bincount(cluster_of_R)), _compute_entropy(np.bincount(label_of_R))
    if of_labels == 0:
        return math.nan
    shared = max(of_clusters + of_labels - together, 0.0)
    return 2 * shared / (of_clusters + of_labels)


def k_means(row_RD: Rows, clusters: int) -> Clusters:
    """Return the best of three seeded k-means++ starts, each at most 25 rounds of Lloyd's algorithm.

    A cluster without rows keeps its centre. Rows in half precision are widened, as their sums would stand still from
    2,048 on and overflow beyond 65,504. Raise ValueError if there are fewer rows than clusters.
    """
    if row_RD.dtype.itemsize < 4:
        row_RD = row_RD.astype(np.float32)
    if len(row_RD) < clusters:
        raise ValueError(f"{len(row_RD)} rows do not make {clusters} clusters")
    rng = make_metric_generator(DrawPurpose.CENTROIDS)
    starts = (Clusters(*cluster_rows(row_RD, clusters, rng)) for _ in range(KMEANS_STARTS))
    return min(starts, key=lambda clusters: clusters.spread)


def _compute_entropy(count_L: Integers) -> float:
    share_L: Array = count_L[count_L > 0] / count_L.sum()
    return -float(share_L @ np.log(share_L)) if len(share_L) > 1 else 0.0
