"""Prepare the plots of embeddings in a report.

Index letters: N images, M texts, D embedding, P drawn points or pairs, B bins, or rows of a block in the removal, Q
queries, G gallery, T steps of the removal.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from gapctl.metrics.checks import Integers
from gapctl.metrics.embedding_set import Embeddings, normalise_rows
from gapctl.metrics.gap import Array, CloudSums, GapSums, MatchedSums

PLOT_SEED: Final = 2404_07983
PLOT_POINTS: Final = 1000
"""Points of each modality; more would only cover one another."""

OTHER_PAIRS: Final = 200_000
COSINE_BINS: Final = 60
REMOVAL_BLOCK = 2048
VANISHING_NORM = 1e-24
"""A squared norm below this is rounding, and the row counts as a zero vector."""


class PlaneProjection(NamedTuple):
    """Points (P, 2) of each modality on the two directions of largest joint variance, and the variances' shares."""

    image_P2: Array
    text_P2: Array
    shares: tuple[float, float]


class CosineHistograms(NamedTuple):
    """Histograms of cosines: edges (B + 1,), and the shares of matched and of other pairs in each bin (B,)."""

    edges: Array
    matched_B: Array
    other_B: Array


class PlotData(NamedTuple):
    """The data of all plots; `difference_D` is the mean image minus the mean text."""

    plane: PlaneProjection
    similarities: CosineHistograms
    difference_D: Array


def sample_plot_data(embeddings: Embeddings) -> PlotData:
    """Return plot data of the L2-normalised rows; points and other pairs are sampled with a fixed seed."""
    image_ND, text_MD = normalise_rows(embeddings.image_ND), normalise_rows(embeddings.text_MD)
    difference_D = image_ND.mean(axis=0) - text_MD.mean(axis=0)
    return PlotData(_project_to_plane(image_ND, text_MD), _count_cosines(embeddings, image_ND, text_MD), difference_D)


def _project_to_plane(image_ND: Array, text_MD: Array) -> PlaneProjection:
    """Project rows to principal components of both modalities, which weigh the same whatever their number of rows."""
    centre_D = (image_ND.mean(axis=0) + text_MD.mean(axis=0)) / 2
    image_offset_ND, text_offset_MD = image_ND - centre_D, text_MD - centre_D
    image_moment_DD = image_offset_ND.T @ image_offset_ND / len(image_ND)
    covariance_DD = image_moment_DD + text_offset_MD.T @ text_offset_MD / len(text_MD)
    variance_D, direction_DD = np.linalg.eigh(covariance_DD)
    axes_D2 = direction_DD[:, [-1, -2]]
    axes_D2 = axes_D2 * np.where(axes_D2[np.abs(axes_D2).argmax(axis=0), [0, 1]] < 0, -1, 1)
    total = max(float(variance_D.sum()), np.finfo(float).tiny)
    points = []
    for rows_ND in (image_ND, text_MD):
        if len(rows_ND) > PLOT_POINTS:
            draws = np.random.Generator(np.random.Philox(PLOT_SEED))
            rows_ND = rows_ND[np.sort(draws.choice(len(rows_ND), size=PLOT_POINTS, replace=False))]
        points.append((rows_ND - centre_D) @ axes_D2)
    image_P2, text_P2 = points
    return PlaneProjection(image_P2, text_P2, (float(variance_D[-1]) / total, float(variance_D[-2]) / total))


def _count_cosines(embeddings: Embeddings, image_ND: Array, text_MD: Array) -> CosineHistograms:
    """Bin the cosines of matched pairs and of sampled other pairs."""
    if embeddings.prompt_of_N is not None:
        image_of, text_of = np.arange(len(image_ND)), embeddings.prompt_of_N
    else:
        text_of = np.arange(len(text_MD))
        image_of = text_of if embeddings.text_to_image_M is None else embeddings.text_to_image_M
    matched = np.einsum("pd,pd->p", image_ND[image_of], text_MD[text_of])
    other = _sample_other_cosines(image_ND, text_MD, image_of, text_of)
    values = np.concatenate([matched, other])
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low - 1e-9, high + 1e-9, COSINE_BINS + 1)
    return CosineHistograms(edges, _compute_bin_shares(matched, edges), _compute_bin_shares(other, edges))


def _sample_other_cosines(image_ND: Array, text_MD: Array, image_of: Integers, text_of: Integers) -> Array:
    """Return cosines of random pairs that are not matched; equal captions of other images count as not matched."""
    draws = np.random.Generator(np.random.Philox(PLOT_SEED))
    image_P, text_P = draws.integers(0, len(image_ND), OTHER_PAIRS), draws.integers(0, len(text_MD), OTHER_PAIRS)
    apart_P = ~np.isin(image_P * len(text_MD) + text_P, image_of * len(text_MD) + text_of)
    image_P, text_P = image_P[apart_P], text_P[apart_P]
    parts = [slice(start, start + 8192) for start in range(0, len(image_P), 8192)]
    blocks = [np.einsum("pd,pd->p", image_ND[image_P[part]], text_MD[text_P[part]]) for part in parts]
    return np.concatenate(blocks) if blocks else np.empty(0)


def _compute_bin_shares(values: Array, edges: Array) -> Array:
    counts, _ = np.histogram(values, edges)
    return counts / max(len(values), 1)


