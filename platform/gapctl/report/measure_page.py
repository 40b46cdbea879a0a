"""The HTML pages of `gapctl measure`: of a set of embeddings, and of several models beside each other.

They need no network and no other file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

import polars as pl

from gapctl.report.html import render_page
from gapctl_charts.embedding_plane import MODALITIES, plane_chart
from gapctl_charts.figure import Figure, figure
from gapctl_charts.gap_without_dimensions import SERIES, removal_chart
from gapctl_charts.look import PAGE_LOOK, Look
from gapctl_charts.mean_difference import difference_chart
from gapctl_charts.similarity_bins import PAIRS, similarity_chart


class PlanePoint(NamedTuple):
    """A place in the plane."""

    x: float
    y: float


class CosineBin(NamedTuple):
    """A bin of cosines, and the shares of matched and of other pairs in it."""

    low: float
    high: float
    matched: float
    other: float


class Removal(NamedTuple):
    """Gap and recall at 1 (image to text) after removing the dimensions that carry most of the gap."""

    removed: int
    rmg: float
    l2m: float
    recall: float


class MeasureLine(NamedTuple):
    """A measure: its key, its value of each model as text, "" where a model has none, and its meaning."""

    key: str
    values: Sequence[str]
    meaning: str


@dataclass(frozen=True)
class MeasurePage:
    """One set of embeddings.

    `shares` are the shares of variance, over both modalities, of the plane's two directions. `difference` has an entry
    for each dimension: mean image minus mean text. The recall of `removals` is among `removal_pairs` pairs.
    """

    title: str
    notes: Sequence[str]
    lines: Sequence[MeasureLine]
    facts: Mapping[str, str]
    images: Sequence[PlanePoint]
    texts: Sequence[PlanePoint]
    shares: tuple[float, float]
    bins: Sequence[CosineBin]
    difference: Sequence[float]
    removals: Sequence[Removal]
    removal_pairs: int


CHART_DIGITS: Final = 5
"""Decimals of chart data: more are not visible, and make the page larger."""


def render_measure_page(measured: MeasurePage) -> str:
    """Return the complete HTML document; equal records give equal text. Escape the user's texts."""
    plots = [_plot_plane, _plot_similarities, _plot_mean_difference, *([_plot_removals] if measured.removals else [])]
    figures = [plot(measured, PAGE_LOOK) for plot in plots]
    return render_page(
        "measure",
        measured.title,
        figures,
        notes=measured.notes,
        groups=_group_lines(measured.lines),
        record=measured.facts,
    )


class ModelColumn(NamedTuple):
    """One of several models: its name, what was measured, and what is known about it."""

    name: str
    title: str
    notes: Sequence[str]
    facts: Mapping[str, str]


def render_models_page(models: Sequence[ModelColumn], lines: Sequence[MeasureLine], problems: Sequence[str]) -> str:
    """Return the HTML document that shows several models beside each other. Escape the user's texts."""
    return render_page(
        "measure_models",
        f"{len(models)} models on the same data" if len(models) > 1 else models[0].title,
        [],
        problems=problems,
        models=models,
        groups=_group_lines(lines),
    )


def _group_lines(lines: Sequence[MeasureLine]) -> list[tuple[str, list[MeasureLine]]]:
    """Return the lines of each group of metrics, in their order."""
    groups = groupby(lines, lambda line: line.key.split("/", 1)[0])
    return [(name, list(some)) for name, some in groups]


def _plot_plane(measured: MeasurePage, look: Look) -> Figure:
    rows = [
        {"series": name, "x": round(point.x, CHART_DIGITS), "y": round(point.y, CHART_DIGITS)}
        for name, points in zip(MODALITIES, (measured.images, measured.texts), strict=True)
        for point in points
    ]
    first, second = (f"{share:.0%} of the variance" for share in measured.shares)
    chart = plane_chart(pl.DataFrame(rows), f"first direction, {first}", f"second direction, {second}", look)
    caption = (
        "The two directions in which embeddings vary most, both modalities together. "
        f"Drawn: {len(measured.images):,} images and {len(measured.texts):,} texts."
    )
    return figure("plane", "Both modalities in a plane", caption, chart, look)


def _plot_similarities(measured: MeasurePage, look: Look) -> Figure:
    rows = [
        {"series": name, "low": round(each.low, CHART_DIGITS), "high": round(each.high, CHART_DIGITS), "share": share}
        for each in measured.bins
        for name, share in zip(PAIRS, (each.matched, each.other), strict=True)
        if share
    ]
    caption = "Matched pairs, and random pairs that are not; the less they overlap, the better retrieval can be."
    chart = similarity_chart(pl.DataFrame(rows), look)
    return figure("similarities", "How similar images and texts are", caption, chart, look)


def _plot_mean_difference(measured: MeasurePage, look: Look) -> Figure:
    order = sorted(range(len(measured.difference)), key=lambda index: -abs(measured.difference[index]))
    rows = [
        {
            "place": place,
            "next": place + 1,
            "dimension": index,
            "value": round(measured.difference[index], CHART_DIGITS),
        }
        for place, index in enumerate(order)
    ]
    caption = "The difference of the modality means in each dimension; its norm is the distance of means (L2M)."
    chart = difference_chart(pl.DataFrame(rows), look)
    return figure("dimensions", "Which dimensions carry the gap", caption, chart, look)


def _plot_removals(measured: MeasurePage, look: Look) -> Figure:
    rows = [
        {"series": name, "removed": each.removed, "value": round(value, CHART_DIGITS)}
        for each in measured.removals
        for name, value in zip(SERIES, (each.rmg, each.l2m, each.recall), strict=True)
    ]
    caption = (
        "Dimensions are removed from the largest difference on, and rows are normalised again. "
        f"Recall is of each image's own caption among {measured.removal_pairs:,} pairs."
    )
    chart = removal_chart(pl.DataFrame(rows), look)
    return figure("removals", "Gap and recall without the gap's dimensions", caption, chart, look)
