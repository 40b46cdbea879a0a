"""Measure the entropy of each query's softmax over the whole gallery, in row blocks of bounded memory.

Entropy grows with the gallery: its largest value is ln of the size. `estimate_entropy_at_gallery_size` therefore
measures it over galleries of a fixed size, so that models measured on galleries of different sizes compare.

Index letters: Q queries, G gallery, N pairs, D embedding, S queries that are computed together.
"""

from collections.abc import Mapping

import numpy as np

from gapctl.metrics.checks import Rows, RowSource, check_unit_rows
from gapctl.metrics.comparisons import compute_entropies
from gapctl.metrics.sampling import (
    DrawPurpose,
    SampleEstimate,
    estimate_mean,
    estimate_mean_over_galleries,
    permute_row_numbers,
    sample_row_numbers,
)


def compute_mean_entropy(query_QD: Rows, gallery_GD: Rows, scale: float) -> float:
    """Return the mean entropy of queries' softmax(scale * q . gallery) in nats (arXiv 2404.07983, sec. 6)."""
    return estimate_mean_entropy(query_QD, gallery_GD, scale, most=len(query_QD)).value


def estimate_mean_entropy(query_QD: Rows, gallery_GD: Rows, scale: float, most: int) -> SampleEstimate:
    """Estimate the mean entropy from at most `most` of the queries, each against the whole gallery, in nats.

    Raise InputError for rows that are not of length one.
    """
    check_unit_rows(query=query_QD, gallery=gallery_GD)
    rows_Q = sample_row_numbers(DrawPurpose.QUERIES, len(query_QD), most)
    return estimate_mean(compute_entropies(query_QD[rows_Q], gallery_GD, scale), len(query_QD))


def estimate_entropy_at_gallery_size(
    query_ND: RowSource, gallery_ND: RowSource, scale: float, size: int, galleries: int
) -> SampleEstimate:
    """Estimate the mean entropy over galleries of `size` pairs, in nats; row i of both arrays is a pair.

    The pairs are put into a seeded order and cut into disjoint galleries, of which the first `galleries` are used. Each
    query is compared with its own gallery alone. The interval is over galleries. Raise ValueError if there are fewer
    than `size` pairs.
    """
    check_unit_rows(query=query_ND, gallery=gallery_ND)
    count = len(query_ND)
    if count < size:
        raise ValueError(f"{count} pairs do not make a gallery of {size}")
    taken = min(count // size, galleries)
    rows_GS = permute_row_numbers(DrawPurpose.GALLERIES, count)[: taken * size].reshape(taken, size)
    entropies = [compute_entropies(query_ND[rows], gallery_ND[rows], scale) for rows in rows_GS]
    return estimate_mean_over_galleries(np.stack(entropies), count)


def compare_with_posterior_entropies(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return by how much entropies exceed those of a model that knows the world, where `metrics` have both."""
    excesses = {}
    for side in ("entropy/i2t", "entropy/t2i"):
        known, own = f"{side}_posterior_nats", f"{side}_nats"
        if known in metrics and own in metrics:
            excesses[f"{side}_excess_nats"] = metrics[own] - metrics[known]
    return excesses
