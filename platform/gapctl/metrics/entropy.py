"""The entropy of each query's softmax over the whole gallery, in row blocks of bounded memory.

Index letters: Q queries, G gallery, D embedding.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

BLOCK = 1024


def mean_entropy_nats(query_QD: NDArray[np.floating], gallery_GD: NDArray[np.floating], scale: float) -> float:
    """Mean over queries of the entropy of softmax(scale * q . gallery), in nats (arXiv 2404.07983, sec. 6)."""
    total = sum(float(_entropies(logits).sum()) for logits in _blocks(query_QD, gallery_GD, scale))
    return total / len(query_QD)


def _entropies(logits_BG: torch.Tensor) -> torch.Tensor:
    log_sum_B = torch.logsumexp(logits_BG, dim=1)
    probability_BG = torch.exp(logits_BG - log_sum_B[:, None])
    return log_sum_B - (probability_BG * logits_BG).sum(dim=1)


def _blocks(query_QD: NDArray[np.floating], gallery_GD: NDArray[np.floating], scale: float) -> Iterator[torch.Tensor]:
    gallery_DG = torch.from_numpy(np.ascontiguousarray(gallery_GD)).T
    for block_BD in torch.split(torch.from_numpy(np.ascontiguousarray(query_QD)), BLOCK):
        yield (scale * block_BD) @ gallery_DG
