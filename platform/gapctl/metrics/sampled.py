"""A mean over a sample of rows, with what it can be trusted for.

Index letter: S sampled rows.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

NORMAL_95: Final = 1.959963984540054


class Sampled(NamedTuple):
    """A value, its 95 % interval for which rows were drawn, and how many of how many rows were.

    The interval has no width where all rows were taken: it is about the sample, not about other data. `galleries` is
    how many separate galleries the rows were dealt into, at random; 0 where all rows are compared with one gallery.
    """

    value: float
    low: float
    high: float
    sample: int
    population: int
    galleries: int = 0

    @property
    def whole(self) -> bool:
        """Whether nothing was left to chance: every row was taken, and they were not dealt."""
        return self.sample >= self.population and self.galleries < 2

    def scaled(self, factor: float) -> "Sampled":
        """The same in another unit, for a positive factor."""
        return self._replace(value=self.value * factor, low=self.low * factor, high=self.high * factor)


def mean_of_sample(value_S: NDArray[np.floating], population: int) -> Sampled:
    """The mean of rows drawn without replacement; NaN for the interval of a single row of several."""
    count = len(value_S)
    mean = float(np.mean(value_S, dtype=np.float64))
    half = NORMAL_95 * _standard_error(value_S, population)
    return Sampled(mean, mean - half, mean + half, count, population)


def mean_of_galleries(value_GS: NDArray[np.floating], population: int) -> Sampled:
    """The mean over galleries that were dealt at random from a population of rows, without a row in common.

    Rows of one gallery are compared with the same others, so that the gallery is what was drawn, and the interval is
    Student's over galleries: of the mean over all galleries of this size that the population could be dealt into. It
    is too wide rather than too narrow, as galleries without common rows differ more than their mean varies. NaN for a
    single gallery, but no width for one that holds the whole population.
    """
    galleries, size = value_GS.shape
    mean_G = np.mean(value_GS, axis=1, dtype=np.float64)
    mean, half = float(mean_G.mean()), math.nan
    if galleries > 1:
        half = float(stdtrit(galleries - 1, 0.975) * mean_G.std(ddof=1) / math.sqrt(galleries))
    elif size >= population:
        half = 0.0
    return Sampled(mean, mean - half, mean + half, value_GS.size, population, galleries)


def share_of_sample(hit_S: NDArray[np.bool_], population: int) -> Sampled:
    """The share of rows that hit, drawn without replacement, with Wilson's interval (1927, JASA 22:209-212).

    It stays within 0 and 1 and keeps a width where none or all of the sample hit.
    """
    count, share = len(hit_S), float(np.mean(hit_S))
    if count >= population:
        return Sampled(share, share, share, count, population)
    return Sampled(share, *wilson(share, count / (1 - count / population)), count, population)


def wilson(share: float, numbers: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of so many independent draws."""
    shrink = 1 + NORMAL_95**2 / numbers
    centre = (share + NORMAL_95**2 / (2 * numbers)) / shrink
    half = NORMAL_95 * math.sqrt(share * (1 - share) / numbers + (NORMAL_95 / (2 * numbers)) ** 2) / shrink
    return max(0.0, centre - half), min(1.0, centre + half)


def _standard_error(value_S: NDArray[np.floating], population: int) -> float:
    count = len(value_S)
    if count >= population:
        return 0.0
    if count < 2:
        return math.nan
    unseen = 1 - count / population
    return float(np.std(value_S, ddof=1, dtype=np.float64)) * math.sqrt(unseen / count)
