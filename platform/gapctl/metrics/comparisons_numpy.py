"""Compare rows with rows by numpy alone: the functions of `comparisons_torch.py` for machines without torch.

Index letters: Q queries, G gallery, N images, M texts, R rows, D embedding, B a block of queries, K depths or nearest
items, C clusters.
"""

import math
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.checks import Integers, Rows

BLOCK = 128
"""Queries that are compared together."""
LLOYD_ROUNDS = 25
TIE_TOLERANCE = 1e-6
"""Cosines this close count as equal; otherwise rounding would decide among the texts of one caption."""
Element = TypeVar("Element", bound=np.generic)


def _cut_blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, BLOCK):
        yield slice(start, start + BLOCK)


def _join_blocks(blocks: Sequence[NDArray[Element]], empty: NDArray[Element]) -> NDArray[Element]:
    return np.concatenate(blocks) if blocks else empty


def compute_entropies(query_QD: Rows, gallery_GD: Rows, scale: float) -> Rows:
    """Return the entropy of each query's softmax(scale * q . gallery) in nats (Q,)."""
    entropies = []
    for rows in _cut_blocks(len(query_QD)):
        logits_BG = (query_QD[rows] * query_QD.dtype.type(scale)) @ gallery_GD.T
        largest_B1 = logits_BG.max(axis=1, keepdims=True)
        log_sum_B1 = largest_B1 + np.log(np.exp(logits_BG - largest_B1).sum(axis=1, keepdims=True))
        entropies.append(log_sum_B1[:, 0] - (np.exp(logits_BG - log_sum_B1) * logits_BG).sum(axis=1))
    return _join_blocks(entropies, np.empty(0, query_QD.dtype))


def sum_gaussian_potentials(
    query_QD: Rows, query_key_Q: Integers, gallery_MD: Rows, gallery_key_M: Integers
) -> tuple[NDArray[np.float64], Integers]:
    """Return per query the sum of exp(4 cosine - 4) over items of another key, and their number."""
    sums, counts = [], []
    for rows in _cut_blocks(len(query_QD)):
        other_BM = query_key_Q[rows, None] != gallery_key_M
        kernel_BM = np.exp(4 * (query_QD[rows] @ gallery_MD.T) - 4)
        sums.append((kernel_BM * other_BM).sum(axis=1, dtype=np.float64))
        counts.append(other_BM.sum(axis=1))
    return _join_blocks(sums, np.empty(0)), _join_blocks(counts, np.empty(0, np.int64))


def compute_neighbor_overlaps(image_ND: Rows, text_ND: Rows, rows_Q: Integers, neighbors: int) -> NDArray[np.float64]:
    """Return for each pair in `rows_Q` how many of its nearest images have texts among its text's nearest (Q,)."""
    overlaps = [
        (_weigh_neighbors(rows_Q[rows], image_ND, neighbors) * _weigh_neighbors(rows_Q[rows], text_ND, neighbors)).sum(
            axis=1, dtype=np.float64
        )
        for rows in _cut_blocks(len(rows_Q))
    ]
    return _join_blocks(overlaps, np.empty(0))


def _weigh_neighbors(rows_B: Integers, cloud_ND: Rows, neighbors: int) -> NDArray[np.floating]:
    """Return each row's probability of being among a query's nearest: 1, 0, or its share of what ties leave open."""
    cosine_BN = cloud_ND[rows_B] @ cloud_ND.T
    cosine_BN[np.arange(len(rows_B)), rows_B] = -2
    last_B1 = np.partition(cosine_BN, -neighbors, axis=1)[:, -neighbors, None]
    nearer_BN, near_BN = cosine_BN > last_B1 + TIE_TOLERANCE, cosine_BN >= last_B1 - TIE_TOLERANCE
    nearer_B1, near_B1 = nearer_BN.sum(axis=1, keepdims=True), near_BN.sum(axis=1, keepdims=True)
    return np.where(nearer_BN, 1.0, near_BN * ((neighbors - nearer_B1) / (near_B1 - nearer_B1)))


def find_recall_hits(
    query_QD: Rows, gallery_GD: Rows, query_key_Q: Integers, gallery_key_G: Integers, depths: Sequence[int] = (1, 5, 10)
) -> NDArray[np.bool_]:
    """Return whether each query has an item of its own key among the k nearest, for each k in `depths`: (Q, K)."""
    hits = []
    for rows in _cut_blocks(len(query_QD)):
        nearest_BK = find_nearest(query_QD[rows] @ gallery_GD.T, max(depths))
        hit_BK = gallery_key_G[nearest_BK] == query_key_Q[rows, None]
        hits.append(np.stack([hit_BK[:, :depth].any(axis=1) for depth in depths], axis=1))
    return _join_blocks(hits, np.empty((0, len(depths)), np.bool_))


