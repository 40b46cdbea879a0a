"""The kernels that compare rows with rows, by torch where it is installed, else by numpy.

They differ in rounding alone, and a test holds them to each other. Of items whose cosines are equal to the last bit,
the earlier row counts as the nearer. torch is the faster by far for large galleries, and every trial is measured with
it.
"""

from importlib.util import find_spec

HAS_TORCH = find_spec("torch") is not None

if HAS_TORCH:
    from gapctl.metrics.comparisons_torch import (
        cluster_rows,
        compute_entropies,
        compute_neighbor_overlaps,
        compute_normalised_discounted_gains,
        find_recall_hits,
        sum_gaussian_potentials,
    )
else:
    from gapctl.metrics.comparisons_numpy import (
        cluster_rows,
        compute_entropies,
        compute_neighbor_overlaps,
        compute_normalised_discounted_gains,
        find_recall_hits,
        sum_gaussian_potentials,
    )

__all__ = [
    "HAS_TORCH",
    "cluster_rows",
    "compute_entropies",
    "compute_neighbor_overlaps",
    "compute_normalised_discounted_gains",
    "find_recall_hits",
    "sum_gaussian_potentials",
]
