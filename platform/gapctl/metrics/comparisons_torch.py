"""Compare rows with rows by torch: the kernels of the metrics that look at every pair of a query and a gallery.

Each takes and returns numpy arrays. `comparisons_numpy.py` has the same functions for machines without torch.

Index letters: Q queries, G gallery, N images, M texts, R rows, D embedding, B a block of queries, S rows of a block, K
depths or nearest items, C clusters, A all items of both modalities.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gapctl.metrics.checks import Integers, Rows
from gapctl.metrics.comparisons_numpy import LLOYD_ROUNDS, TIE_TOLERANCE

ROWS_IN_CACHE = 32
"""Queries whose logits are computed together."""
UNIFORMITY_BLOCK = 64
OVERLAP_BLOCK = 128
RECALL_BLOCK = 128
"""Queries that are compared together: few enough that their cosines stay in the cache for the search of the nearest."""
SEARCH_BLOCK = 64


def compute_entropies(query_QD: Rows, gallery_GD: Rows, scale: float) -> Rows:
    """Return the entropy of each query's softmax(scale * q . gallery) in nats (Q,), in pieces that fit the cache."""
    gallery_DG = torch.from_numpy(np.ascontiguousarray(gallery_GD)).T
    query = torch.from_numpy(np.ascontiguousarray(query_QD))
    room_SG, spare_SG = query.new_empty(2, ROWS_IN_CACHE, len(gallery_GD))
    entropies = []
    for rows_SD in torch.split(query, ROWS_IN_CACHE):
        logits_SG = torch.matmul(scale * rows_SD, gallery_DG, out=room_SG[: len(rows_SD)])
        log_sum_S = torch.logsumexp(logits_SG, dim=1)
        weighted_SG = torch.sub(logits_SG, log_sum_S[:, None], out=spare_SG[: len(logits_SG)]).exp_().mul_(logits_SG)
        entropies.append(log_sum_S - weighted_SG.sum(dim=1))
    entropy_Q: Rows = torch.cat(entropies).numpy()
    return entropy_Q


def sum_gaussian_potentials(
    query_QD: Rows, query_key_Q: Integers, gallery_MD: Rows, gallery_key_M: Integers
) -> tuple[NDArray[np.float64], Integers]:
    """Return per query the sum of exp(4 cosine - 4) over items of another key, and their number."""
    query, gallery_DM = torch.from_numpy(np.ascontiguousarray(query_QD)), torch.from_numpy(gallery_MD).T
    key_Q, key_M = torch.from_numpy(query_key_Q), torch.from_numpy(gallery_key_M)
    sums, counts = [], []
    for block_BD, key_B in zip(torch.split(query, UNIFORMITY_BLOCK), torch.split(key_Q, UNIFORMITY_BLOCK), strict=True):
        kernel_BM = ((4 * block_BD) @ gallery_DM).sub_(4).exp_()
        same_BM = key_B[:, None] == key_M
        sums.append(kernel_BM.masked_fill_(same_BM, 0).sum(dim=1, dtype=torch.float64))
        counts.append(len(gallery_MD) - same_BM.sum(dim=1))
    return torch.cat(sums).numpy(), torch.cat(counts).numpy()


def compute_neighbor_overlaps(image_ND: Rows, text_ND: Rows, rows_Q: Integers, neighbors: int) -> NDArray[np.float64]:
    """Return for each pair in `rows_Q` how many of its nearest images have texts among its text's nearest (Q,)."""
    image, text = (torch.from_numpy(np.ascontiguousarray(rows_ND)) for rows_ND in (image_ND, text_ND))
    overlaps = [
        (_weigh_neighbors(rows_B, image, neighbors) * _weigh_neighbors(rows_B, text, neighbors)).sum(
            dim=1, dtype=torch.float64
        )
        for rows_B in torch.split(torch.from_numpy(rows_Q), OVERLAP_BLOCK)
    ]
    overlap_Q: NDArray[np.float64] = torch.cat(overlaps).numpy()
    return overlap_Q


def _weigh_neighbors(rows_B: torch.Tensor, cloud_ND: torch.Tensor, neighbors: int) -> torch.Tensor:
    """Return each row's probability of being among a query's nearest.

    It is 1, 0, or the row's share of the places that ties leave open.
    """
    cosine_BN = cloud_ND[rows_B] @ cloud_ND.T
    return weigh_nearest(cosine_BN.scatter_(1, rows_B[:, None], -2), neighbors)


