"""What of a metric is left over arms once other metrics are accounted for by a straight line, within each seed."""

from collections.abc import Sequence

import numpy as np

from gapctl.analysis.kendall import rounded
from gapctl.analysis.paired import FloatArray


def centred(values_SA: FloatArray, strata: Sequence[Sequence[int]]) -> FloatArray:
    """Each seed's values less their mean in each stratum, the largest of a seed made 1."""
    found_SA = np.array(rounded(values_SA))
    for arms in strata:
        found_SA[:, arms] -= found_SA[:, arms].mean(axis=1, keepdims=True)
    return rounded(found_SA)


def residual_makers(given_QSA: FloatArray, strata: Sequence[Sequence[int]]) -> FloatArray:
    """Per seed, the matrix that takes a linear fit on the given metrics away from centred values."""
    centred_QSA = np.array([centred(metric_SA, strata) for metric_SA in given_QSA])
    eye_AA = np.eye(given_QSA.shape[2])
    return np.array([eye_AA - metrics_QA.T @ np.linalg.pinv(metrics_QA.T) for metrics_QA in centred_QSA.swapaxes(0, 1)])


def residuals(makers_SAA: FloatArray, values_SA: FloatArray, strata: Sequence[Sequence[int]]) -> FloatArray:
    """What is left of a metric; to nine digits, so that nothing left is nothing."""
    return np.asarray(np.round(np.einsum("sij,sj->si", makers_SAA, centred(values_SA, strata)), 9))


def freedom(strata: Sequence[Sequence[int]], given: int) -> int:
    """How many independent differences between arms are left within strata after that many given metrics."""
    return sum(len(arms) - 1 for arms in strata) - given
