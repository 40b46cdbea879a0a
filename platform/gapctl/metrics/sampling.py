"""A mean over a sample of rows, with what it can be trusted for.

Index letter: S sampled rows.
"""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

NORMAL_95: Final = 1.959963984540054


class SampleEstimate(NamedTuple):
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

    def scale_by(self, factor: float) -> "SampleEstimate":
        """The same in another unit, for a positive factor."""
        return self._replace(value=self.value * factor, low=self.low * factor, high=self.high * factor)


def estimate_mean(value_S: NDArray[np.floating], population: int) -> SampleEstimate:
    """The mean of rows drawn without replacement; NaN for the interval of a single row of several."""
    count = len(value_S)
    mean = float(np.mean(value_S, dtype=np.float64))
    half = NORMAL_95 * _estimate_standard_error(value_S, population)
    return SampleEstimate(mean, mean - half, mean + half, count, population)


def estimate_gallery_mean(value_GS: NDArray[np.floating], population: int) -> SampleEstimate:
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
    return SampleEstimate(mean, mean - half, mean + half, value_GS.size, population, galleries)


def estimate_share(hit_S: NDArray[np.bool_], population: int) -> SampleEstimate:
    """The share of rows that hit, drawn without replacement, with Wilson's interval (1927, JASA 22:209-212).

    It stays within 0 and 1 and keeps a width where none or all of the sample hit.
    """
    count, share = len(hit_S), float(np.mean(hit_S))
    if count >= population:
        return SampleEstimate(share, share, share, count, population)
    return SampleEstimate(share, *wilson_interval(share, count / (1 - count / population)), count, population)


def wilson_interval(share: float, numbers: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of so many independent draws."""
    shrink = 1 + NORMAL_95**2 / numbers
    centre = (share + NORMAL_95**2 / (2 * numbers)) / shrink
    half = NORMAL_95 * math.sqrt(share * (1 - share) / numbers + (NORMAL_95 / (2 * numbers)) ** 2) / shrink
    return max(0.0, centre - half), min(1.0, centre + half)


def _estimate_standard_error(value_S: NDArray[np.floating], population: int) -> float:
    count = len(value_S)
    if count >= population:
        return 0.0
    if count < 2:
        return math.nan
    unseen = 1 - count / population
    return float(np.std(value_S, ddof=1, dtype=np.float64)) * math.sqrt(unseen / count)


SAMPLE_SEED: Final = 2404_07983


class DrawPurpose(IntEnum):
    """What is drawn; each has random numbers of its own."""

    QUERIES = 1
    PAIRS = 2
    GALLERIES = 3
    HELD_OUT = 4
    CENTROIDS = 5
    NOISE = 6


def make_generator(draw: DrawPurpose) -> np.random.Generator:
    """The random numbers of one draw, the same on every machine."""
    return np.random.Generator(np.random.Philox(key=[SAMPLE_SEED, int(draw)]))


def permute_rows(draw: DrawPurpose, count: int) -> NDArray[np.int64]:
    """All of `count` rows in a random order."""
    return make_generator(draw).permutation(count)


def sample_rows(draw: DrawPurpose, count: int, most: int) -> NDArray[np.int64]:
    """At most `most` different rows of `count`, in ascending order; all of them where there are no more."""
    return np.arange(count) if count <= most else np.sort(permute_rows(draw, count)[:most])


@dataclass(frozen=True, kw_only=True)
class SampleLimits:
    """Limits of the measures whose cost grows faster than the number of rows."""

    comparisons: int
    """Cosines that entropies and recalls look at; where all queries would need more, a part of them is drawn."""

    queries: int
    """Rows that are compared with the whole gallery, where it is not too large: uniformity, neighbour overlap, mixed
    search; and rows that noise is added to."""

    pairs: int
    """Rows of each modality for the linear probe and for clustering."""

    galleries: int
    """Galleries of a fixed size for the calibrated entropies."""

    single: bool
    """Whether they and the entropies compute in float32; sums over rows are float64 anyway."""

    def against(self, gallery: int) -> int:
        """The most queries of entropies and recalls against a gallery of this size."""
        return max(LEAST_QUERIES, self.comparisons // gallery)

    def limit_queries(self, gallery: int) -> int:
        """The most rows of any other measure that compares them with a gallery of this size."""
        return min(self.queries, self.against(gallery))


COMPARISON_LIMIT: Final = 1 << 31
"""Galleries of up to 46,340 are compared whole, some minutes of a laptop's time at 512 dimensions."""

LEAST_QUERIES: Final = 1024
"""Queries, however large the gallery is."""

TRIAL_LIMITS: Final = SampleLimits(comparisons=COMPARISON_LIMIT, queries=256, pairs=1024, galleries=1, single=True)
"""Fits a trial's evaluations."""

THOROUGH_LIMITS: Final = SampleLimits(
    comparisons=COMPARISON_LIMIT, queries=8192, pairs=8192, galleries=64, single=False
)
"""For a model that is measured once."""
