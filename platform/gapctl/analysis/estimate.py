"""What a test estimates: one effect per seed, their mean, and a p-value of the declared direction."""

import math
from dataclasses import dataclass
from typing import Literal

from gapctl.analysis.interval import bootstrap_interval, t_interval
from gapctl.analysis.paired import FloatArray
from gapctl.analysis.results import Interval

Direction = Literal["increasing", "decreasing", "either"]
PTest = Literal["t", "sign", "page", "none"]


@dataclass(frozen=True)
class Estimate:
    """`effects_S` are the seeds' own effects, `p_test` the test that gave `p`; NaN for what too few seeds allow."""

    effects_S: FloatArray
    value: float
    ci: Interval
    ci_bootstrap: Interval
    p: float
    p_test: PTest

    @property
    def spread(self) -> float:
        """The standard deviation of the seeds' effects; NaN with fewer than two."""
        return float(self.effects_S.std(ddof=1)) if len(self.effects_S) > 1 else math.nan

    @property
    def standardised(self) -> float:
        """The estimate over the spread; NaN without spread."""
        return self.value / self.spread if self.spread > 0 else math.nan


def estimate(effects_S: FloatArray, p: float, p_test: PTest, alpha: float) -> Estimate:
    """The mean effect with its intervals at level 1 - alpha."""
    value = float(effects_S.mean()) if len(effects_S) else math.nan
    ci, bootstrap = t_interval(effects_S, alpha), bootstrap_interval(effects_S, alpha)
    return Estimate(effects_S, value, ci, bootstrap, p, p_test)
