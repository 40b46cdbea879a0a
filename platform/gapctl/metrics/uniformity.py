"""Uniformity: how evenly embeddings fill the sphere (arXiv 2005.10242, sec. 4; across modalities arXiv 2405.18570).

The logarithm of the mean of exp(-2 |x - y|^2) over pairs: 0 where all points are one, about -4 where they are spread
evenly over many dimensions.

Index letters: N images, M texts, D embedding, Q rows that are compared with all others, B a block of them.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from gapctl.metrics.checks import check_keys, check_unit_rows
from gapctl.metrics.draws import Draw, some_rows
from gapctl.metrics.sampled import Sampled, mean_of_sample

BLOCK = 64


def uniformity(cloud_ND: NDArray[np.floating], queries: int) -> Sampled:
    """Over the pairs of different rows of one cloud, L2-normalised; exact for up to `queries` rows.

    Of larger clouds that many rows are drawn and compared with all others.
    """
    check_unit_rows(cloud=cloud_ND)
    own_N = np.arange(len(cloud_ND))
    return _uniformity(cloud_ND, own_N, cloud_ND, own_N, queries)


def cross_uniformity(
    image_ND: NDArray[np.floating],
    image_key_N: NDArray[np.int64],
    text_MD: NDArray[np.floating],
    text_key_M: NDArray[np.int64],
    queries: int,
) -> Sampled:
    """Over the pairs of an image and a text whose keys differ; matched pairs belong to alignment.

    Exact for up to `queries` images; of more that many are drawn and compared with all texts.
    """
    check_unit_rows(image=image_ND, text=text_MD)
    check_keys(image=(image_ND, image_key_N), text=(text_MD, text_key_M))
    return _uniformity(image_ND, image_key_N, text_MD, text_key_M, queries)


def _uniformity(
    query_ND: NDArray[np.floating],
    query_key_N: NDArray[np.int64],
    gallery_MD: NDArray[np.floating],
    gallery_key_M: NDArray[np.int64],
    queries: int,
) -> Sampled:
    rows_Q = some_rows(Draw.QUERIES, len(query_ND), queries)
    potential_Q, others_Q = _potentials(query_ND[rows_Q], query_key_N[rows_Q], gallery_MD, gallery_key_M)
    others = others_Q.sum()
    if others == 0:
        return Sampled(math.nan, math.nan, math.nan, len(rows_Q), len(query_ND))
    mean = mean_of_sample(potential_Q * (len(rows_Q) / others), len(query_ND))
    return mean._replace(value=_log(mean.value), low=_log(mean.low), high=_log(mean.high))


def _potentials(
    query_QD: NDArray[np.floating],
    query_key_Q: NDArray[np.int64],
    gallery_MD: NDArray[np.floating],
    gallery_key_M: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Per query, the sum of exp(4 cosine - 4) over what has another key, and how much that is."""
    query, gallery_DM = torch.from_numpy(np.ascontiguousarray(query_QD)), torch.from_numpy(gallery_MD).T
    key_Q, key_M = torch.from_numpy(query_key_Q), torch.from_numpy(gallery_key_M)
    sums, counts = [], []
    for block_BD, key_B in zip(torch.split(query, BLOCK), torch.split(key_Q, BLOCK), strict=True):
        kernel_BM = ((4 * block_BD) @ gallery_DM).sub_(4).exp_()
        same_BM = key_B[:, None] == key_M
        sums.append(kernel_BM.masked_fill_(same_BM, 0).sum(dim=1, dtype=torch.float64))
        counts.append(len(gallery_MD) - same_BM.sum(dim=1))
    return torch.cat(sums).numpy(), torch.cat(counts).numpy()


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf if value <= 0 else math.nan
