"""A contrast: the paired difference between two levels."""

from gapctl.analysis.effect_test import effect_test
from gapctl.analysis.estimate import Direction, Estimate, estimate
from gapctl.analysis.paired import Paired


def contrast(responses: Paired, direction: Direction, alpha: float) -> Estimate:
    """The mean over seeds of second level - first level, of the two levels that `responses` has."""
    effects_S = responses.values_SL[:, 1] - responses.values_SL[:, 0]
    tested = effect_test(effects_S, direction)
    return estimate(effects_S, tested.p, tested.by, alpha)
