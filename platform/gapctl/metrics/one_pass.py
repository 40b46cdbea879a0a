"""Compare the pairs of a large set with each other in one pass over both modalities, for all metrics at once.

The metrics draw their queries from one order of rows. So a block of cosines serves the entropies at all logit scales,
recall, uniformity, mixed search and the overlap of neighbours, and neither a gallery nor all cosines of a query need to
be in memory.

1. `compare_pairs` draws the queries, takes both modalities block by block, and returns the estimates by metric.
2. `_Side` has the queries of one modality, and meets each block of its own and of the other modality.
3. `_Entropies`, `_Nearest` and the sums of potentials keep what was found so far; sums are in float64.
4. `_measure_overlaps` compares the nearest images of each pair with its nearest texts.

Index letters: N pairs, D embedding, Q queries, B a block of queries, G a block of the gallery, S some of a block's
queries, K nearest items.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gapctl.metrics.checks import Integers
from gapctl.metrics.comparisons_numpy import TIE_TOLERANCE
from gapctl.metrics.comparisons_torch import compute_ndcg, find_nearest, weigh_nearest
from gapctl.metrics.gap import Array
from gapctl.metrics.geometry import estimate_uniformity
from gapctl.metrics.sampling import (
    DrawPurpose,
    SampleEstimate,
    SampleLimits,
    estimate_mean,
    estimate_share,
    permute_row_numbers,
    sample_row_numbers,
)
from gapctl.metrics.unit_rows import UnitRows

GALLERY_BLOCK: Final = 1_024
QUERY_BLOCK: Final = 256
"""Queries and items whose cosines are computed together; at this size they stay in the cache."""
NEIGHBOR_LIST: Final = 64
"""Nearest items that are kept for the overlap of neighbours, so that those that tie with the last are among them."""
CROWDED_BLOCK: Final = 64
"""Queries with more ties than that, which are compared with whole galleries together."""


class PairComparisons(NamedTuple):
    """The estimates: entropies from image to text and back by logit scale, and all others."""

    entropies: Mapping[float, tuple[SampleEstimate, SampleEstimate]]
    uniformity_image: SampleEstimate
    uniformity_text: SampleEstimate
    uniformity_cross: SampleEstimate
    mixed_ndcg: SampleEstimate
    forward_recalls: Mapping[int, SampleEstimate]
    backward_recalls: Mapping[int, SampleEstimate]
    neighbor_overlap: SampleEstimate


class _QueryRows(NamedTuple):
    """Which rows are compared: the first of `order_N`, as many as each metric asks for, and each side's mixed queries.

    `asked` rows meet the other modality, `spread` rows their own, and `paired` rows look for neighbours in both.
    """

    order_N: Integers
    asked: int
    spread: int
    paired: int
    mixed: tuple[Integers, Integers]


def compare_pairs(
    image: UnitRows,
    text: UnitRows,
    key_N: Integers,
    scales: Collection[float],
    limits: SampleLimits,
    *,
    neighbors: int,
    depth: int,
    recall_depths: Sequence[int] = (1, 5, 10),
) -> PairComparisons:
    """Compare pairs, of which row i of both modalities is one; an image and a text match if their keys (N,) are equal.

    Draws, intervals and definitions are those of `entropy.estimate_mean_entropy`, `geometry.uniformity`,
    `geometry.cross_uniformity`, `geometry.neighbor_overlap`, `retrieval.mixed_ndcg` at `depth` and
    `retrieval.estimate_recall_at_depths`. Expects more pairs than `NEIGHBOR_LIST`.
    """
    count = len(image)
    draw = _draw_query_rows(count, limits)
    key = torch.from_numpy(key_N)
    sides = (
        _Side(image, draw, draw.mixed[0], key, scales, max(depth, *recall_depths), cross=True),
        _Side(text, draw, draw.mixed[1], key, scales, max(depth, *recall_depths), cross=False),
    )
    for start in range(0, count, GALLERY_BLOCK):
        rows = slice(start, min(start + GALLERY_BLOCK, count))
        image_GD, text_GD = (torch.from_numpy(cloud[rows]) for cloud in (image, text))
        sides[0].meet(image_GD, text_GD, start)
        sides[1].meet(text_GD, image_GD, start)
    overlap_Q = _measure_overlaps(sides, draw.order_N[: draw.paired], neighbors)
    gains = np.concatenate([side.compute_gains(depth) for side in sides])
    forward, backward = (
        {one: estimate_share(side.find_matched_queries(one), count) for one in recall_depths} for side in sides
    )
    return PairComparisons(
        entropies={
            scale: (
                estimate_mean(sides[0].entropies.compute_entropies(scale), count),
                estimate_mean(sides[1].entropies.compute_entropies(scale), count),
            )
            for scale in scales
        },
        uniformity_image=_estimate_uniformity(sides[0].within_Q, count),
        uniformity_text=_estimate_uniformity(sides[1].within_Q, count),
        uniformity_cross=_estimate_uniformity(sides[0].cross_Q, count),
        mixed_ndcg=estimate_mean(gains, 2 * count),
        forward_recalls=forward,
        backward_recalls=backward,
        neighbor_overlap=estimate_mean(overlap_Q / neighbors, count),
    )


def _draw_query_rows(count: int, limits: SampleLimits) -> _QueryRows:
    mixed = sample_row_numbers(DrawPurpose.QUERIES, 2 * count, limits.limit_queries(2 * count))
    return _QueryRows(
        order_N=permute_row_numbers(DrawPurpose.QUERIES, count),
        asked=min(count, limits.against(count)),
        spread=min(count, limits.limit_queries(count)),
        paired=min(count, limits.limit_queries(2 * count)),
        mixed=(mixed[mixed < count], mixed[mixed >= count] - count),
    )


def _estimate_uniformity(potential_Q: torch.Tensor, count: int) -> SampleEstimate:
    return estimate_uniformity(potential_Q.numpy(), np.full(len(potential_Q), count - 1), count)


class _Side:
    """The queries of one modality, and what they found so far in the other and in their own."""

    def __init__(
        self,
        cloud: UnitRows,
        draw: _QueryRows,
        mixed_Q: Integers,
        key_N: torch.Tensor,
        scales: Collection[float],
        nearest: int,
        *,
        cross: bool,
    ) -> None:
        self.cloud, self._key_N, self._paired = cloud, key_N, draw.paired
        self._row_Q, self._mixed_row_Q = draw.order_N[: draw.asked], torch.from_numpy(mixed_Q)
        self._query_QD = torch.from_numpy(cloud[self._row_Q])
        self._mixed_QD = torch.from_numpy(cloud[mixed_Q])
        dtype = self._query_QD.dtype
        self._spread = draw.spread
        self.entropies = _Entropies(draw.asked, scales, dtype)
        self._matches = _Nearest(draw.asked, nearest, dtype)
        self._mixed_other = _Nearest(len(mixed_Q), nearest, dtype)
        self._mixed_own = _Nearest(len(mixed_Q), nearest, dtype)
        self.neighbors = _Nearest(draw.paired, NEIGHBOR_LIST, dtype)
        self.within_Q = torch.zeros(draw.spread, dtype=torch.float64)
        self.cross_Q = torch.zeros(draw.spread if cross else 0, dtype=torch.float64)

    def meet(self, own_GD: torch.Tensor, other_GD: torch.Tensor, first: int) -> None:
        """Compare the queries with the next block of both modalities, whose first rows are row `first`."""
        for rows in _cut_queries(len(self._query_QD)):
            cosine_BG = self._query_QD[rows] @ other_GD.T
            self.entropies.add(rows, cosine_BG)
            self._matches.add(rows, cosine_BG, first)
            spread = min(rows.stop, len(self.cross_Q))
            if rows.start < spread:
                some = slice(rows.start, spread)
                cosine_SG = self._leave_out_own_row(cosine_BG[: spread - rows.start], some, first)
                self.cross_Q[some] += _sum_potentials(cosine_SG)
        for rows in _cut_queries(self._spread):
            cosine_BG = self._leave_out_own_row(self._query_QD[rows] @ own_GD.T, rows, first)
            self.within_Q[rows] += _sum_potentials(cosine_BG)
            paired = min(rows.stop, self._paired)
            if rows.start < paired:
                self.neighbors.add(slice(rows.start, paired), cosine_BG[: paired - rows.start], first)
        key_G = self._key_N[first : first + len(own_GD)]
        for rows in _cut_queries(len(self._mixed_QD)):
            self._mixed_other.add(rows, self._mixed_QD[rows] @ other_GD.T, first)
            same_BG = self._key_N[self._mixed_row_Q[rows]][:, None] == key_G
            self._mixed_own.add(rows, (self._mixed_QD[rows] @ own_GD.T).masked_fill_(same_BG, -2), first)

    def _leave_out_own_row(self, cosine_BG: torch.Tensor, rows: slice, first: int) -> torch.Tensor:
        """Set the cosine of each query with its own row, or its own row's partner, to minus infinity."""
        place_B = self._row_Q[rows] - first
        inside_S = np.flatnonzero((place_B >= 0) & (place_B < cosine_BG.shape[1]))
        cosine_BG[torch.from_numpy(inside_S), torch.from_numpy(place_B[inside_S])] = -math.inf
        return cosine_BG

    def find_matched_queries(self, depth: int) -> NDArray[np.bool_]:
        """Return whether each query has an item of its own key among the `depth` nearest (Q,)."""
        key_Q1 = self._key_N[torch.from_numpy(self._row_Q)][:, None]
        hit_Q: NDArray[np.bool_] = (self._key_N[self._matches.place_QK[:, :depth]] == key_Q1).any(dim=1).numpy()
        return hit_Q

    def compute_gains(self, depth: int) -> Array:
        """Return the normalised discounted gain of each mixed query; of equal items the other modality's come first."""
        key_Q = self._key_N[self._mixed_row_Q]
        value_QK = torch.cat([self._mixed_other.value_QK, self._mixed_own.value_QK], dim=1)
        hit_QK = self._key_N[self._mixed_other.place_QK] == key_Q[:, None]
        hit_QK = torch.cat([hit_QK, torch.zeros_like(hit_QK)], dim=1).gather(1, find_nearest(value_QK, depth))
        known_N, count_N = torch.unique(self._key_N, return_counts=True)
        gain_Q: Array = compute_ndcg(hit_QK, count_N[torch.searchsorted(known_N, key_Q)]).numpy()
        return gain_Q

    def compute_own_cosines(self, rows_B: Integers) -> torch.Tensor:
        """Return the cosines of some rows with all rows of this modality (B, N), their own at minus infinity."""
        query_BD, count = torch.from_numpy(self.cloud[rows_B]), len(self.cloud)
        cosine_BN = query_BD.new_empty(len(rows_B), count)
        for start in range(0, count, GALLERY_BLOCK):
            rows = slice(start, min(start + GALLERY_BLOCK, count))
            cosine_BN[:, rows] = query_BD @ torch.from_numpy(self.cloud[rows]).T
        return cosine_BN.scatter_(1, torch.from_numpy(rows_B)[:, None], -math.inf)


