"""Whether a pair has the same neighbours among images as among texts (mutual nearest neighbours, arXiv 2405.07987).

Index letters: N pairs, D embedding, Q pairs that are looked at, B a block of them.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from gapctl.metrics.checks import check_unit_rows, unpaired
from gapctl.metrics.draws import Draw, some_rows
from gapctl.metrics.sampled import Sampled, mean_of_sample

BLOCK = 128
TIE = 1e-6
"""Cosines this close are equal: rounding alone would decide among the texts of one caption."""


def neighbor_overlap(
    image_ND: NDArray[np.floating], text_ND: NDArray[np.floating], neighbors: int, queries: int
) -> Sampled:
    """Share of an image's `neighbors` nearest images whose texts are among the nearest texts of its own text.

    Rows are L2-normalised and match one to one. Where ties leave open who the last neighbours are (equal captions
    do), it is the mean over all ways to choose. Above `queries` pairs, that many are drawn and compared with all.
    Raises ValueError where a pair has fewer than `neighbors` others.
    """
    check_unit_rows(image=image_ND, text=text_ND)
    count = len(image_ND)
    if count != len(text_ND):
        raise unpaired(count, len(text_ND))
    if count <= neighbors:
        raise ValueError(f"{count} pairs do not have {neighbors} neighbors each")
    rows_Q = torch.from_numpy(some_rows(Draw.QUERIES, count, queries))
    image, text = _tensor(image_ND), _tensor(text_ND)
    overlaps = [_overlaps(rows_B, image, text, neighbors) for rows_B in torch.split(rows_Q, BLOCK)]
    return mean_of_sample(torch.cat(overlaps).numpy() / neighbors, count)


def chance_overlap(count: int, neighbors: int) -> float:
    """The mean overlap of neighbours drawn at random from `count` - 1 others."""
    return neighbors / (count - 1)


def _overlaps(rows_B: torch.Tensor, image_ND: torch.Tensor, text_ND: torch.Tensor, neighbors: int) -> torch.Tensor:
    both_BN = _weights(rows_B, image_ND, neighbors) * _weights(rows_B, text_ND, neighbors)
    return both_BN.sum(dim=1, dtype=torch.float64)


def _weights(rows_B: torch.Tensor, cloud_ND: torch.Tensor, neighbors: int) -> torch.Tensor:
    """How likely each row is among a query's nearest: 1, 0, or its share of the places that ties leave open."""
    cosine_BN = cloud_ND[rows_B] @ cloud_ND.T
    cosine_BN.scatter_(1, rows_B[:, None], -2)
    last_B1 = torch.topk(cosine_BN, neighbors, dim=1).values[:, -1:]
    nearer_BN, near_BN = cosine_BN > last_B1 + TIE, cosine_BN >= last_B1 - TIE
    nearer_B1, near_B1 = nearer_BN.sum(dim=1, keepdim=True), near_BN.sum(dim=1, keepdim=True)
    open_B1 = ((neighbors - nearer_B1) / (near_B1 - nearer_B1)).to(cosine_BN.dtype)
    return torch.where(nearer_BN, 1.0, near_BN * open_B1)


def _tensor(rows_ND: NDArray[np.floating]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows_ND))
