"""Two levels compared within each seed: that they differ (contrast), or that they differ by too little to count."""

import numpy as np

from gapctl.analysis.effect_test import Direction
from gapctl.analysis.estimate import Estimate, effects_of, estimate
from gapctl.analysis.paired import Paired

WEIGHTS_C = np.array([-1.0, 1.0])


def contrast(responses: Paired, direction: Direction, smallest: float, alpha: float) -> Estimate:
    """The mean over seeds of second level - first level, of the two levels that `responses` has.

    With direction `neither` it is the test of equivalence: p is the larger of two one-sided t tests against
    -smallest and smallest (Schuirmann 1987, J Pharmacokinet Biopharm 15:657-680).
    """
    effects = effects_of(responses.values_SC, WEIGHTS_C)
    return estimate(effects, direction, smallest, alpha, values_SC=responses.values_SC)