def _cut_queries(count: int) -> Iterator[slice]:
    for start in range(0, count, QUERY_BLOCK):
        yield slice(start, min(start + QUERY_BLOCK, count))


def _sum_potentials(cosine_BG: torch.Tensor) -> torch.Tensor:
    """Return the sums of exp(4 cosine - 4) in float64 (B,)."""
    return (4 * cosine_BG).sub_(4).exp_().sum(dim=1, dtype=torch.float64)


class _Entropies:
    """The entropies of softmax(scale * cosine) over all items so far, by sums relative to the largest cosine.

    For each scale, `weight` is the sum of exp(scale * below), below being a cosine less the largest, and `moment` that
    of the same times below.
    """

    def __init__(self, queries: int, scales: Collection[float], dtype: torch.dtype) -> None:
        self._largest_Q = torch.full((queries,), -2, dtype=dtype)  # below any cosine
        self._sums = {scale: torch.zeros(2, queries, dtype=torch.float64) for scale in scales}

    def add(self, rows: slice, cosine_BG: torch.Tensor) -> None:
        """Add a block's cosines."""
        now_B = torch.maximum(self._largest_Q[rows], cosine_BG.amax(dim=1))
        shift_B = (self._largest_Q[rows] - now_B).double()
        below_BG = cosine_BG - now_B[:, None]
        self._largest_Q[rows] = now_B
        for scale, sums_2Q in self._sums.items():
            weight_B, moment_B = sums_2Q[:, rows]
            moment_B += weight_B * shift_B
            sums_2Q[:, rows] *= (scale * shift_B).exp_()
            weight_BG = (scale * below_BG).exp_()
            weight_B += weight_BG.sum(dim=1, dtype=torch.float64)
            moment_B += weight_BG.mul_(below_BG).sum(dim=1, dtype=torch.float64)

    def compute_entropies(self, scale: float) -> Array:
        """Return the entropies at one scale in nats (Q,)."""
        weight_Q, moment_Q = self._sums[scale]
        entropy_Q: Array = (weight_Q.log() - scale * moment_Q / weight_Q).numpy()
        return entropy_Q


