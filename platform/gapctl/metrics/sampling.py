"""Sample rows for the costly metrics, and estimate means over them with 95 % intervals.

Index letters: S sampled rows or rows of a gallery, G galleries.
"""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

NORMAL_95: Final = 1.959963984540054
SAMPLE_SEED: Final = 2404_07983
COMPARISON_LIMIT: Final = 1 << 31
"""Galleries of up to 46,340 are compared in full, some minutes on a laptop at 512 dimensions."""

LEAST_QUERIES: Final = 1024
"""Queries that are compared however large the gallery is."""


@dataclass(frozen=True, kw_only=True)
class SampleLimits:
    """Limits of the measures whose cost grows faster than the number of rows."""

    comparisons: int
    """Cosines that entropies and recalls compute; queries are sampled if all of them would need more."""

    queries: int
    """Rows that uniformity, neighbour overlap and mixed search compare with the whole gallery, if it is not too large;
    also the rows that noise is added to.
    """

    pairs: int
    """Rows of each modality for the linear probe and for clustering."""

    galleries: int
    """Galleries of a fixed size for the calibrated entropies."""

    single: bool
    """Whether entropies, recalls and the measures above compute in float32; sums over rows are float64 anyway."""

    def against(self, gallery: int) -> int:
        """Return the largest number of queries of entropies and recalls for a gallery of this size."""
        return max(LEAST_QUERIES, self.comparisons // gallery)

    def limit_queries(self, gallery: int) -> int:
        """Return the largest number of queries of all other measures for a gallery of this size."""
        return min(self.queries, self.against(gallery))


TRIAL_LIMITS: Final = SampleLimits(comparisons=COMPARISON_LIMIT, queries=256, pairs=1024, galleries=1, single=True)
"""Limits for the evaluations during a trial."""

THOROUGH_LIMITS: Final = SampleLimits(
    comparisons=COMPARISON_LIMIT, queries=8192, pairs=8192, galleries=64, single=False
)
"""Limits for a model that is measured once."""


class DrawPurpose(IntEnum):
    """The purpose of a draw. Each purpose has random numbers of its own."""

    QUERIES = 1
    PAIRS = 2
    GALLERIES = 3
    HELD_OUT = 4
    CENTROIDS = 5
    NOISE = 6


def make_metric_generator(draw: DrawPurpose) -> np.random.Generator:
    """Return the random generator of one purpose, the same on every machine."""
    return np.random.Generator(np.random.Philox(key=[SAMPLE_SEED, int(draw)]))


def permute_row_numbers(draw: DrawPurpose, count: int) -> NDArray[np.int64]:
    """Return the numbers 0 to `count` - 1 in a random order."""
    return make_metric_generator(draw).permutation(count)


def sample_row_numbers(draw: DrawPurpose, count: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` different rows of `count` in ascending order, or all if there are no more."""
    return np.arange(count) if count <= most else np.sort(permute_row_numbers(draw, count)[:most])


class SampleEstimate(NamedTuple):
    """An estimate with its 95 % sampling interval, the number of sampled rows and of all rows.

    The interval is about the draw of rows, not about other data: it has no width if all rows were used. `galleries` is
    the number of separate galleries that rows were dealt into at random; 0 if all rows are compared with one gallery.
    """

    value: float
    low: float
    high: float
    sample: int
    population: int
    galleries: int = 0

    @property
    def whole(self) -> bool:
        """Whether nothing was left to chance: every row was used, and rows were not dealt into galleries."""
        return self.sample >= self.population and self.galleries < 2

    def scale_by(self, factor: float) -> "SampleEstimate":
        """Return the estimate in another unit: value and interval times a positive factor."""
        return self._replace(value=self.value * factor, low=self.low * factor, high=self.high * factor)


def estimate_mean(value_S: NDArray[np.floating], population: int) -> SampleEstimate:
    """Return the mean of rows drawn without replacement; the interval of a single row of several is NaN."""
    count = len(value_S)
    mean, error = float(np.mean(value_S, dtype=np.float64)), math.nan
    if count >= population:
        error = 0.0
    elif count > 1:
        error = float(np.std(value_S, ddof=1, dtype=np.float64)) * math.sqrt((1 - count / population) / count)
    return SampleEstimate(mean, mean - NORMAL_95 * error, mean + NORMAL_95 * error, count, population)


def estimate_mean_over_galleries(value_GS: NDArray[np.floating], population: int) -> SampleEstimate:
    """Return the mean over galleries (G, S) dealt at random from a population of rows, without a row in common.

    Rows of one gallery are compared with the same others, so the gallery is the unit of sampling. The interval is
    Student's over galleries, for the mean over all galleries of this size that the population allows. It is too wide
    rather than too narrow, as galleries without common rows differ more than their mean varies. A single gallery has a
    NaN interval, or one of no width if it holds the whole population.
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
    """Return the share of hits among rows drawn without replacement, with Wilson's interval (1927, JASA 22:209-212).

    The interval stays within 0 and 1, and keeps a width if none or all of the sample hit.
    """
    count, share = len(hit_S), float(np.mean(hit_S))
    if count >= population:
        return SampleEstimate(share, share, share, count, population)
    return SampleEstimate(share, *wilson_interval(share, count / (1 - count / population)), count, population)


def wilson_interval(share: float, numbers: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of `numbers` independent draws."""
    shrink = 1 + NORMAL_95**2 / numbers
    centre = (share + NORMAL_95**2 / (2 * numbers)) / shrink
    half = NORMAL_95 * math.sqrt(share * (1 - share) / numbers + (NORMAL_95 / (2 * numbers)) ** 2) / shrink
    return max(0.0, centre - half), min(1.0, centre + half)
