"""The entropy of each query's softmax over the whole gallery, in row blocks of bounded memory.

Entropy grows with the gallery: its largest value is ln of the size. `measure_calibrated_entropy` therefore measures it
over galleries of a fixed size, so that models measured on galleries of different sizes compare. Index letters: Q
queries, G gallery, N pairs, D embedding, B a block of queries, S rows of a block.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from gapctl.metrics.checks import check_unit_rows
from gapctl.metrics.sampling import (
    DrawPurpose,
    SampleEstimate,
    estimate_gallery_mean,
    estimate_mean,
    permute_rows,
    sample_rows,
)

QUERY_BLOCK = 1024
ROWS_IN_CACHE = 32


def mean_entropy_nats(query_QD: NDArray[np.floating], gallery_GD: NDArray[np.floating], scale: float) -> float:
    """Mean over queries of the entropy of softmax(scale * q . gallery), in nats (arXiv 2404.07983, sec. 6)."""
    return mean_entropy(query_QD, gallery_GD, scale, most=len(query_QD)).value


def mean_entropy(
    query_QD: NDArray[np.floating], gallery_GD: NDArray[np.floating], scale: float, most: int
) -> SampleEstimate:
    """The same over at most `most` of the queries, each against the whole gallery."""
    check_unit_rows(query=query_QD, gallery=gallery_GD)
    rows_Q = sample_rows(DrawPurpose.QUERIES, len(query_QD), most)
    return estimate_mean(np.concatenate([*_stream_entropies(query_QD[rows_Q], gallery_GD, scale)]), len(query_QD))


def measure_calibrated_entropy(
    query_ND: NDArray[np.floating], gallery_ND: NDArray[np.floating], scale: float, size: int, galleries: int
) -> SampleEstimate:
    """The mean entropy over galleries of `size`, in nats; row i of one side matches row i of the other.

    The pairs, in a seeded order, are cut into disjoint galleries of `size` pairs each, of which the first `galleries`
    are taken; each query sees its own gallery alone. The interval is over galleries. Raises ValueError if there are
    fewer than `size` pairs.
    """
    check_unit_rows(query=query_ND, gallery=gallery_ND)
    count = len(query_ND)
    if count < size:
        raise ValueError(f"{count} pairs do not make a gallery of {size}")
    taken = min(count // size, galleries)
    rows_GS = permute_rows(DrawPurpose.GALLERIES, count)[: taken * size].reshape(taken, size)
    entropies = [np.concatenate([*_stream_entropies(query_ND[rows], gallery_ND[rows], scale)]) for rows in rows_GS]
    return estimate_gallery_mean(np.stack(entropies), count)


def _stream_entropies(
    query_QD: NDArray[np.floating], gallery_GD: NDArray[np.floating], scale: float
) -> Iterator[NDArray[np.floating]]:
    for entropy_B in _compute_entropies(query_QD, gallery_GD, scale):
        yield entropy_B.numpy()


def _compute_entropies(
    query_QD: NDArray[np.floating], gallery_GD: NDArray[np.floating], scale: float
) -> Iterator[torch.Tensor]:
    """Each query's entropy, by blocks (B,), each of which is worked on by pieces that stay in the cache."""
    gallery_DG = torch.from_numpy(np.ascontiguousarray(gallery_GD)).T
    query = torch.from_numpy(np.ascontiguousarray(query_QD))
    logits_SG, spare_SG = query.new_empty(2, ROWS_IN_CACHE, len(gallery_GD))
    for block_BD in torch.split(query, QUERY_BLOCK):
        pieces = (
            torch.matmul(scale * rows_SD, gallery_DG, out=logits_SG[: len(rows_SD)])
            for rows_SD in torch.split(block_BD, ROWS_IN_CACHE)
        )
        yield torch.cat([_compute_block_entropy(piece_SG, spare_SG) for piece_SG in pieces])


def _compute_block_entropy(logits_SG: torch.Tensor, spare_SG: torch.Tensor) -> torch.Tensor:
    log_sum_S = torch.logsumexp(logits_SG, dim=1)
    weighted_SG = torch.sub(logits_SG, log_sum_S[:, None], out=spare_SG[: len(logits_SG)]).exp_().mul_(logits_SG)
    return log_sum_S - weighted_SG.sum(dim=1)