def find_nearest(cosine_BG: Rows, count: int) -> Integers:
    """Return the places of the largest cosines of each row, largest first, and of equal ones the earlier first (B, K).

    Equal means equal to the last bit, as where a model maps all inputs to one point. Then every query has the same
    nearest items, and recall is at chance.
    """
    count = min(count, cosine_BG.shape[1])
    some_BK = np.argpartition(-cosine_BG, count - 1, axis=1)[:, :count]
    last_B1 = np.take_along_axis(cosine_BG, some_BK, axis=1).min(axis=1, keepdims=True)
    for row in np.flatnonzero((cosine_BG >= last_B1).sum(axis=1) > count):
        nearer, tied = np.flatnonzero(cosine_BG[row] > last_B1[row]), np.flatnonzero(cosine_BG[row] == last_B1[row])
        some_BK[row] = np.concatenate([nearer, tied])[:count]
    some_BK.sort(axis=1)
    order_BK = np.argsort(-np.take_along_axis(cosine_BG, some_BK, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some_BK, order_BK, axis=1)


def compute_normalised_discounted_gains(
    query_QD: Rows, query_key_Q: Integers, own: tuple[Rows, Integers], other: tuple[Rows, Integers], depth: int
) -> NDArray[np.float64]:
    """Return the normalised discounted gain at `depth` of each query that has a match, in the order of queries.

    `own` are the rows and keys of the queries' modality, of which those with the query's key are left out of the
    gallery; `other` are those of the other modality, whose items with that key are the matches.
    """
    texts = len(other[0])
    gallery_AD = np.concatenate([other[0], own[0]])
    depth = min(depth, len(gallery_AD))
    discount_K = 1 / np.log2(np.arange(2, depth + 2))
    gains = []
    for rows in _cut_blocks(len(query_QD)):
        matched_BM = query_key_Q[rows, None] == other[1]
        cosine_BA = query_QD[rows] @ gallery_AD.T
        cosine_BA[:, texts:][query_key_Q[rows, None] == own[1]] = -2
        place_BK = find_nearest(cosine_BA, depth)
        hit_BK = (place_BK < texts) & np.take_along_axis(matched_BM, np.minimum(place_BK, texts - 1), axis=1)
        counted_B = matched_BM.sum(axis=1)
        ideal_B = np.cumsum(discount_K)[np.clip(counted_B, 1, depth) - 1]
        gains.append(((hit_BK * discount_K).sum(axis=1) / ideal_B)[counted_B > 0])
    return _join_blocks(gains, np.empty(0))


def cluster_rows(row_RD: Rows, clusters: int, rng: np.random.Generator) -> tuple[Integers, float]:
    """Return each row's cluster (R,) and the sum of squared distances, after k-means++ and Lloyd's algorithm."""
    centre_CD, cluster_R, spread = _choose_centres(row_RD, clusters, rng), np.empty(0, np.int64), math.inf
    for _ in range(LLOYD_ROUNDS):
        distance_RC = _compute_distances(row_RD, centre_CD)
        moved_R = distance_RC.argmin(axis=1)
        spread = float(distance_RC.min(axis=1).sum(dtype=np.float64))
        if np.array_equal(moved_R, cluster_R):
            break
        cluster_R = moved_R
        count_C1 = np.bincount(cluster_R, minlength=clusters)[:, None]
        total_CD = np.zeros_like(centre_CD)
        np.add.at(total_CD, cluster_R, row_RD)
        centre_CD = np.where(count_C1 > 0, total_CD / np.maximum(count_C1, 1), centre_CD).astype(row_RD.dtype)
    return cluster_R, spread


def _choose_centres(row_RD: Rows, clusters: int, rng: np.random.Generator) -> Rows:
    """Choose centres by k-means++: each is drawn in proportion to the squared distance from the nearest so far."""
    chosen = [int(rng.integers(len(row_RD)))]
    nearest_R = _compute_distances(row_RD, row_RD[chosen])[:, 0]
    for _ in range(clusters - 1):
        climbing_R = np.cumsum(nearest_R, dtype=np.float64)
        chosen.append(min(int(np.searchsorted(climbing_R, rng.random() * climbing_R[-1])), len(row_RD) - 1))
        nearest_R = np.minimum(nearest_R, _compute_distances(row_RD, row_RD[chosen[-1:]])[:, 0])
    return row_RD[chosen]


def _compute_distances(row_RD: Rows, centre_CD: Rows) -> Rows:
    """Return the squared distances (R, C) of unit rows from centres."""
    distance_RC: Rows = np.maximum(1 + np.square(centre_CD).sum(axis=1) - 2 * (row_RD @ centre_CD.T), 0)
    return distance_RC
