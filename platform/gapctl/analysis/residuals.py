"""What of a metric's order over arms is left once other metrics are accounted for, within each seed."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from gapctl.analysis.paired import FloatArray


def centred_ranks(values_SA: FloatArray, strata: Sequence[Sequence[int]]) -> FloatArray:
    """Each seed's ranks within each stratum, less their mean."""
    ranks_SA = np.empty_like(values_SA, dtype=float)
    for arms in strata:
        ranks_SA[:, arms] = stats.rankdata(values_SA[:, arms], axis=1) - (len(arms) + 1) / 2
    return ranks_SA


def residual_makers(given_QSA: FloatArray, strata: Sequence[Sequence[int]]) -> FloatArray:
    """Per seed, the matrix that takes a linear fit on the given metrics' ranks away from ranks."""
    makers = []
    for seed in range(given_QSA.shape[1]):
        ranks_AQ = np.stack([centred_ranks(metric_SA[[seed]], strata)[0] for metric_SA in given_QSA], axis=1)
        makers.append(np.eye(len(ranks_AQ)) - ranks_AQ @ np.linalg.pinv(ranks_AQ))
    return np.array(makers).reshape(given_QSA.shape[1], given_QSA.shape[2], given_QSA.shape[2])


def freedom(strata: Sequence[Sequence[int]], given: int) -> int:
    """How many independent differences between arms are left within strata after that many given metrics."""
    return sum(len(arms) - 1 for arms in strata) - given
