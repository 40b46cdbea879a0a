"""A mean over a sample of rows, with what it can be trusted for.

Index letter: S sampled rows.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

NORMAL_95: Final = 1.959963984540054


class Sampled(NamedTuple):
    """A value, its 95 % interval for which rows were drawn, and how many of how many rows were.

    The interval has no width where all rows were taken: it is about the sample, not about other data.
    """

    value: float
    low: float
    high: float
    sample: int
    population: int

    @property
    def whole(self) -> bool:
        """Whether every row was taken."""
        return self.sample >= self.population

    def scaled(self, factor: float) -> "Sampled":
        """The same in another unit, for a positive factor."""
        return self._replace(value=self.value * factor, low=self.low * factor, high=self.high * factor)


def mean_of_sample(value_S: NDArray[np.floating], population: int) -> Sampled:
    """The mean of rows drawn without replacement; NaN for the interval of a single row of several."""
    count = len(value_S)
    mean = float(np.mean(value_S, dtype=np.float64))
    half = NORMAL_95 * _standard_error(value_S, population)
    return Sampled(mean, mean - half, mean + half, count, population)


def share_of_sample(hit_S: NDArray[np.bool_], population: int) -> Sampled:
    """The share of rows that hit, drawn without replacement, with Wilson's interval (1927, JASA 22:209-212).

    It stays within 0 and 1 and keeps a width where none or all of the sample hit.
    """
    count, share = len(hit_S), float(np.mean(hit_S))
    if count >= population:
        return Sampled(share, share, share, count, population)
    numbers = count / (1 - count / population)
    shrink = 1 + NORMAL_95**2 / numbers
    centre = (share + NORMAL_95**2 / (2 * numbers)) / shrink
    half = NORMAL_95 * math.sqrt(share * (1 - share) / numbers + (NORMAL_95 / (2 * numbers)) ** 2) / shrink
    return Sampled(share, max(0.0, centre - half), min(1.0, centre + half), count, population)


def _standard_error(value_S: NDArray[np.floating], population: int) -> float:
    count = len(value_S)
    if count >= population:
        return 0.0
    if count < 2:
        return math.nan
    unseen = 1 - count / population
    return float(np.std(value_S, ddof=1, dtype=np.float64)) * math.sqrt(unseen / count)
