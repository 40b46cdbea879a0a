"""How few embedding dimensions carry the gap (arXiv 2404.07983, sec. 4).

Index letter: D embedding.
"""

from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.gap import Array


def shares_D(mean_difference_D: Array) -> Array:
    """Each dimension's share of the squared mean difference, largest first; zeros where there is no gap."""
    squared_D = np.sort(np.square(mean_difference_D))[::-1]
    total = squared_D.sum()
    return squared_D / total if total > 0 else squared_D


def top_share(mean_difference_D: Array, count: int) -> float:
    """The share that the `count` largest dimensions carry."""
    return float(shares_D(mean_difference_D)[:count].sum())


def dimensions_for(mean_difference_D: Array, share: float) -> int:
    """How many of the largest dimensions carry at least `share`; 0 where there is no gap."""
    carried_D = np.cumsum(shares_D(mean_difference_D))
    return 0 if carried_D[-1] == 0 else int(np.searchsorted(carried_D, share - 1e-12) + 1)


class DimensionOverlap(NamedTuple):
    """The share of leading dimensions that two models have in common, and what unrelated choices have on average.

    `p` is how often these have at least as many in common (hypergeometric).
    """

    share: float
    chance: float
    p: float


def leading_dimensions(mean_difference_D: Array, count: int) -> NDArray[np.int64]:
    """The dimensions that carry most of the gap, largest first; of equal ones the earlier."""
    return np.argsort(-np.abs(mean_difference_D), kind="stable")[:count]


def dimension_overlap(one_D: Array, other_D: Array, count: int) -> DimensionOverlap:
    """Whether the same dimensions carry the gap of two models of one width, by their mean differences.

    Raises ValueError where the widths differ or there are fewer than `count` dimensions.
    """
    width = len(one_D)
    if len(other_D) != width or not 0 < count <= width:
        raise ValueError(f"{count} leading dimensions of {width} and of {len(other_D)} do not compare")
    shared = len(np.intersect1d(leading_dimensions(one_D, count), leading_dimensions(other_D, count)))
    ways = sum(comb(count, same) * comb(width - count, count - same) for same in range(shared, count + 1))
    return DimensionOverlap(shared / count, count / width, ways / comb(width, count))
