"""The response itself against a value, seed by seed."""

import numpy as np

from gapctl.analysis.contrast import WEIGHTS_C
from gapctl.analysis.effect_test import Direction
from gapctl.analysis.estimate import Estimate, effects_of, estimate
from gapctl.analysis.paired import Paired


def at_level(responses: Paired, value: float, direction: Direction, smallest: float, alpha: float) -> Estimate:
    """The mean over seeds of the response less `value`; p is that of the t test of one sample.

    `responses` has one cell, which holds all trainings.
    """
    beside_value_SC = np.column_stack([np.full(len(responses.values_SC), value), responses.values_SC])
    effects = effects_of(beside_value_SC, WEIGHTS_C)
    return estimate(effects, direction, smallest, alpha, values_SC=responses.values_SC)