def weigh_nearest(cosine_BN: torch.Tensor, neighbors: int) -> torch.Tensor:
    """Return the probability of each item that it is among a query's nearest, from all cosines or the largest ones."""
    last_B1 = torch.topk(cosine_BN, neighbors, dim=1).values[:, -1:]
    nearer_BN, near_BN = cosine_BN > last_B1 + TIE_TOLERANCE, cosine_BN >= last_B1 - TIE_TOLERANCE
    nearer_B1, near_B1 = nearer_BN.sum(dim=1, keepdim=True), near_BN.sum(dim=1, keepdim=True)
    open_B1 = ((neighbors - nearer_B1) / (near_B1 - nearer_B1)).to(cosine_BN.dtype)
    return torch.where(nearer_BN, 1.0, near_BN * open_B1)


def find_recall_hits(
    query_QD: Rows, gallery_GD: Rows, query_key_Q: Integers, gallery_key_G: Integers, depths: Sequence[int] = (1, 5, 10)
) -> NDArray[np.bool_]:
    """Return whether each query has an item of its own key among the k nearest, for each k in `depths`: (Q, K)."""
    gallery_DG = torch.from_numpy(np.ascontiguousarray(gallery_GD)).T
    gallery_key = torch.from_numpy(gallery_key_G)
    hits = []
    room_BG = gallery_DG.new_empty(min(RECALL_BLOCK, len(query_QD)), len(gallery_GD))
    query, query_key = torch.from_numpy(np.ascontiguousarray(query_QD)), torch.from_numpy(query_key_Q)
    blocks = zip(torch.split(query, RECALL_BLOCK), torch.split(query_key, RECALL_BLOCK), strict=True)
    for block_BD, key_B in blocks:
        cosine_BG = torch.matmul(block_BD, gallery_DG, out=room_BG[: len(block_BD)])
        nearest_BK = find_nearest(cosine_BG, max(depths))
        hit_BK = gallery_key[nearest_BK] == key_B[:, None]
        hits.append(torch.stack([hit_BK[:, :depth].any(dim=1) for depth in depths], dim=1))
    hit_QK: NDArray[np.bool_] = torch.cat(hits).numpy()
    return hit_QK


def find_nearest(cosine_BG: torch.Tensor, count: int) -> torch.Tensor:
    """Return the places of the largest cosines of each row, largest first, and of equal ones the earlier first (B, K).

    torch.topk alone leaves the order of equal ones open, and which of them it takes.
    """
    items = cosine_BG.shape[1]
    count = min(count, items)
    value_BK, place_BK = torch.topk(cosine_BG, min(count + 1, items), dim=1)
    tied_B = (value_BK[:, 1:] == value_BK[:, :-1]).any(dim=1)
    place_BK = place_BK[:, :count]
    if tied_B.any():
        cosine_TG, last_T1 = cosine_BG[tied_B], value_BK[tied_B, count - 1, None]
        # What is nearer than the last place is known; among its equals, the earliest have the largest ranks.
        rank_TG = (cosine_TG >= last_T1) * torch.arange(items, 0, -1)
        rank_TG.scatter_add_(1, place_BK[tied_B], items * (value_BK[tied_B, :count] > last_T1))
        some_TK = torch.topk(rank_TG, count, dim=1).indices.sort(dim=1).values
        order_TK = torch.sort(cosine_TG.gather(1, some_TK), dim=1, descending=True, stable=True).indices
        place_BK[tied_B] = some_TK.gather(1, order_TK)
    return place_BK


