"""The HTML page of a search: the best point, charts, every point, and how to run it again; no network needed.

`render_search_document` builds the page, `render_search_figure_files` the figures as files, `render_search_markdown` a
short table.
"""

import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl
import yaml

from gapctl.config.base import replace_at_path
from gapctl.config.sweep import Domain, Search
from gapctl.ledger.search_record import PointRecord, SearchRecord
from gapctl.plan.plan import Plan, SearchPoint, shorten_paths
from gapctl.report.html import RunPages, render_page, render_png_and_svg_files
from gapctl.report.markdown import format_table
from gapctl.report.page_parts import Commands
from gapctl.report.text import capitalise_first, label_metric_axis, name_factor, name_metric
from gapctl_charts.figure import Figure, figure, trusted
from gapctl_charts.look import FILE_LOOK, PAGE_LOOK, Look
from gapctl_charts.search import Kind, history_chart, importance_chart, slice_chart

STATE_ORDER: Final = ("done", "stopped", "failed", "running")


_STATE_MEANINGS: Final = {
    "done": "trained to their ends",
    "stopped": "stopped early",
    "failed": "failed",
    "running": "in training",
}


CAUTION: Final = (
    "The best of many points looks better than it is, as chance helped to choose it. Before it replaces another "
    "recipe, train both on seeds that the search has not used, and compare them."
)
STATES_WITH_VALUE: Final = ("done", "stopped")
_AXIS_KINDS: Final[Mapping[str, Kind]] = {"log": "log", "uniform": "linear", "choice": "categories"}


_POINTS_CAPTION: Final = (
    "Each mark is a point: a circle was trained to its end, a cross was stopped early and stands at its last measure."
)


def render_search_document(
    plan: Plan, search: Search, record: SearchRecord, commands: Commands, run_pages: RunPages | None = None
) -> str:
    """Return the complete HTML document: the best point, the charts, every point, and how to run it again.

    Equal arguments give equal text.
    """
    spec = plan.sweep.spec
    with trusted():
        figures = plot_search(search, record, PAGE_LOOK)
    scale = f" · scale {plan.sweep.scale}" if plan.sweep.scale else ""
    best = record.best
    return render_page(
        "search",
        f"{spec.name}: {spec.question}",
        figures,
        run_pages,
        kicker=f"gapctl · search {spec.name}{scale}",
        question=spec.question,
        summary=summarise_search(record),
        best=best and {"options": format_set_options(best), "yaml": format_base_yaml(best)},
        caution=CAUTION,
        metric=record.metric,
        points=[vars(drawn) | {"point": format_point(drawn.point)} for drawn in record.ranked],
        again=commands.sweep,
        study=record.study,
    )


def summarise_search(record: SearchRecord) -> str:
    """Count the points by how they ended, and name the best value."""
    counts = Counter(drawn.state for drawn in record.drawn)
    told = (
        ", ".join(f"{counts[state]} {_STATE_MEANINGS[state]}" for state in STATE_ORDER if counts[state]) or "none drawn"
    )
    best = f"; best {record.metric}: {record.best.value:.4g}" if record.best else ""
    return f"{len(record.drawn)} of {record.asked} points: {told}{best}"


def format_set_options(best: PointRecord) -> str:
    """Format a point as `--set` options for any sweep."""
    words = [
        word
        for path, level in best.point.items()
        for word in ("--set", f"base.{path}={str(level).lower() if isinstance(level, bool) else level}")
    ]
    return shlex.join(words)


def format_base_yaml(best: PointRecord) -> str:
    """Format a point as part of a sweep file's `base`."""
    document: dict[str, object] = {}
    for path, level in best.point.items():
        document = replace_at_path(document, ["base", *path.split(".")], level)
    return yaml.safe_dump(document, sort_keys=False).rstrip()


def format_point(point: SearchPoint) -> str:
    """Format a point: `lr=0.00137 batch_size=128`."""
    names = shorten_paths(list(point))
    return " ".join(f"{names[path]}={level}" for path, level in point.items())


def render_search_markdown(record: SearchRecord, most: int = 10) -> str:
    """Render the best points as a table, for the description of a run in MLflow."""
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
    return f"{summarise_search(record)}.\n\n{format_table(head, rows, numbers_from=len(paths) + 2)}"


def plot_search(search: Search, record: SearchRecord, look: Look) -> list[Figure]:
    """Plot all figures that the record has numbers for."""
    points = [drawn for drawn in record.drawn if drawn.state in STATES_WITH_VALUE and math.isfinite(drawn.value)]
    if not points:
        return []
    names = shorten_paths(list(search.space))
    return [
        _plot_history(points, record, look),
        *_plot_importance(record, look),
        *(_plot_slice(points, path, names[path], domain, record, look) for path, domain in search.space.items()),
    ]


def render_search_figure_files(search: Search, record: SearchRecord) -> dict[str, bytes]:
    """Return each figure as PNG and SVG, by file name; equal records give equal bytes."""
    with trusted():
        figures = plot_search(search, record, FILE_LOOK)
    return render_png_and_svg_files(figures)


def _plot_history(points: Sequence[PointRecord], record: SearchRecord, look: Look) -> Figure:
    best = pl.DataFrame(_track_best(points, record), schema={"number": pl.Int64, "value": pl.Float64})
    chart = history_chart(_build_point_rows(points), best, capitalise_first(label_metric_axis(record.metric)), look)
    caption = f"{_POINTS_CAPTION} The line is the best that was trained to its end."
    return figure("search-history", "The course of the search", caption, chart, look)


def _track_best(points: Sequence[PointRecord], record: SearchRecord) -> list[dict[str, float]]:
    found: list[dict[str, float]] = []
    better = min if record.direction == "minimize" else max
    for drawn in points:
        if drawn.state == "done":
            value = better(drawn.value, found[-1]["value"]) if found else drawn.value
            found.append({"number": drawn.number, "value": value})
    return found


def _plot_importance(record: SearchRecord, look: Look) -> list[Figure]:
    if not record.importance:
        return []
    names = shorten_paths(list(record.importance))
    shares = pl.DataFrame(
        [{"name": name_factor(path, names[path]), "share": share} for path, share in record.importance.items()]
    )
    caption = "The share of the variation that each value decides (PED-ANOVA), over points trained to their ends."
    return [figure("search-importance", "What decides", caption, importance_chart(shares, look), look)]


def _plot_slice(
    points: Sequence[PointRecord], path: str, name: str, domain: Domain, record: SearchRecord, look: Look
) -> Figure:
    words, kind = name_factor(path, name), _AXIS_KINDS[domain.kind]
    values = [drawn.point[path] for drawn in points]
    shown = pl.Series("drawn", [str(value) for value in values] if kind == "categories" else values, strict=False)
    order = [str(choice) for choice in domain.choice or ()]
    chart = slice_chart(
        _build_point_rows(points).with_columns(shown),
        capitalise_first(words),
        capitalise_first(label_metric_axis(record.metric)),
        kind,
        look,
        order,
    )
    title = f"{capitalise_first(name_metric(record.metric))} by {words}"
    return figure(f"search-by-{name.replace('_', '-').replace('.', '-')}", title, _POINTS_CAPTION, chart, look)


def _build_point_rows(points: Sequence[PointRecord]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"number": drawn.number, "value": drawn.value, "ended": drawn.state, "label": format_point(drawn.point)}
            for drawn in points
        ]
    )
