"""Four figures of a set of embeddings: the plane, the similarities, the dimensions, and the gap without them."""

from typing import Final

import polars as pl

from gapctl.report.measured.record import Measured
from gapctl_charts.embedding_plane import MODALITIES, plane_chart
from gapctl_charts.figure import Figure, figure
from gapctl_charts.gap_without_dimensions import SERIES, removal_chart
from gapctl_charts.look import Look
from gapctl_charts.mean_difference import difference_chart
from gapctl_charts.similarity_bins import PAIRS, similarity_chart

DIGITS: Final = 5
"""More would not be seen, and would make the page larger."""


def measured_figures(measured: Measured, look: Look) -> list[Figure]:
    """All figures, in the order in which one reads them."""
    found = [_plane(measured, look), _similarities(measured, look), _dimensions(measured, look)]
    return [*found, _removals(measured, look)] if measured.removals else found


def _plane(measured: Measured, look: Look) -> Figure:
    rows = [
        {"series": name, "x": round(point.x, DIGITS), "y": round(point.y, DIGITS)}
        for name, points in zip(MODALITIES, (measured.images, measured.texts), strict=True)
        for point in points
    ]
    first, second = (f"{share:.0%} of the variance" for share in measured.shares)
    chart = plane_chart(pl.DataFrame(rows), f"first direction, {first}", f"second direction, {second}", look)
    caption = f"The two directions in which embeddings vary most, both modalities together. {_drawn(measured)}"
    return figure("plane", "Both modalities in a plane", caption, chart, look)


def _drawn(measured: Measured) -> str:
    return f"Drawn: {len(measured.images):,} images and {len(measured.texts):,} texts."


def _similarities(measured: Measured, look: Look) -> Figure:
    rows = [
        {"series": name, "low": round(each.low, DIGITS), "high": round(each.high, DIGITS), "share": share}
        for each in measured.bins
        for name, share in zip(PAIRS, (each.matched, each.other), strict=True)
        if share
    ]
    caption = "Matched pairs, and random pairs that are not; the less they overlap, the better retrieval can be."
    chart = similarity_chart(pl.DataFrame(rows), look)
    return figure("similarities", "How similar images and texts are", caption, chart, look)


def _dimensions(measured: Measured, look: Look) -> Figure:
    order = sorted(range(len(measured.difference)), key=lambda index: -abs(measured.difference[index]))
    rows = [
        {"place": place, "next": place + 1, "dimension": index, "value": round(measured.difference[index], DIGITS)}
        for place, index in enumerate(order)
    ]
    caption = "The difference of the modality means in each dimension; its norm is the distance of means (L2M)."
    chart = difference_chart(pl.DataFrame(rows), look)
    return figure("dimensions", "Which dimensions carry the gap", caption, chart, look)


def _removals(measured: Measured, look: Look) -> Figure:
    rows = [
        {"series": name, "removed": each.removed, "value": round(value, DIGITS)}
        for each in measured.removals
        for name, value in zip(SERIES, (each.rmg, each.l2m, each.recall), strict=True)
    ]
    caption = (
        "Dimensions are removed from the largest difference on, and rows are normalised again. "
        f"Recall is of each image's own caption among {measured.removal_pairs:,} pairs."
    )
    chart = removal_chart(pl.DataFrame(rows), look)
    return figure("removals", "Gap and recall without the gap's dimensions", caption, chart, look)