class _Nearest:
    """The nearest items of each query so far, nearest first, and of equal ones the earlier first."""

    def __init__(self, queries: int, count: int, dtype: torch.dtype) -> None:
        self.value_QK = torch.full((queries, count), -math.inf, dtype=dtype)
        self.place_QK = torch.zeros((queries, count), dtype=torch.int64)

    def add(self, rows: slice, cosine_BG: torch.Tensor, first: int) -> None:
        """Add a block's cosines; its items come after all that were added before."""
        value_BK, place_BK = self.value_QK[rows], self.place_QK[rows]
        nearer_S = (cosine_BG.amax(dim=1) > value_BK[:, -1]).nonzero()[:, 0]
        if not len(nearer_S):
            return
        cosine_SG = cosine_BG[nearer_S]
        found_SK = find_nearest(cosine_SG, value_BK.shape[1])
        value_SA = torch.cat([value_BK[nearer_S], cosine_SG.gather(1, found_SK)], dim=1)
        place_SA = torch.cat([place_BK[nearer_S], found_SK + first], dim=1)
        nearest_SK = find_nearest(value_SA, value_BK.shape[1])
        value_BK[nearer_S] = value_SA.gather(1, nearest_SK)
        place_BK[nearer_S] = place_SA.gather(1, nearest_SK)


