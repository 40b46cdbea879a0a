"""Measure retrieval over a gallery. Every item that matches a query counts, identical captions included.

`estimate_recall_at_depths` ranks the other modality alone; `mixed_ndcg` ranks images and texts together.

Index letters: Q queries, G gallery, D embedding, B a block of queries, K depths or nearest items, N and M the rows of
the query's own and of the other modality, A all items of both.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.checks import Integers, Rows, check_integer_keys, check_unit_rows
from gapctl.metrics.comparisons import compute_normalised_discounted_gains, find_recall_hits
from gapctl.metrics.sampling import DrawPurpose, SampleEstimate, estimate_mean, estimate_share, sample_row_numbers


def estimate_recall_at_depths(
    query_QD: Rows,
    gallery_GD: Rows,
    query_key_Q: Integers,
    gallery_key_G: Integers,
    most: int,
    depths: Sequence[int] = (1, 5, 10),
) -> dict[int, SampleEstimate]:
    """Estimate recall at each of `depths`: the share of queries with an item of their own key among the k nearest.

    Of items that are equally near, the earlier is the nearer. At most `most` queries are drawn, and each is compared
    with the whole gallery.
    """
    check_unit_rows(query=query_QD, gallery=gallery_GD)
    check_integer_keys(query=(query_QD, query_key_Q), gallery=(gallery_GD, gallery_key_G))
    rows_Q = sample_row_numbers(DrawPurpose.QUERIES, len(query_QD), most)
    hit_QK = find_recall_hits(query_QD[rows_Q], gallery_GD, query_key_Q[rows_Q], gallery_key_G, depths)
    shares = (estimate_share(hit_Q, len(query_QD)) for hit_Q in hit_QK.T)
    return dict(zip(depths, shares, strict=True))


class KeyedRows(NamedTuple):
    """One modality's unit rows (N, D) and their keys (N,); an image and a text match if their keys are equal."""

    row_ND: Rows
    key_N: Integers


def mixed_ndcg(image: KeyedRows, text: KeyedRows, depth: int, queries: int) -> SampleEstimate:
    """Estimate normalised discounted cumulative gain at `depth` over a gallery of all images and all texts.

    Every image and every text is a query. Its matches are the other modality's items with its key. Items of its own
    modality with that key, itself included, are left out of the gallery: they are near whatever the gap. A match in
    place k gains 1 / log2(k + 1); the ideal ranking has all matches in front. With a gap, items of the query's own
    modality crowd the first places. At most `queries` items are drawn, of either modality in proportion. Queries
    without a match do not count.
    """
    check_unit_rows(image=image.row_ND, text=text.row_ND)
    check_integer_keys(image=image, text=text)
    total = len(image.row_ND) + len(text.row_ND)
    drawn = np.sort(sample_row_numbers(DrawPurpose.QUERIES, total, queries))
    image_rows, text_rows = drawn[drawn < len(image.row_ND)], drawn[drawn >= len(image.row_ND)] - len(image.row_ND)
    gains = [
        compute_cross_modal_query_gains(image, image_rows, text, depth),
        compute_cross_modal_query_gains(text, text_rows, image, depth),
    ]
    return estimate_mean(np.concatenate(gains), total)


def compute_cross_modal_query_gains(
    own: KeyedRows, rows_Q: Integers, other: KeyedRows, depth: int
) -> NDArray[np.float64]:
    """Return the normalised gain of each query of one modality that has a match, for the rows `rows_Q`."""
    return compute_normalised_discounted_gains(own.row_ND[rows_Q], own.key_N[rows_Q], own, other, depth)
