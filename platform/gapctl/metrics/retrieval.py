"""Retrieval over the gallery; every item that matches a query counts, identical captions included.

Index letters: Q queries, G gallery, D embedding, B a block of queries, K depths or nearest items.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gapctl.metrics.checks import check_keys, check_unit_rows
from gapctl.metrics.draws import Draw, some_rows
from gapctl.metrics.sampled import Sampled, share_of_sample

BLOCK = 128
"""Queries at a time: few enough that their cosines are still in the cache when the nearest are looked for."""


def recalls(
    query_QD: NDArray[np.floating],
    gallery_GD: NDArray[np.floating],
    query_key_Q: NDArray[np.int64],
    gallery_key_G: NDArray[np.int64],
    most: int,
    depths: Sequence[int] = (1, 5, 10),
) -> dict[int, Sampled]:
    """The share of queries with an item of their own key among the `k` nearest, for each k in `depths`.

    Of more than `most` queries that many are drawn, and each is compared with the whole gallery.
    """
    check_unit_rows(query=query_QD, gallery=gallery_GD)
    check_keys(query=(query_QD, query_key_Q), gallery=(gallery_GD, gallery_key_G))
    rows_Q = some_rows(Draw.QUERIES, len(query_QD), most)
    hit_QK = hits(query_QD[rows_Q], gallery_GD, query_key_Q[rows_Q], gallery_key_G, depths)
    shares = (share_of_sample(hit_Q, len(query_QD)) for hit_Q in hit_QK.T)
    return dict(zip(depths, shares, strict=True))


def hits(
    query_QD: NDArray[np.floating],
    gallery_GD: NDArray[np.floating],
    query_key_Q: NDArray[np.int64],
    gallery_key_G: NDArray[np.int64],
    depths: Sequence[int] = (1, 5, 10),
) -> NDArray[np.bool_]:
    """Whether each query has an item of its own key among the `k` nearest, a column for each k in `depths`."""
    deepest = min(max(depths), len(gallery_GD))
    gallery_DG = torch.from_numpy(np.ascontiguousarray(gallery_GD)).T
    gallery_key = torch.from_numpy(gallery_key_G)
    found = []
    room_BG = gallery_DG.new_empty(min(BLOCK, len(query_QD)), len(gallery_GD))
    blocks = zip(_split(query_QD), torch.split(torch.from_numpy(query_key_Q), BLOCK), strict=True)
    for block_BD, key_B in blocks:
        cosine_BG = torch.matmul(block_BD, gallery_DG, out=room_BG[: len(block_BD)])
        nearest_BK = torch.topk(cosine_BG, deepest, dim=1).indices
        hit_BK = gallery_key[nearest_BK] == key_B[:, None]
        found.append(torch.stack([hit_BK[:, :depth].any(dim=1) for depth in depths], dim=1))
    hit_QK: NDArray[np.bool_] = torch.cat(found).numpy()
    return hit_QK


def _split(rows: NDArray[np.floating]) -> tuple[torch.Tensor, ...]:
    return torch.split(torch.from_numpy(np.ascontiguousarray(rows)), BLOCK)
