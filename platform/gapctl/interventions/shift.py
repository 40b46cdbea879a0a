"""Shifting both modalities towards each other along the difference of their means (arXiv 2203.02053, sec. 4).

Index letters: N images, M texts, D embedding.
"""

import numpy as np

from gapctl.interventions.fitted import Affine, Fitted
from gapctl.metrics.gap import Array


def fit_shift(image_ND: Array, text_MD: Array, amount: float) -> Fitted:
    """Takes `amount` / 2 of the mean difference from images and adds as much to texts, of L2-normalised rows.

    At 0 nothing changes, at 1 the means of the calibration split meet (until rows are normalised again), beyond 1
    they have passed each other, and below 0 the gap is widened, all of which the paper's sweep has.
    """
    half_D = amount / 2 * (image_ND.mean(axis=0) - text_MD.mean(axis=0))
    ones_D = np.ones_like(half_D)
    return Fitted(Affine(half_D, ones_D), Affine(-half_D, ones_D))
