"""Taking each modality's own mean away, and its spread per dimension too where asked.

Index letters: N images, M texts, R rows of either, D embedding.
"""

import numpy as np

from gapctl.interventions.fitted import Affine, Fitted
from gapctl.metrics.gap import Array

NO_SPREAD = 1e-12
"""A dimension that varies less is constant but for rounding; it is centred and left at its scale."""


def fit_centring(image_ND: Array, text_MD: Array) -> Fitted:
    """Subtracts each modality's mean, of L2-normalised rows (GR-CLIP, arXiv 2507.19054)."""
    ones_D = np.ones(image_ND.shape[1])
    return Fitted(Affine(image_ND.mean(axis=0), ones_D), Affine(text_MD.mean(axis=0), ones_D))


def fit_standardisation(image_ND: Array, text_MD: Array) -> Fitted:
    """Gives each dimension of each modality mean zero and standard deviation one (after I0T, arXiv 2412.14384)."""
    return Fitted(_standardising(image_ND), _standardising(text_MD))


def _standardising(row_RD: Array) -> Affine:
    spread_D = row_RD.std(axis=0)
    return Affine(row_RD.mean(axis=0), 1 / np.where(spread_D > NO_SPREAD, spread_D, 1.0))
