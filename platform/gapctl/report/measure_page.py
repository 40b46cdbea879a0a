"""One HTML page on a set of embeddings; it needs no network and no other file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

import polars as pl

from gapctl.report.html import Html, element, facts, fill, joined
from gapctl.report.page_parts import document, panels, section
from gapctl_charts.embedding_plane import MODALITIES, plane_chart
from gapctl_charts.figure import Figure, figure
from gapctl_charts.gap_without_dimensions import SERIES, removal_chart
from gapctl_charts.look import PAGE_LOOK, Look
from gapctl_charts.mean_difference import difference_chart
from gapctl_charts.similarity_bins import PAIRS, similarity_chart


class Point(NamedTuple):
    """A place in the plane."""

    x: float
    y: float


class Bin(NamedTuple):
    """A bin of cosines, and the shares of matched and of other pairs in it."""

    low: float
    high: float
    matched: float
    other: float


class Removal(NamedTuple):
    """Gap and recall at 1 (image to text) after so many of the dimensions that carry most of the gap were removed."""

    removed: int
    rmg: float
    l2m: float
    recall: float


class Line(NamedTuple):
    """A measure: its key, its value as text, and what it means."""

    key: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Measured:
    """One set of embeddings.

    `shares` are those of the plane's two directions in the variance of both modalities together; `difference` has an
    entry per dimension, mean image minus mean text. The recall of `removals` is among `removal_pairs` pairs.
    """

    title: str
    notes: Sequence[str]
    lines: Sequence[Line]
    facts: Mapping[str, str]
    images: Sequence[Point]
    texts: Sequence[Point]
    shares: tuple[float, float]
    bins: Sequence[Bin]
    difference: Sequence[float]
    removals: Sequence[Removal]
    removal_pairs: int


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


def render_measured(measured: Measured) -> str:
    """A complete HTML document; equal records give equal text. Texts of the user's are escaped."""
    figures = measured_figures(measured, PAGE_LOOK)
    lead = "Rows are normalised; points and unmatched pairs are samples, the same each time."
    content = fill(
        "measured",
        title=measured.title,
        notes=joined(element("p", note, class_="notice") for note in measured.notes),
        figures=section("pictures", "Pictures", lead, [panels(figures)]),
        measures=joined(_group(name, list(lines)) for name, lines in groupby(measured.lines, _group_of)),
        facts=facts(dict(measured.facts)),
    )
    return document(measured.title, content, figures)


def _group_of(line: Line) -> str:
    return line.key.split("/", 1)[0]


def _group(name: str, lines: list[Line]) -> Html:
    rows = joined(_row(line) for line in lines)
    return fill("measured_group", name=name, rows=rows)


def _row(line: Line) -> Html:
    cells = [
        element("th", line.key.split("/", 1)[-1], scope="row", class_="text"),
        element("td", line.value),
        element("td", line.meaning, class_="text prose"),
    ]
    return element("tr", joined(cells, ""))
