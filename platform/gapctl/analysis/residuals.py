"""What of a metric is left over arms once other metrics are accounted for by a straight line, within each seed.

Index letters: S seeds, A arms, Q given metrics.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from gapctl.analysis.paired import FloatArray
from gapctl.analysis.ties import slack_of

LEFT: Final = 1e-9
"""Less than this share of a metric's largest deviation is nothing left of it: a fit is right to so many digits."""


class Centred(NamedTuple):
    """Deviations from the stratum's mean, each seed's largest being 1, and how far equal ones may lie apart (S, 1)."""

    values_SA: FloatArray
    slack_S1: FloatArray


def centred(values_SA: FloatArray, strata: Sequence[Sequence[int]]) -> Centred:
    """Each seed's values less their mean in each stratum; a metric that is the same throughout is 0 to the last bit."""
    found_SA = np.array(values_SA, dtype=float)
    for arms in strata:
        found_SA[:, arms] -= found_SA[:, arms].mean(axis=1, keepdims=True)
    rounding_S1, largest_S1 = slack_of(values_SA), np.abs(found_SA).max(axis=1, keepdims=True)
    moves_S1 = largest_S1 > rounding_S1
    unit_S1 = np.where(moves_S1, largest_S1, 1.0)
    return Centred(np.where(moves_S1, found_SA / unit_S1, 0.0), np.maximum(LEFT, rounding_S1 / unit_S1))


def spans(given_QSA: FloatArray, strata: Sequence[Sequence[int]]) -> FloatArray:
    """Per seed, orthonormal directions (A, Q) of all that a straight line on the given metrics can explain.

    Metrics that say the same to within rounding have one direction between them; the others' columns are 0.
    """
    metrics = [centred(metric_SA, strata) for metric_SA in given_QSA]
    values_SAQ = np.stack([metric.values_SA for metric in metrics], axis=2)
    direction_SAQ, size_SQ, _ = np.linalg.svd(values_SAQ, full_matrices=False)
    slack_S1 = np.max([metric.slack_S1 for metric in metrics], axis=0)
    told_SQ = size_SQ > slack_S1 * np.sqrt(values_SAQ.shape[1])
    return np.asarray(direction_SAQ * told_SQ[:, None, :])


def without(span_AQ: FloatArray, values_NA: FloatArray) -> FloatArray:
    """What is left of each row; `span_AQ` may have a leading axis, of seeds, that the rows have as well."""
    return np.asarray(values_NA - (values_NA @ span_AQ) @ span_AQ.swapaxes(-1, -2))


def freedom(strata: Sequence[Sequence[int]], given: int) -> int:
    """How many independent differences between arms are left within strata after that many given metrics."""
    return sum(len(arms) - 1 for arms in strata) - given