def _measure_overlaps(sides: tuple[_Side, _Side], row_Q: Integers, neighbors: int) -> Array:
    """Return for each pair in `row_Q` how many of its nearest images have texts among its text's nearest (Q,)."""
    image, text = (side.neighbors for side in sides)
    overlap_Q = np.empty(len(row_Q))
    for rows in _cut_queries(len(row_Q)):
        image_BK, text_BK = (weigh_nearest(each.value_QK[rows], neighbors) for each in (image, text))
        both_BKK = image.place_QK[rows][:, :, None] == text.place_QK[rows][:, None, :]
        shared_BK = (both_BKK * text_BK[:, None, :]).sum(dim=2, dtype=torch.float64)
        overlap_Q[rows] = (image_BK * shared_BK).sum(dim=1).numpy()
    # Items that tie with the last neighbour may lie beyond the end of a list, as where many captions are equal.
    crowded_Q = np.flatnonzero(
        torch.stack(
            [each.value_QK[:, -1] >= each.value_QK[:, neighbors - 1] - 2 * TIE_TOLERANCE for each in (image, text)]
        ).any(dim=0)
    )
    for start in range(0, len(crowded_Q), CROWDED_BLOCK):
        some_S = crowded_Q[start : start + CROWDED_BLOCK]
        cosines = [side.compute_own_cosines(row_Q[some_S]) for side in sides]
        for place, image_N, text_N in zip(some_S, *cosines, strict=True):
            image_1N, text_1N = (weigh_nearest(cosine_N[None], neighbors) for cosine_N in (image_N, text_N))
            overlap_Q[place] = float((image_1N * text_1N).sum(dtype=torch.float64))
    return overlap_Q
