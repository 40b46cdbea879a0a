"""The figures of a search: its course, each value against the metric, and how much each value decides."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

from gapctl.ledger.search_record import Drawn, SearchRecord
from gapctl.plan.make import short_names
from gapctl.plan.search import Point
from gapctl.report.drawing import png_of, svg_of
from gapctl.report.words import capital, factor_words, metric_name, with_unit
from gapctl.spec.search import Domain, Search
from gapctl_charts.figure import Figure, figure, trusted
from gapctl_charts.look import FILE_LOOK, Look
from gapctl_charts.search import Kind, history_chart, importance_chart, slice_chart

SHOWN: Final = ("done", "stopped")
_SCALES: Final[Mapping[str, Kind]] = {"log": "log", "uniform": "linear", "choice": "categories"}
_POINTS: Final = (
    "Each mark is a point: a circle was trained to its end, a cross was stopped early and stands at its last measure."
)


def search_figures(search: Search, record: SearchRecord, look: Look) -> list[Figure]:
    """All figures that there are numbers for."""
    points = [drawn for drawn in record.drawn if drawn.state in SHOWN and math.isfinite(drawn.value)]
    if not points:
        return []
    return [_history(points, record, look), *_importance(record, look), *_slices(points, search, record, look)]


def search_files(search: Search, record: SearchRecord) -> dict[str, bytes]:
    """File name to content: each figure as PNG and SVG; equal records give equal bytes."""
    with trusted():
        figures = search_figures(search, record, FILE_LOOK)
    files: dict[str, bytes] = {}
    for drawn in figures:
        svg = svg_of(drawn)
        files |= {f"{drawn.name}.png": png_of(svg), f"{drawn.name}.svg": svg.encode()}
    return files


def _history(points: Sequence[Drawn], record: SearchRecord, look: Look) -> Figure:
    best = pl.DataFrame(_best_so_far(points, record), schema={"number": pl.Int64, "value": pl.Float64})
    chart = history_chart(_rows(points), best, capital(with_unit(record.metric)), look)
    caption = f"{_POINTS} The line is the best that was trained to its end."
    return figure("search-history", "The course of the search", caption, chart, look)


def _best_so_far(points: Sequence[Drawn], record: SearchRecord) -> list[dict[str, float]]:
    found: list[dict[str, float]] = []
    better = min if record.direction == "minimize" else max
    for drawn in points:
        if drawn.state == "done":
            value = better(drawn.value, found[-1]["value"]) if found else drawn.value
            found.append({"number": drawn.number, "value": value})
    return found


def _importance(record: SearchRecord, look: Look) -> list[Figure]:
    if not record.importance:
        return []
    names = short_names(list(record.importance))
    shares = pl.DataFrame(
        [{"name": factor_words(path, names[path]), "share": share} for path, share in record.importance.items()]
    )
    caption = "The share of the variation that each value decides (PED-ANOVA), over points trained to their ends."
    return [figure("search-importance", "What decides", caption, importance_chart(shares, look), look)]


def _slices(points: Sequence[Drawn], search: Search, record: SearchRecord, look: Look) -> list[Figure]:
    names = short_names(list(search.space))
    return [_slice(points, path, names[path], domain, record, look) for path, domain in search.space.items()]


def _slice(points: Sequence[Drawn], path: str, name: str, domain: Domain, record: SearchRecord, look: Look) -> Figure:
    words, kind = factor_words(path, name), _SCALES[domain.kind]
    values = [drawn.point[path] for drawn in points]
    shown = pl.Series("drawn", [str(value) for value in values] if kind == "categories" else values, strict=False)
    order = [str(choice) for choice in domain.choice or ()]
    chart = slice_chart(
        _rows(points).with_columns(shown), capital(words), capital(with_unit(record.metric)), kind, look, order
    )
    title = f"{capital(metric_name(record.metric))} by {words}"
    return figure(f"search-by-{name.replace('_', '-').replace('.', '-')}", title, _POINTS, chart, look)


def _rows(points: Sequence[Drawn]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"number": drawn.number, "value": drawn.value, "ended": drawn.state, "label": point_words(drawn.point)}
            for drawn in points
        ]
    )


def point_words(point: Point) -> str:
    """`lr=0.00137 batch_size=128`."""
    names = short_names(list(point))
    return " ".join(f"{names[path]}={level}" for path, level in point.items())
