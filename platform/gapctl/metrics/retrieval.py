"""Measure retrieval over a gallery. Every item that matches a query counts, identical captions included.

`measure_recalls` ranks the other modality alone; `mixed_ndcg` ranks images and texts together.

Index letters: Q queries, G gallery, D embedding, B a block of queries, K depths or nearest items, N and M the rows of
the query's own and of the other modality, A all items of both.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gapctl.metrics.checks import Integers, Rows, check_keys, check_unit_rows
from gapctl.metrics.sampling import DrawPurpose, SampleEstimate, estimate_mean, estimate_share, sample_rows

RECALL_BLOCK = 128
"""Queries that are compared together: few enough that their cosines stay in the cache for the search of the nearest."""

SEARCH_BLOCK = 64


def measure_recalls(
    query_QD: Rows,
    gallery_GD: Rows,
    query_key_Q: Integers,
    gallery_key_G: Integers,
    most: int,
    depths: Sequence[int] = (1, 5, 10),
) -> dict[int, SampleEstimate]:
    """Estimate recall at each of `depths`: the share of queries with an item of their own key among the k nearest.

    At most `most` queries are drawn, and each is compared with the whole gallery.
    """
    check_unit_rows(query=query_QD, gallery=gallery_GD)
    check_keys(query=(query_QD, query_key_Q), gallery=(gallery_GD, gallery_key_G))
    rows_Q = sample_rows(DrawPurpose.QUERIES, len(query_QD), most)
    hit_QK = find_hits(query_QD[rows_Q], gallery_GD, query_key_Q[rows_Q], gallery_key_G, depths)
    shares = (estimate_share(hit_Q, len(query_QD)) for hit_Q in hit_QK.T)
    return dict(zip(depths, shares, strict=True))


def find_hits(
    query_QD: Rows, gallery_GD: Rows, query_key_Q: Integers, gallery_key_G: Integers, depths: Sequence[int] = (1, 5, 10)
) -> NDArray[np.bool_]:
    """Return whether each query has an item of its own key among the k nearest, for each k in `depths`: (Q, K)."""
    deepest = min(max(depths), len(gallery_GD))
    gallery_DG = torch.from_numpy(np.ascontiguousarray(gallery_GD)).T
    gallery_key = torch.from_numpy(gallery_key_G)
    hits = []
    room_BG = gallery_DG.new_empty(min(RECALL_BLOCK, len(query_QD)), len(gallery_GD))
    query, query_key = torch.from_numpy(np.ascontiguousarray(query_QD)), torch.from_numpy(query_key_Q)
    blocks = zip(torch.split(query, RECALL_BLOCK), torch.split(query_key, RECALL_BLOCK), strict=True)
    for block_BD, key_B in blocks:
        cosine_BG = torch.matmul(block_BD, gallery_DG, out=room_BG[: len(block_BD)])
        nearest_BK = torch.topk(cosine_BG, deepest, dim=1).indices
        hit_BK = gallery_key[nearest_BK] == key_B[:, None]
        hits.append(torch.stack([hit_BK[:, :depth].any(dim=1) for depth in depths], dim=1))
    hit_QK: NDArray[np.bool_] = torch.cat(hits).numpy()
    return hit_QK


class KeyedRows(NamedTuple):
    """One modality's unit rows (N, D) and their keys (N,); an image and a text match if their keys are equal."""

    row_ND: Rows
    key_N: Integers


def mixed_ndcg(image: KeyedRows, text: KeyedRows, depth: int, queries: int) -> SampleEstimate:
    """Estimate normalised discounted cumulative gain at `depth` over a gallery of all images and all texts.

    Every image and every text is a query. Its matches are the other modality's items with its key. Items of its own
    modality with that key, itself included, are left out of the gallery: they are near whatever the gap. A match in
    place k gains 1 / log2(k + 1); the ideal ranking has all matches in front. With a gap, items of the query's own
    modality crowd the first places. At most `queries` items are drawn, of either modality in proportion. Queries
    without a match do not count.
    """
    check_unit_rows(image=image.row_ND, text=text.row_ND)
    check_keys(image=image, text=text)
    total = len(image.row_ND) + len(text.row_ND)
    drawn = np.sort(sample_rows(DrawPurpose.QUERIES, total, queries))
    image_rows, text_rows = drawn[drawn < len(image.row_ND)], drawn[drawn >= len(image.row_ND)] - len(image.row_ND)
    gains = [compute_query_gains(image, image_rows, text, depth), compute_query_gains(text, text_rows, image, depth)]
    return estimate_mean(np.concatenate(gains), total)


def compute_query_gains(own: KeyedRows, rows_Q: Integers, other: KeyedRows, depth: int) -> NDArray[np.float64]:
    """Return the normalised gain of each query of one modality that has a match, for the rows `rows_Q`."""
    gallery_DA = torch.from_numpy(np.concatenate([other.row_ND, own.row_ND])).T
    other_key_A, own_key_A = torch.from_numpy(other.key_N), torch.from_numpy(own.key_N)
    query_QD, key_Q = torch.from_numpy(own.row_ND[rows_Q]), torch.from_numpy(own.key_N[rows_Q])
    depth = min(depth, gallery_DA.shape[1])
    gains = [torch.empty(0, dtype=torch.float64)]
    for block_BD, key_B1 in zip(
        torch.split(query_QD, SEARCH_BLOCK), torch.split(key_Q[:, None], SEARCH_BLOCK), strict=True
    ):
        matched_BM, left_out_BN = key_B1 == other_key_A, key_B1 == own_key_A
        cosine_BA = block_BD @ gallery_DA
        cosine_BA[:, len(other_key_A) :].masked_fill_(left_out_BN, -2)
        gains.append(_compute_ndcg(cosine_BA, matched_BM, depth))
    return torch.cat(gains).numpy()


def _compute_ndcg(cosine_BA: torch.Tensor, matched_BM: torch.Tensor, depth: int) -> torch.Tensor:
    counted_B = matched_BM.sum(dim=1)
    place_BK = torch.topk(cosine_BA, depth, dim=1).indices
    of_other_BK = place_BK < matched_BM.shape[1]
    hit_BK = of_other_BK & torch.gather(matched_BM, 1, place_BK.clamp(max=matched_BM.shape[1] - 1))
    discount_K = 1 / torch.log2(torch.arange(2, depth + 2, dtype=torch.float64))
    ideal_B = torch.cumsum(discount_K, 0)[counted_B.clamp(1, depth) - 1]
    gain_B = (hit_BK * discount_K).sum(dim=1) / ideal_B
    return gain_B[counted_B > 0]
