"""What a report draws of embeddings: both modalities in a plane, and how similar matched and other pairs are.

Index letters: N images, M texts, D embedding, P drawn points, B bins.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.embedding_set import Embeddings, unit_rows
from gapctl.metrics.gap import Array

SEED: Final = 2404_07983
POINTS: Final = 1000
"""Of each modality; more would only cover one another."""

OTHER_PAIRS: Final = 200_000
BINS: Final = 60


class Plane(NamedTuple):
    """Points (P, 2) of each modality on the two directions of largest variance of both together, and their shares."""

    image_P2: Array
    text_P2: Array
    shares: tuple[float, float]


class Similarities(NamedTuple):
    """Histograms of cosines: edges (B + 1,), and the share of matched and of other pairs in each bin (B,)."""

    edges: Array
    matched_B: Array
    other_B: Array


class Picture(NamedTuple):
    """Everything that is drawn; `difference_D` is mean image minus mean text."""

    plane: Plane
    similarities: Similarities
    difference_D: Array


def picture_of(embeddings: Embeddings) -> Picture:
    """Draws from L2-normalised rows; points and other pairs are sampled with a fixed seed."""
    image_ND, text_MD = unit_rows(embeddings.image_ND), unit_rows(embeddings.text_MD)
    difference_D = image_ND.mean(axis=0) - text_MD.mean(axis=0)
    return Picture(_plane(image_ND, text_MD), _similarities(embeddings, image_ND, text_MD), difference_D)


def _plane(image_ND: Array, text_MD: Array) -> Plane:
    """Principal components of both modalities, each weighing the same however many rows it has."""
    centre_D = (image_ND.mean(axis=0) + text_MD.mean(axis=0)) / 2
    covariance_DD = _second_moment(image_ND - centre_D) + _second_moment(text_MD - centre_D)
    variance_D, direction_DD = np.linalg.eigh(covariance_DD)
    axes_D2 = direction_DD[:, [-1, -2]]
    axes_D2 = axes_D2 * np.where(axes_D2[np.abs(axes_D2).argmax(axis=0), [0, 1]] < 0, -1, 1)
    total = max(float(variance_D.sum()), np.finfo(float).tiny)
    shown = [(_sampled(rows, POINTS) - centre_D) @ axes_D2 for rows in (image_ND, text_MD)]
    return Plane(shown[0], shown[1], (float(variance_D[-1]) / total, float(variance_D[-2]) / total))


def _second_moment(centred_ND: Array) -> Array:
    moment_DD: Array = centred_ND.T @ centred_ND / len(centred_ND)
    return moment_DD


def _sampled(rows_ND: Array, most: int) -> Array:
    if len(rows_ND) <= most:
        return rows_ND
    chosen = np.random.Generator(np.random.Philox(SEED)).choice(len(rows_ND), size=most, replace=False)
    return rows_ND[np.sort(chosen)]


def _similarities(embeddings: Embeddings, image_ND: Array, text_MD: Array) -> Similarities:
    image_of, text_of = _matches(embeddings)
    matched = np.einsum("pd,pd->p", image_ND[image_of], text_MD[text_of])
    other = _other_cosines(image_ND, text_MD, image_of, text_of)
    values = np.concatenate([matched, other])
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low - 1e-9, high + 1e-9, BINS + 1)
    return Similarities(edges, _shares(matched, edges), _shares(other, edges))


def _matches(embeddings: Embeddings) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Image and text of each matched pair."""
    if embeddings.prompt_of_N is not None:
        return np.arange(len(embeddings.image_ND)), embeddings.prompt_of_N
    text_M = np.arange(len(embeddings.text_MD))
    return (text_M if embeddings.text_to_image_M is None else embeddings.text_to_image_M), text_M


def _other_cosines(image_ND: Array, text_MD: Array, image_of: NDArray[np.int64], text_of: NDArray[np.int64]) -> Array:
    """Cosines of random pairs that are not matched; equal captions of other images count as other."""
    draws = np.random.Generator(np.random.Philox(SEED))
    image_P, text_P = draws.integers(0, len(image_ND), OTHER_PAIRS), draws.integers(0, len(text_MD), OTHER_PAIRS)
    keys = image_of * len(text_MD) + text_of
    apart_P = ~np.isin(image_P * len(text_MD) + text_P, keys)
    blocks = [
        np.einsum(
            "pd,pd->p", image_ND[image_P[apart_P][start : start + 8192]], text_MD[text_P[apart_P][start : start + 8192]]
        )
        for start in range(0, int(apart_P.sum()), 8192)
    ]
    return np.concatenate(blocks) if blocks else np.empty(0)


def _shares(values: Array, edges: Array) -> Array:
    counts, _ = np.histogram(values, edges)
    return counts / max(len(values), 1)