class NearestAfterRemoval(NamedTuple):
    """The gallery item nearest to each query (Q,) after `removed` dimensions were removed."""

    removed: int
    nearest_Q: Integers


def measure_gap_after_removal(
    image_ND: Array, text_MD: Array, order_D: Integers, text_to_image_M: Integers | None = None
) -> list[GapSums]:
    """Return the gap's sums after 0, 1, ... D - 1 dimensions of `order_D` were removed and rows renormalised.

    Rows are L2-normalised; text j matches image `text_to_image_M[j]`, or image j. The mean differences are in the
    original order of dimensions, zero if removed. Distances come from cosines, so that of equal rows is up to 1e-8.
    """
    partner_MD = image_ND if text_to_image_M is None else image_ND[text_to_image_M]
    image, text = _sum_cloud_steps(image_ND, order_D), _sum_cloud_steps(text_MD, order_D)
    return [GapSums(*step) for step in zip(image, text, _sum_matched_steps(partner_MD, text_MD, order_D), strict=True)]


def find_nearest_after_removal(query_QD: Array, gallery_GD: Array, order_D: Integers) -> Iterator[NearestAfterRemoval]:
    """Yield the nearest gallery item by cosine at each step, from most dimensions removed to none.

    Each step adds one dimension to all inner products at once (a rank-one update of Q x G numbers). That is D times
    less work than computing them anew, and adding rather than subtracting avoids cancellation.
    """
    query_DQ, gallery_DG = (np.ascontiguousarray(rows_AD[:, order_D].T) for rows_AD in (query_QD, gallery_GD))
    product_QG, squared_G = np.zeros((query_DQ.shape[1], gallery_DG.shape[1])), np.zeros(gallery_DG.shape[1])
    for removed in range(len(order_D) - 1, -1, -1):
        product_QG += np.outer(query_DQ[removed], gallery_DG[removed])
        squared_G += np.square(gallery_DG[removed])
        inverse_G = np.zeros_like(squared_G)
        np.divide(1, np.sqrt(squared_G), out=inverse_G, where=squared_G > VANISHING_NORM)
        yield NearestAfterRemoval(removed, (product_QG * inverse_G).argmax(axis=1))


def measure_recall_after_removal(
    query_QD: Array, gallery_GD: Array, query_key_Q: Integers, gallery_key_G: Integers, order_D: Integers
) -> Array:
    """Return recall at 1 after 0, 1, ... D - 1 dimensions were removed (T,); items of a query's own key match it."""
    recall_T = np.empty(len(order_D))
    for step in find_nearest_after_removal(query_QD, gallery_GD, order_D):
        recall_T[step.removed] = np.mean(gallery_key_G[step.nearest_Q] == query_key_Q)
    return recall_T


def _sum_cloud_steps(cloud_ND: Array, order_D: Integers) -> list[CloudSums]:
    width = len(order_D)
    total_TD, squares_T = np.zeros((width, width)), np.zeros(width)
    for start in range(0, len(cloud_ND), REMOVAL_BLOCK):
        row_BD = cloud_ND[start : start + REMOVAL_BLOCK, order_D]
        inverse_BT, left_BT = _invert_norms(row_BD)
        total_TD += inverse_BT.T @ row_BD
        squares_T += (left_BT * np.square(inverse_BT)).sum(axis=0)
    scattered_TD = np.zeros_like(total_TD)
    scattered_TD[:, order_D] = np.triu(total_TD)
    counted = zip(scattered_TD, squares_T, strict=True)
    return [CloudSums(len(cloud_ND), total_D, float(squares)) for total_D, squares in counted]


def _sum_matched_steps(image_PD: Array, text_PD: Array, order_D: Integers) -> list[MatchedSums]:
    cosine_T, distance_T = np.zeros(len(order_D)), np.zeros(len(order_D))
    for start in range(0, len(image_PD), REMOVAL_BLOCK):
        image_BD, text_BD = (cloud_PD[start : start + REMOVAL_BLOCK, order_D] for cloud_PD in (image_PD, text_PD))
        (image_BT, left_image_BT), (text_BT, left_text_BT) = _invert_norms(image_BD), _invert_norms(text_BD)
        cosine_BT = _sum_suffixes(image_BD * text_BD) * image_BT * text_BT
        squares_BT = left_image_BT * np.square(image_BT) + left_text_BT * np.square(text_BT)
        cosine_T += cosine_BT.sum(axis=0)
        distance_T += np.sqrt(np.maximum(squares_BT - 2 * cosine_BT, 0)).sum(axis=0)
    return [MatchedSums(len(image_PD), float(c), float(d)) for c, d in zip(cosine_T, distance_T, strict=True)]


def _invert_norms(row_BD: Array) -> tuple[Array, Array]:
    """Return the inverse norm of each row's remaining dimensions at each step, and the squared norm.

    The inverse is zero if nothing but rounding remains.
    """
    left_BT = _sum_suffixes(np.square(row_BD))
    seen_BT = left_BT > VANISHING_NORM
    return np.where(seen_BT, 1 / np.sqrt(np.where(seen_BT, left_BT, 1.0)), 0.0), left_BT


def _sum_suffixes(term_BD: Array) -> Array:
    """Return the sums over each place and all after it, along rows."""
    return np.cumsum(term_BD[:, ::-1], axis=1)[:, ::-1]
