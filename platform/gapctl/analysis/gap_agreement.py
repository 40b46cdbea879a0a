"""Whether the gaps of several models are the same one: their leading dimensions, and their direction in any basis.

Index letters: K models, N samples of a gallery, D embedding.
"""

import numpy as np

from gapctl.analysis.paired import FloatArray
from gapctl.analysis.ties import IntArray

PERMUTATIONS = 200
"""Of images within labels; the null's 95th percentile then lies between the 93rd and the 97th."""
NULL_SHARE = 0.95
LEADING = 10
"""Dimensions of a gap that are compared with those of another."""


def axis_agreement(places_KN: FloatArray) -> FloatArray:
    """Each model's mean correlation (Pearson) with the others, of the same samples' places along their gaps (K,).

    1 says that the gaps' directions order the samples alike. Of unrelated directions it is 0 on average, since each is
    as likely as its reverse. No rotation of an embedding changes it, so models of any seed, width and architecture
    compare. NaN where a model puts all samples in one place.
    """
    centred_KN = places_KN - places_KN.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        unit_KN = centred_KN / np.linalg.norm(centred_KN, axis=1, keepdims=True)
    return _mean_of_others(unit_KN @ unit_KN.T)


def excess_agreement(gap_KN: FloatArray, mean_KN: FloatArray, label_N: IntArray) -> FloatArray:
    """Each model's agreement of gap directions less what needs no gap (K,).

    What needs no gap is the larger of two: the agreement of the same images along the mean image (`mean_KN`), which no
    text enters, and the 95th percentile of agreements after images were permuted within their labels in each model by
    itself, where only what labels say is left. Permutations are the same for the same gallery.
    """
    null_PK = np.stack([axis_agreement(_permuted(gap_KN, label_N, seed)) for seed in range(PERMUTATIONS)])
    needs_no_gap_K = np.maximum(axis_agreement(mean_KN), np.quantile(null_PK, NULL_SHARE, axis=0))
    return np.asarray(axis_agreement(gap_KN) - needs_no_gap_K)


def _permuted(places_KN: FloatArray, label_N: IntArray, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    by_label_N = np.argsort(label_N, kind="stable")
    permuted_KN = np.empty_like(places_KN)
    for model, places_N in enumerate(places_KN):
        shuffled_N = np.lexsort((rng.random(len(label_N)), label_N))
        permuted_KN[model, by_label_N] = places_N[shuffled_N]
    return permuted_KN


def leading_agreement(differences_KD: FloatArray) -> FloatArray:
    """Each model's mean share of leading dimensions that others have too, less what unrelated choices share (K,).

    The leading dimensions are the ten in which image and text means differ most. Raises ValueError where there are
    fewer dimensions.
    """
    models, width = differences_KD.shape
    if width < LEADING:
        raise ValueError(f"{LEADING} leading dimensions of {width} do not compare")
    leading_KD = np.zeros((models, width))
    order_KD = np.argsort(-np.abs(differences_KD), axis=1, kind="stable")
    np.put_along_axis(leading_KD, order_KD[:, :LEADING], 1.0, axis=1)
    return np.asarray(_mean_of_others(leading_KD @ leading_KD.T / LEADING) - LEADING / width)


def _mean_of_others(found_KK: FloatArray) -> FloatArray:
    """The mean of each row without what a model has with itself (K,)."""
    return np.asarray((found_KK.sum(axis=1) - np.diagonal(found_KK)) / (len(found_KK) - 1))
