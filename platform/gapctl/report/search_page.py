"""One HTML page on what a search found; it needs no network and no other file."""

import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl
import yaml

from gapctl.config.base import placed
from gapctl.config.sweep import Domain, Search
from gapctl.ledger.search_record import Drawn, SearchRecord
from gapctl.plan.plan import Plan, Point, short_names
from gapctl.report.html import Html, element, fill, joined, png_of, svg_of
from gapctl.report.markdown import table
from gapctl.report.page_parts import Commands, RunPages, document, panels, section
from gapctl.report.sweep_page import trial_link
from gapctl.report.text import NOT_KNOWN, capital, factor_words, metric_name, number, with_unit
from gapctl_charts.figure import Figure, figure, trusted
from gapctl_charts.look import FILE_LOOK, PAGE_LOOK, Look
from gapctl_charts.search import Kind, history_chart, importance_chart, slice_chart

ORDER: Final = ("done", "stopped", "failed", "running")
_MEANING: Final = {
    "done": "trained to their ends",
    "stopped": "stopped early",
    "failed": "failed",
    "running": "in training",
}

CAUTION: Final = (
    "The best of many points looks better than it is, as chance helped to choose it. Before it replaces another "
    "recipe, train both on seeds that the search has not used, and compare them."
)


def standing(record: SearchRecord) -> str:
    """How many points there are and how they ended, and the best value."""
    counts = Counter(drawn.state for drawn in record.drawn)
    told = ", ".join(f"{counts[state]} {_MEANING[state]}" for state in ORDER if counts[state]) or "none drawn"
    best = f"; best {record.metric}: {record.best.value:.4g}" if record.best else ""
    return f"{len(record.drawn)} of {record.asked} points: {told}{best}"


def as_options(best: Drawn) -> str:
    """`--set` options for any sweep."""
    words = [word for path, level in best.point.items() for word in ("--set", f"base.{path}={_level(level)}")]
    return shlex.join(words)


def as_yaml(best: Drawn) -> str:
    """The point as part of a sweep file's `base`."""
    document: dict[str, Any] = {}
    for path, level in best.point.items():
        document = placed(document, ["base", *path.split(".")], level)
    return yaml.safe_dump(document, sort_keys=False).rstrip()


def search_markdown(record: SearchRecord, most: int = 10) -> str:
    """The best points as a table for the description of a run in MLflow."""
    paths = list(record.drawn[0].point) if record.drawn else []
    head = ["trial", *paths, "ended", "samples", record.metric]
    rows = [
        [
            f"`{one.trial}`",
            *(str(one.point[path]) for path in paths),
            one.state,
            f"{one.samples_seen:,}",
            f"{one.value:.4g}",
        ]
        for one in record.ranked[:most]
    ]
    return f"{standing(record)}.\n\n{table(head, rows, numbers_from=len(paths) + 2)}"


def _level(level: object) -> str:
    return str(level).lower() if isinstance(level, bool) else str(level)


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


def render_search(
    plan: Plan, search: Search, record: SearchRecord, commands: Commands, run_pages: RunPages | None = None
) -> str:
    """A complete HTML document: the best point, the charts, every point, and how to run it again.

    Equal arguments give equal text.
    """
    spec = plan.sweep.spec
    with trusted():
        figures = search_figures(search, record, PAGE_LOOK)
    scale = f" · scale {plan.sweep.scale}" if plan.sweep.scale else ""
    content = fill(
        "search",
        kicker=f"gapctl · search {spec.name}{scale}",
        question=spec.question,
        summary=standing(record),
        best=_best(record.best),
        caution=CAUTION,
        figures=section("figures", "The search", "Every point that was drawn.", [panels(figures)] if figures else []),
        points=_points(record, run_pages),
        again=commands.sweep,
        study=record.study,
    )
    return document(f"{spec.name}: {spec.question}", content, figures, run_pages)


def _best(best: Drawn | None) -> Html:
    if best is None:
        return element("p", "No point was trained to its end yet.")
    return joined([element("pre", as_options(best)), element("pre", as_yaml(best))])


def _points(record: SearchRecord, run_pages: RunPages | None) -> Html:
    texts = ("point", "trial", "ended")
    heads = [*texts, "drawn as", "samples", record.metric]
    headings = [
        element("th", element("button", name, type="button"), scope="col", class_="text" if name in texts else "number")
        for name in heads
    ]
    rows = [_row(drawn, run_pages) for drawn in record.ranked]
    head = element("thead", element("tr", joined(headings, "")))
    table = element("table", joined([head, element("tbody", joined(rows))]), class_="sortable")
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Table of points")


def _row(drawn: Drawn, run_pages: RunPages | None) -> Html:
    value = number(drawn.value) if math.isfinite(drawn.value) else NOT_KNOWN
    cells = [
        element("th", point_words(drawn.point), scope="row", class_="text"),
        element("td", trial_link(drawn.trial, run_pages), class_="text"),
        element("td", drawn.state, class_="text"),
        element("td", str(drawn.number), data_value=str(drawn.number)),
        element("td", f"{drawn.samples_seen:,}", data_value=str(drawn.samples_seen)),
        element("td", value, data_value=repr(drawn.value) if math.isfinite(drawn.value) else "NaN"),
    ]
    return element("tr", joined(cells, ""), id=f"trial-{drawn.trial}")
