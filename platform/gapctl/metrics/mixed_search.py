"""Search through images and texts at once: does the gap hide matches of the other modality? (arXiv 2507.19054)

Index letters: N images, M texts, D embedding, Q queries of one modality, B a block of them, K places of the ranking.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gapctl.metrics.checks import check_keys, check_unit_rows
from gapctl.metrics.draws import Draw, some_rows
from gapctl.metrics.sampled import Sampled, mean_of_sample

BLOCK = 64


class Keyed(NamedTuple):
    """One modality's unit rows (N, D) and a key for each (N,), equal where an image and a text match."""

    row_ND: NDArray[np.floating]
    key_N: NDArray[np.int64]


def mixed_ndcg(image: Keyed, text: Keyed, depth: int, queries: int) -> Sampled:
    """Normalised discounted cumulative gain at `depth` over a gallery of all images and all texts.

    Every image and every text is a query. What counts is the other modality's items of its key; the items of its own
    modality with that key, itself among them, are left out, since they are found whatever the gap. A gain is 1, and
    in place k it is discounted by log2(k + 1); the ideal ranking has all that counts in front. With a gap, items of
    the query's own modality crowd the first places. Above `queries` items in all, that many are drawn, of either
    modality in proportion. Queries that nothing matches do not count.
    """
    check_unit_rows(image=image.row_ND, text=text.row_ND)
    check_keys(image=image, text=text)
    total = len(image.row_ND) + len(text.row_ND)
    drawn = np.sort(some_rows(Draw.QUERIES, total, queries))
    image_rows, text_rows = drawn[drawn < len(image.row_ND)], drawn[drawn >= len(image.row_ND)] - len(image.row_ND)
    gains = [query_gains(image, image_rows, text, depth), query_gains(text, text_rows, image, depth)]
    return mean_of_sample(np.concatenate(gains), total)


def query_gains(own: Keyed, rows_Q: NDArray[np.int64], other: Keyed, depth: int) -> NDArray[np.float64]:
    """The gain of each query that something matches, for queries of one modality."""
    gallery_DA = torch.from_numpy(np.concatenate([other.row_ND, own.row_ND])).T
    other_key_A, own_key_A = torch.from_numpy(other.key_N), torch.from_numpy(own.key_N)
    query_QD, key_Q = torch.from_numpy(own.row_ND[rows_Q]), torch.from_numpy(own.key_N[rows_Q])
    depth = min(depth, gallery_DA.shape[1])
    gains = [torch.empty(0, dtype=torch.float64)]
    for block_BD, key_B1 in zip(torch.split(query_QD, BLOCK), torch.split(key_Q[:, None], BLOCK), strict=True):
        matched_BM, left_out_BN = key_B1 == other_key_A, key_B1 == own_key_A
        cosine_BA = block_BD @ gallery_DA
        cosine_BA[:, len(other_key_A) :].masked_fill_(left_out_BN, -2)
        gains.append(_ndcg(cosine_BA, matched_BM, depth))
    return torch.cat(gains).numpy()


def _ndcg(cosine_BA: torch.Tensor, matched_BM: torch.Tensor, depth: int) -> torch.Tensor:
    counted_B = matched_BM.sum(dim=1)
    place_BK = torch.topk(cosine_BA, depth, dim=1).indices
    of_other_BK = place_BK < matched_BM.shape[1]
    hit_BK = of_other_BK & torch.gather(matched_BM, 1, place_BK.clamp(max=matched_BM.shape[1] - 1))
    discount_K = 1 / torch.log2(torch.arange(2, depth + 2, dtype=torch.float64))
    ideal_B = torch.cumsum(discount_K, 0)[counted_B.clamp(1, depth) - 1]
    gain_B = (hit_BK * discount_K).sum(dim=1) / ideal_B
    return gain_B[counted_B > 0]
