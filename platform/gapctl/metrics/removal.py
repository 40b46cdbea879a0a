"""What is left of gap and quality as dimensions are removed one by one, from one pass of linear algebra.

Removing a dimension takes one product from every inner product and one square from every squared norm. With the
dimensions in the order of their removal, what is left after t of them is a sum over the places from t on, so one
cumulative sum from the end gives every step, and one matrix product the renormalised means of every step.

Index letters: N images, M texts, D embedding, T = D steps (0 to D - 1 dimensions removed), P matched pairs, Q queries,
G gallery, B a block of rows.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gapctl.metrics.gap import Array, CloudSums, GapSums, MatchedSums

BLOCK = 2048
VANISHED = 1e-24
"""A squared norm below this is rounding: nothing of the row is left, and it counts as a zero vector."""


class NearestAfter(NamedTuple):
    """The gallery item nearest to each query (Q,) after `removed` dimensions were taken away."""

    removed: int
    nearest_Q: NDArray[np.int64]


def gap_after_removal(
    image_ND: Array, text_MD: Array, order_D: NDArray[np.int64], text_to_image_M: NDArray[np.int64] | None = None
) -> list[GapSums]:
    """The gap's sums after 0, 1, ... D - 1 dimensions of `order_D` were removed and rows renormalised.

    Rows are L2-normalised; text j matches image `text_to_image_M[j]`, or image j. The mean differences are in the
    original order of dimensions, zero where removed. Distances come from cosines, so that of equal rows is up to 1e-8.
    """
    partner_MD = image_ND if text_to_image_M is None else image_ND[text_to_image_M]
    image, text = _cloud_sums(image_ND, order_D), _cloud_sums(text_MD, order_D)
    return [GapSums(*step) for step in zip(image, text, _matched_sums(partner_MD, text_MD, order_D), strict=True)]


def nearest_after_removal(query_QD: Array, gallery_GD: Array, order_D: NDArray[np.int64]) -> Iterator[NearestAfter]:
    """The nearest gallery item by cosine at each step, from most dimensions removed to none.

    Each step adds one dimension to all inner products at once (a rank-one update of Q x G numbers), which is D times
    less work than to compute them anew, and adds rather than takes away, so that nothing cancels.
    """
    query_DQ = torch.from_numpy(np.ascontiguousarray(query_QD[:, order_D].T))
    gallery_DG = torch.from_numpy(np.ascontiguousarray(gallery_GD[:, order_D].T))
    product_QG = query_DQ.new_zeros(query_DQ.shape[1], gallery_DG.shape[1])
    squared_G = gallery_DG.new_zeros(gallery_DG.shape[1])
    for removed in range(len(order_D) - 1, -1, -1):
        product_QG.addr_(query_DQ[removed], gallery_DG[removed])
        squared_G += gallery_DG[removed].square()
        inverse_G = torch.where(squared_G > VANISHED, squared_G.rsqrt(), 0.0)
        yield NearestAfter(removed, (product_QG * inverse_G).argmax(dim=1).numpy())


def recall_after_removal(
    query_QD: Array,
    gallery_GD: Array,
    query_key_Q: NDArray[np.int64],
    gallery_key_G: NDArray[np.int64],
    order_D: NDArray[np.int64],
) -> Array:
    """Recall at 1 after 0, 1, ... D - 1 dimensions were removed (T,); items of a query's own key match it."""
    recall_T = np.empty(len(order_D))
    for step in nearest_after_removal(query_QD, gallery_GD, order_D):
        recall_T[step.removed] = np.mean(gallery_key_G[step.nearest_Q] == query_key_Q)
    return recall_T


def _cloud_sums(cloud_ND: Array, order_D: NDArray[np.int64]) -> list[CloudSums]:
    width = len(order_D)
    total_TD, squares_T = np.zeros((width, width)), np.zeros(width)
    for start in range(0, len(cloud_ND), BLOCK):
        row_BD = cloud_ND[start : start + BLOCK, order_D]
        inverse_BT, left_BT = _inverse_norms(row_BD)
        total_TD += inverse_BT.T @ row_BD
        squares_T += (left_BT * np.square(inverse_BT)).sum(axis=0)
    scattered_TD = np.zeros_like(total_TD)
    scattered_TD[:, order_D] = np.triu(total_TD)
    counted = zip(scattered_TD, squares_T, strict=True)
    return [CloudSums(len(cloud_ND), total_D, float(squares)) for total_D, squares in counted]


def _matched_sums(image_PD: Array, text_PD: Array, order_D: NDArray[np.int64]) -> list[MatchedSums]:
    cosine_T, distance_T = np.zeros(len(order_D)), np.zeros(len(order_D))
    for start in range(0, len(image_PD), BLOCK):
        image_BD, text_BD = (cloud_PD[start : start + BLOCK, order_D] for cloud_PD in (image_PD, text_PD))
        (image_BT, left_image_BT), (text_BT, left_text_BT) = _inverse_norms(image_BD), _inverse_norms(text_BD)
        cosine_BT = _left(image_BD * text_BD) * image_BT * text_BT
        squares_BT = left_image_BT * np.square(image_BT) + left_text_BT * np.square(text_BT)
        cosine_T += cosine_BT.sum(axis=0)
        distance_T += np.sqrt(np.maximum(squares_BT - 2 * cosine_BT, 0)).sum(axis=0)
    return [MatchedSums(len(image_PD), float(c), float(d)) for c, d in zip(cosine_T, distance_T, strict=True)]


def _inverse_norms(row_BD: Array) -> tuple[Array, Array]:
    """One over the norm of what is left of each row at each step, zero where nothing is; and its square."""
    left_BT = _left(np.square(row_BD))
    seen_BT = left_BT > VANISHED
    return np.where(seen_BT, 1 / np.sqrt(np.where(seen_BT, left_BT, 1.0)), 0.0), left_BT


def _left(term_BD: Array) -> Array:
    """The sum over each place and all after it."""
    return np.cumsum(term_BD[:, ::-1], axis=1)[:, ::-1]
