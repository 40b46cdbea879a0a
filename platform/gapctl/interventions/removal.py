"""Leaving out what carries the gap: its largest dimensions, or its direction.

Index letters: N images, M texts, D embedding.
"""

import numpy as np

from gapctl.errors import InputError
from gapctl.interventions.fitted import Affine, Fitted, nothing
from gapctl.metrics.gap import Array


def fit_removal(image_ND: Array, text_MD: Array, count: int) -> Fitted:
    """Sets the `count` dimensions of the largest mean difference to zero (arXiv 2404.07983, sec. 4).

    Dimensions that carry equally much go in their order. Raises InputError unless some dimensions are removed and
    some are left.
    """
    width = image_ND.shape[1]
    if not 1 <= count < width:
        raise InputError(
            f"{count} dimensions to remove of {width}; expected 1 to {width - 1}, so that something is removed and "
            "something is left"
        )
    largest_D = np.argsort(-np.abs(_mean_difference_D(image_ND, text_MD)), kind="stable")
    kept_D = np.ones(width)
    kept_D[largest_D[:count]] = 0
    masking = Affine(np.zeros(width), kept_D)
    return Fitted(masking, masking)


def fit_projection(image_ND: Array, text_MD: Array) -> Fitted:
    """Projects both modalities onto the complement of the direction of their mean difference.

    The orthogonal way to close the gap: what lies across the gap's direction stays as it is, cosines within it
    included (arXiv 2603.29080 finds that direction nearly orthogonal to all embeddings of a trained model, so that
    little else should be lost). Changes nothing where the means are equal.
    """
    difference_D = _mean_difference_D(image_ND, text_MD)
    length = float(np.linalg.norm(difference_D))
    width = len(difference_D)
    if length == 0:
        return nothing(width)
    across = Affine(np.zeros(width), np.ones(width), difference_D / length)
    return Fitted(across, across)


def _mean_difference_D(image_ND: Array, text_MD: Array) -> Array:
    difference_D: Array = image_ND.mean(axis=0) - text_MD.mean(axis=0)
    return difference_D