def compute_normalised_discounted_gains(
    query_QD: Rows, query_key_Q: Integers, own: tuple[Rows, Integers], other: tuple[Rows, Integers], depth: int
) -> NDArray[np.float64]:
    """Return the normalised discounted gain at `depth` of each query that has a match, in the order of queries.

    `own` are the rows and keys of the queries' modality, of which those with the query's key are left out of the
    gallery; `other` are those of the other modality, whose items with that key are the matches.
    """
    gallery_DA = torch.from_numpy(np.concatenate([other[0], own[0]])).T
    other_key_A, own_key_A = torch.from_numpy(other[1]), torch.from_numpy(own[1])
    query, key_Q = torch.from_numpy(query_QD), torch.from_numpy(query_key_Q)
    depth = min(depth, gallery_DA.shape[1])
    gains = [torch.empty(0, dtype=torch.float64)]
    for block_BD, key_B1 in zip(
        torch.split(query, SEARCH_BLOCK), torch.split(key_Q[:, None], SEARCH_BLOCK), strict=True
    ):
        matched_BM, left_out_BN = key_B1 == other_key_A, key_B1 == own_key_A
        cosine_BA = block_BD @ gallery_DA
        cosine_BA[:, len(other_key_A) :].masked_fill_(left_out_BN, -2)
        gains.append(_compute_ndcg(cosine_BA, matched_BM, depth))
    gain_Q: NDArray[np.float64] = torch.cat(gains).numpy()
    return gain_Q


def _compute_ndcg(cosine_BA: torch.Tensor, matched_BM: torch.Tensor, depth: int) -> torch.Tensor:
    counted_B = matched_BM.sum(dim=1)
    place_BK = find_nearest(cosine_BA, depth)
    of_other_BK = place_BK < matched_BM.shape[1]
    hit_BK = of_other_BK & torch.gather(matched_BM, 1, place_BK.clamp(max=matched_BM.shape[1] - 1))
    return compute_ndcg(hit_BK, counted_B)[counted_B > 0]


def compute_ndcg(hit_BK: torch.Tensor, counted_B: torch.Tensor) -> torch.Tensor:
    """Return each query's normalised discounted gain (B,): which of its nearest items match, of how many that do."""
    depth = hit_BK.shape[1]
    discount_K = 1 / torch.log2(torch.arange(2, depth + 2, dtype=torch.float64))
    ideal_B = torch.cumsum(discount_K, 0)[counted_B.clamp(1, depth) - 1]
    return (hit_BK * discount_K).sum(dim=1) / ideal_B


def cluster_rows(row_RD: Rows, clusters: int, rng: np.random.Generator) -> tuple[Integers, float]:
    """Return each row's cluster (R,) and the sum of squared distances, after k-means++ and Lloyd's algorithm."""
    row = torch.from_numpy(np.ascontiguousarray(row_RD))
    return _run_lloyd(row, _choose_centres(row, clusters, rng))


def _choose_centres(row_RD: torch.Tensor, clusters: int, rng: np.random.Generator) -> torch.Tensor:
    """Choose centres by k-means++: each is drawn in proportion to the squared distance from the nearest so far."""
    chosen = [int(rng.integers(len(row_RD)))]
    nearest_R = _compute_distances(row_RD, row_RD[chosen])[:, 0]
    for _ in range(clusters - 1):
        climbing_R = np.cumsum(nearest_R.numpy(), dtype=np.float64)
        chosen.append(min(int(np.searchsorted(climbing_R, rng.random() * climbing_R[-1])), len(row_RD) - 1))
        nearest_R = torch.minimum(nearest_R, _compute_distances(row_RD, row_RD[chosen[-1:]])[:, 0])
    return row_RD[chosen]


def _run_lloyd(row_RD: torch.Tensor, centre_CD: torch.Tensor) -> tuple[Integers, float]:
    cluster_R = torch.empty(0, dtype=torch.int64)
    spread = math.inf
    for _ in range(LLOYD_ROUNDS):
        nearest_R, moved_R = _compute_distances(row_RD, centre_CD).min(dim=1)
        spread = float(nearest_R.sum(dtype=torch.float64))
        if torch.equal(moved_R, cluster_R):
            break
        cluster_R = moved_R
        count_C1 = torch.bincount(cluster_R, minlength=len(centre_CD))[:, None]
        mean_CD = torch.zeros_like(centre_CD).index_add_(0, cluster_R, row_RD) / count_C1.clamp(min=1)
        centre_CD = torch.where(count_C1 > 0, mean_CD, centre_CD)
    return cluster_R.numpy(), spread


def _compute_distances(row_RD: torch.Tensor, centre_CD: torch.Tensor) -> torch.Tensor:
    """Return the squared distances (R, C) of unit rows from centres."""
    return (1 + centre_CD.square().sum(dim=1) - 2 * (row_RD @ centre_CD.T)).clamp_(min=0)
