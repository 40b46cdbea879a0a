"""How few embedding dimensions carry the gap (arXiv 2404.07983, sec. 4).

Index letter: D embedding.
"""

import numpy as np

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
