"""Moving images onto texts by the part of the gap that no text has (after arXiv 2603.29080).

Index letters: N images, M texts, Q directions, D embedding.
"""

from typing import Final

import numpy as np

from gapctl.interventions.fitted import Affine, Fitted, unchanged
from gapctl.metrics.gap import Array

HELD: Final = 0.9
"""The share of the texts' variance whose directions count as theirs. Thousands of texts span every dimension, so with
all of it nothing would be left to move by."""


def fit_translation(image_ND: Array, text_MD: Array) -> Fitted:
    """Move images by the mean difference, less what of it lies along the texts' leading directions; leave texts alone.

    What images move by is then the same to all texts along these directions, so that an image's order of texts changes
    by what is left of the texts alone. Rows are normalised again, as after every intervention.
    """
    difference_D = image_ND.mean(axis=0) - text_MD.mean(axis=0)
    _, size_Q, direction_QD = np.linalg.svd(text_MD - text_MD.mean(axis=0), full_matrices=False)
    variance_Q = np.cumsum(size_Q**2)
    leading = int(np.searchsorted(variance_Q, HELD * variance_Q[-1])) + 1 if variance_Q[-1] > 0 else 0
    leading_QD = direction_QD[:leading]
    across_D = difference_D - leading_QD.T @ (leading_QD @ difference_D)
    return Fitted(Affine(across_D, np.ones_like(across_D)), unchanged(len(across_D)))
