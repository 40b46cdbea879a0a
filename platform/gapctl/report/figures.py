"""All figures of an analysis, for a page or as PNG and SVG files.

1. `plot_all_figures` lists every figure in the page's order; `render_figure_files` and `render_pngs` write them.
2. Rows: `_build_seed_rows` and its siblings turn an analysis into the frames that charts draw.
3. One section for each family: dose-response curves with the claimed effects, verdict strips and their forest, training
   paths, the gap by dimension, the factors of the images, gap against quality, and gap against information.

The charts themselves are in `gapctl_charts`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from textwrap import wrap
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from gapctl.analysis.correlation import Strata, compute_kendall_taus, rank_within_strata
from gapctl.analysis.results import AnalysisResults, Verdict
from gapctl.analysis.tables import read_histories
from gapctl.config.trial import FACTOR_VALUES
from gapctl.ledger import Ledger
from gapctl.plan.plan import Plan, shorten_paths
from gapctl.report.cohort_models import plot_models
from gapctl.report.html import make_file_name, render_png, render_png_and_svg_files, render_svg
from gapctl.report.many_trainings import (
    LINES_EACH,
    MARKS_EACH,
    MOST_EVALUATIONS,
    MOST_LINES,
    MOST_MARKS,
    choose_even_ranks,
    has_many_trainings,
)
from gapctl.report.page_parts import RunRecord
from gapctl.report.text import (
    NOT_KNOWN,
    capitalise_first,
    describe_effect_with_unit,
    describe_verdict_scope,
    explain_catalog_metric,
    format_confidence_level,
    format_declared_number,
    format_estimate_interval,
    format_marks,
    get_metric_unit,
    label_metric_axis,
    name_factor,
    name_metric,
)
from gapctl.text import format_count_with_noun, format_first_names
from gapctl_charts.data import Drawing
from gapctl_charts.dimension_profile import ProfileQuantity, profile_chart
from gapctl_charts.dose_response import Response, response_chart
from gapctl_charts.factor import Factor, Kind, plain
from gapctl_charts.figure import BOLD_LENGTH, LINE_LENGTH, Figure, figure, trusted
from gapctl_charts.forest import Headed, forest_chart
from gapctl_charts.gap_by_bits import bits_chart
from gapctl_charts.look import FILE_LOOK, Look
from gapctl_charts.tradeoff import tradeoff_chart
from gapctl_charts.training_path import is_dashed, path_chart
from gapctl_charts.verdict_strip import Strip, strip_chart

ChartRow = dict[str, Any]
EMPTY_RECORD: Final = RunRecord()


class FactorFigures(NamedTuple):
    """The dose-response figures of one factor."""

    factor: Factor
    figures: list[Figure]


class PngFigure(NamedTuple):
    """A figure as PNG, with its file's name, its title and its caption."""

    name: str
    title: str
    caption: str
    png: bytes


def render_figure_files(analysis: AnalysisResults, record: RunRecord = EMPTY_RECORD) -> dict[str, bytes]:
    """Return each figure as PNG and as SVG, by file name; equal analyses give equal bytes."""
    with trusted():
        figures = plot_all_figures(analysis, FILE_LOOK, record)
    return render_png_and_svg_files(figures)


def render_pngs(analysis: AnalysisResults, record: RunRecord = EMPTY_RECORD) -> list[PngFigure]:
    """Return the figures as PNG for a text that has captions of its own."""
    with trusted():
        figures = plot_all_figures(analysis, FILE_LOOK, record)
    return [
        PngFigure(f"{make_file_name(figure)}.png", figure.title, figure.caption, render_png(render_svg(figure)))
        for figure in figures
    ]


def plot_all_figures(analysis: AnalysisResults, look: Look, record: RunRecord = EMPTY_RECORD) -> list[Figure]:
    """List every figure that a file can hold, in the page's order; all verdicts are one figure."""
    forest = plot_forest(analysis, look)
    by_factor = [*plot_responses_by_factor(analysis, look), *plot_image_factors(analysis, look)]
    return [
        *([forest] if forest else []),
        *plot_models(analysis, look, record.model_pages),
        *(figure for group in by_factor for figure in group.figures),
        *plot_gap_by_bits(analysis, look),
        *plot_training_curves(analysis, look),
        *plot_gap_by_dimension(analysis, look, record),
        *plot_gap_and_qualities(analysis, look, record),
    ]


def plot_responses_by_factor(analysis: AnalysisResults, look: Look) -> list[FactorFigures]:
    """Plot the dose-response figures of every factor: the usual metrics, and those of hypotheses on it or on none."""
    return _plot_by_factor(analysis, look, _list_panels)


def plot_response_by_factor(analysis: AnalysisResults, name: str, path: str, look: Look) -> Figure | None:
    """Plot the one of these figures whose panel has this name, by the factor of this path; None where there is none."""
    factors = list_factors(analysis)
    for factor in (each for each in factors if each.path == path):
        others = [other for other in factors if other is not factor]
        for panel in _select_series_with_data(analysis, _list_panels(analysis, factor, others)):
            if panel.name == name:
                return _plot_panel(analysis, panel, factor, others[0] if others else None, look)
    return None


def plot_metric_response(analysis: AnalysisResults, path: str, metric: str, look: Look) -> Figure:
    """Plot one metric by the factor of this path, both of which the trials have."""
    factors = list_factors(analysis)
    factor = next(each for each in factors if each.path == path)
    other = next((each for each in factors if each is not factor), None)
    return _plot_panel(analysis, make_single_panel(metric.partition("/")[2], metric), factor, other, look)


def plot_image_factors(analysis: AnalysisResults, look: Look) -> list[FactorFigures]:
    """Plot what embeddings keep of each factor of the images, by every factor of the sweep.

    That is the accuracies of all factors together, and the similarities by modality. With a second treatment, whose
    levels then have the colours, it is a figure for each factor's accuracy instead.
    """
    return _plot_by_factor(analysis, look, lambda _, __, others: _SEPARATE_ACCURACIES if others else _JOINT_ACCURACIES)


def _plot_by_factor(
    analysis: AnalysisResults,
    look: Look,
    list_panels: Callable[[AnalysisResults, Factor, Sequence[Factor]], Sequence["Panel"]],
) -> list[FactorFigures]:
    """Plot the panels that have data; colours are metrics, or the first other factor's levels."""
    factors, found = list_factors(analysis), []
    for factor in factors:
        others = [other for other in factors if other is not factor]
        figures = [
            _plot_panel(analysis, panel, factor, others[0] if others else None, look)
            for panel in _select_series_with_data(analysis, list_panels(analysis, factor, others))
        ]
        found.append(FactorFigures(factor, figures))
    return found


def _select_series_with_data(analysis: AnalysisResults, panels: Sequence["Panel"]) -> Iterator["Panel"]:
    """Yield the panels that have data, each with the series that have."""
    for panel in panels:
        if present := tuple(series for series in panel.series if has_metric(analysis.trials, series.metric)):
            yield panel._replace(series=present)


def plot_hypothesis_strips(analysis: AnalysisResults, look: Look) -> dict[str, Figure]:
    """Plot a small chart for each hypothesis that has an estimate, by its id."""
    drawn = {verdict.id: _plot_strip(verdict, analysis.alpha, look) for verdict in analysis.verdicts}
    return {name: figure for name, figure in drawn.items() if figure is not None}


class Series(NamedTuple):
    """One metric of a chart, and its name in the legend."""

    metric: str
    name: str


def _build_seed_rows(
    analysis: AnalysisResults, series: Sequence[Series], factor: Factor, other: Factor | None
) -> pl.DataFrame:
    """Return a row for each trial and metric; its series is the metric's name, or the other factor's level."""
    groups = [factor.path] if other is None else [factor.path, other.path]
    return _build_frame(
        {
            "place": factor.place(row[factor.path]),
            "level": factor.text(row[factor.path]),
            "value": row[metric],
            "series": name if other is None else other.text(row[other.path]),
            **_extract_identity(row),
        }
        for metric, name in series
        for row in _select_drawn_trainings(analysis, groups, MOST_MARKS // len(series), metric).iter_rows(named=True)
    )


def _build_mean_rows(analysis: AnalysisResults, series: Sequence[Series], factor: Factor) -> pl.DataFrame:
    """Return a row for each level and metric: the mean over seeds and other factors, and its interval if any."""
    curves = analysis.curves.filter(pl.col("factor") == factor.path).sort("position")
    return _build_frame(
        {
            "place": factor.place(row["level"]),
            "level": factor.text(row["level"]),
            "value": row["mean"],
            "low": _get_finite_or_none(row["low"]),
            "high": _get_finite_or_none(row["high"]),
            "seeds": row["seeds"],
            "series": name,
        }
        for metric, name in series
        for row in curves.filter(pl.col("metric") == metric).iter_rows(named=True)
        if _get_finite_or_none(row["mean"]) is not None
    )


def _build_arm_rows(analysis: AnalysisResults, metric: str, factor: Factor, other: Factor) -> pl.DataFrame:
    """Return a row for each pair of levels: the plain mean over the trials that have both."""
    arms = (
        _select_finite(analysis.trials, metric)
        .group_by(factor.path, other.path, maintain_order=True)
        .agg(pl.col(metric).mean(), pl.len().alias("trainings"))
    )
    return _build_frame(
        {
            "place": factor.place(row[factor.path]),
            "level": factor.text(row[factor.path]),
            "value": row[metric],
            "series": other.text(row[other.path]),
            "trainings": row["trainings"],
        }
        for row in arms.iter_rows(named=True)
    )


def _build_path_rows(analysis: AnalysisResults, metric: str, factor: Factor, other: Factor | None) -> pl.DataFrame:
    """Return a row for each evaluation; `dashes` is the other factor's level."""
    history = analysis.history
    if analysis.replicate_noun == "model":
        history = history.join(analysis.trials.select("trial", "model"), on="trial", how="left")
    rows = _select_finite(history, metric)
    if has_many_trainings(analysis) or len(rows) > MOST_EVALUATIONS:
        rows = rows.filter(pl.col("trial").is_in(_choose_drawn_paths(analysis, metric, factor, other).implode()))
    return _build_frame(
        {
            "samples": row["samples_seen"],
            "value": row[metric],
            "series": factor.text(row[factor.path]),
            "dashes": "" if other is None else other.text(row[other.path]),
            **_extract_identity(row),
        }
        for row in rows.iter_rows(named=True)
    )


def _choose_drawn_paths(analysis: AnalysisResults, metric: str, factor: Factor, other: Factor | None) -> pl.Series:
    """Return the trainings whose paths are drawn where there are too many: at even ranks by how they ended."""
    groups = [factor.path, *([other.path] if other is not None and is_dashed(other) else [])]
    ended = _select_finite(analysis.trials, metric)
    return choose_even_ranks(ended, groups, metric, each=LINES_EACH, most=MOST_LINES)["trial"]


def has_metric(table: pl.DataFrame, metric: str) -> bool:
    """Return whether any row has a finite value of the metric."""
    return metric in table.columns and bool(table[metric].cast(pl.Float64).is_finite().any())


def _get_finite_or_none(value: float | None) -> float | None:
    """Return the number, or None where it is not finite."""
    return value if value is not None and math.isfinite(value) else None


def _select_finite(table: pl.DataFrame, *metrics: str) -> pl.DataFrame:
    """Return the rows that have finite values of all the metrics, without the columns of others."""
    columns = [name for name in table.columns if name in metrics or "/" not in name]
    if not set(metrics) <= set(columns):
        return table.clear()
    numbers = [pl.col(metric).cast(pl.Float64) for metric in metrics]
    return table.select(columns).with_columns(numbers).filter(pl.all_horizontal(pl.col(metrics).is_finite()))


def _select_drawn_trainings(analysis: AnalysisResults, groups: Sequence[str], most: int, *metrics: str) -> pl.DataFrame:
    """Return the trainings with finite values: all, or where there are many those at even ranks by the first metric."""
    rows = _select_finite(analysis.trials, *metrics)
    if not has_many_trainings(analysis):
        return rows
    return choose_even_ranks(rows, groups, metrics[0], each=MARKS_EACH, most=most)


def _extract_identity(row: ChartRow) -> ChartRow:
    """Return the columns that identify a row's training: its model in a cohort, its recipe or its seed."""
    replicate = next((noun for noun in ("model", "recipe") if noun in row), "seed")
    return {"trial": row["trial"], "label": row["label"], replicate: row[replicate]}


def _build_frame(rows: Iterable[ChartRow]) -> pl.DataFrame:
    """Build a frame from rows, with types inferred from all of them."""
    return pl.DataFrame(list(rows), infer_schema_length=None)


CURVE_TESTS: Final = ("trend", "contrast", "equivalence")
"""Tests whose claim is about the treatment's curve."""
SIDES: Final[Mapping[str, tuple[str, ...]]] = {"decreasing": ("low",), "increasing": ("high",)}


class ClaimBands(NamedTuple):
    """`small` and `begins` as `Response` has its `claims` and `claimed`; `words` explain them, or are empty."""

    small: pl.DataFrame
    begins: pl.DataFrame
    words: str


def _build_claim_bands(
    analysis: AnalysisResults, series: Sequence[Series], factor: Factor, means: pl.DataFrame
) -> ClaimBands:
    """Build the bands of each series from its first hypothesis about this factor; the words name hypotheses not drawn.

    The curve is of all trainings, so a hypothesis with `where` is not drawn on it.
    """
    names, drawn, left = dict(series), dict[str, tuple[Verdict, list[ChartRow]]](), list[Verdict]()
    for verdict in analysis.verdicts:
        name = names.get(verdict.response)
        if name is None or verdict.factor != factor.path or verdict.test not in CURVE_TESTS:
            continue
        general = not verdict.where and name not in drawn
        rows = _build_smallest_effect_band(verdict, name, factor, means) if general else []
        if rows:
            drawn[name] = verdict, rows
        else:
            left.append(verdict)
    small = [row for _, rows in drawn.values() for row in rows]
    begins = chain.from_iterable(_build_edge_rows(verdict, rows) for verdict, rows in drawn.values())
    return ClaimBands(
        _build_frame(small), _build_frame(begins), _describe_claims([verdict for verdict, _ in drawn.values()], left)
    )


def _build_smallest_effect_band(verdict: Verdict, name: str, factor: Factor, means: pl.DataFrame) -> list[ChartRow]:
    """Return a row for each level between those that the hypothesis compares; none where the first has no mean."""
    by_level = {row["level"]: row["value"] for row in means.iter_rows(named=True) if row["series"] == name}
    compared = verdict.between or (factor.levels[0], factor.levels[-1])
    first, last = map(factor.text, compared)
    if first not in by_level or last not in factor.levels:
        return []
    start, per_unit = by_level[first], verdict.test == "trend"
    return [
        {
            "place": factor.place(level),
            "level": level,
            "series": name,
            "low": start - share * verdict.smallest_effect,
            "high": start + share * verdict.smallest_effect,
            "hypothesis": verdict.id,
            "says": f"± {format_declared_number(share * verdict.smallest_effect)}",
        }
        for level, share in _divide_smallest_effect(factor, first, last, per_unit=per_unit)
    ]


def _divide_smallest_effect(factor: Factor, first: str, last: str, *, per_unit: bool) -> Iterator[tuple[str, float]]:
    """Yield each level's share of the smallest effect.

    A trend's grows by unit of the factor; a difference reaches it at its last level.
    """
    if not factor.ordered:
        yield last, 1.0
        return
    begin, end = float(first), float(last)
    for level in factor.levels:
        if min(begin, end) <= float(level) <= max(begin, end):
            way = float(level) - begin
            yield level, abs(way) if per_unit else way / (end - begin)


def _build_edge_rows(verdict: Verdict, rows: Sequence[ChartRow]) -> Iterator[ChartRow]:
    for side in SIDES.get(verdict.direction, ("low", "high")):
        for row in rows:
            yield {key: row[key] for key in ("place", "level", "series")} | {
                "value": row[side],
                "edge": f"{row['series']} {side}",
            }


def _describe_claims(drawn: Sequence[Verdict], left: Sequence[Verdict]) -> str:
    parts = []
    if drawn:
        sides = {_describe_claim_side(verdict) for verdict in drawn}
        where = f"the claimed effect lies {sides.pop()}" if len(sides) == 1 else "where the claimed effect begins"
        claimed = format_first_names([verdict.id for verdict in drawn])
        parts.append(f"Grey: changes too small to count; dashed: {where} ({claimed}).")
    if left:
        labels = [
            f"{verdict.id} ({describe_verdict_scope(verdict)})" if verdict.where else verdict.id for verdict in left
        ]
        parts.append(f"Claims not drawn: {format_first_names(labels)}.")
    return " ".join(parts)


def _describe_claim_side(verdict: Verdict) -> str:
    if verdict.test == "equivalence":
        return "between these lines"
    return {"decreasing": "below this line", "increasing": "above this line"}.get(
        verdict.direction, "beyond these lines"
    )


_ZERO_IS_NONE: Final = {"gap/rmg", "gap/l2m", "bias/moad_image", "bias/moad_text"}


class Panel(NamedTuple):
    """The contents of one figure: `name` for its file, `heading` above it, `axis` beside it.

    `said` begins the caption; without it, the meaning of the metric does. `chance` has the values of guessing by
    metric.
    """

    name: str
    heading: str
    axis: str
    series: tuple[Series, ...]
    said: str = ""
    chance: Mapping[str, float] = {}


def make_single_panel(name: str, metric: str) -> Panel:
    """Return a panel of one metric."""
    return Panel(
        name,
        capitalise_first(name_metric(metric)),
        capitalise_first(label_metric_axis(metric)),
        (Series(metric, name_metric(metric)),),
    )


_JOINT_BIAS: Final = Panel(
    "moad",
    "Object bias (MOAD)",
    "Object bias (MOAD), cosine",
    (Series("bias/moad_image", "images"), Series("bias/moad_text", "texts")),
    "Object bias of image and text embeddings; 0 is none (cosine).",
)


_SEPARATE_BIAS: Final = (
    make_single_panel("moad-images", "bias/moad_image"),
    make_single_panel("moad-texts", "bias/moad_text"),
)
_GAP: Final = (make_single_panel("rmg", "gap/rmg"), make_single_panel("l2m", "gap/l2m"))
_ENTROPY: Final = (make_single_panel("entropy", "entropy/i2t_nats"),)


def _list_panels(analysis: AnalysisResults, factor: Factor, others: Sequence[Factor]) -> list[Panel]:
    usual = (*_GAP, *(_SEPARATE_BIAS if others else (_JOINT_BIAS,)), *_ENTROPY)
    shown = {series.metric for panel in usual for series in panel.series}
    asked = dict.fromkeys(item.response for item in analysis.verdicts if item.factor in (factor.path, ""))
    more = [make_single_panel(metric.partition("/")[2], metric) for metric in asked if metric not in shown]
    return [*usual, *more]


def _plot_panel(analysis: AnalysisResults, panel: Panel, factor: Factor, other: Factor | None, look: Look) -> Figure:
    means = _build_mean_rows(analysis, panel.series, factor)
    guessing = [
        {"series": series.name, "value": panel.chance[series.metric]}
        for series in panel.series
        if other is None and series.metric in panel.chance
    ]
    claims = _build_claim_bands(analysis, panel.series, factor, means)
    response = Response(
        axis=panel.axis,
        names=tuple(series.name for series in panel.series),
        has_zero=all(series.metric in _ZERO_IS_NONE for series in panel.series),
        factor=factor,
        other=other,
        seeds=_build_seed_rows(analysis, panel.series, factor, other),
        means=means,
        arms=pl.DataFrame() if other is None else _build_arm_rows(analysis, panel.series[0].metric, factor, other),
        claims=claims.small,
        claimed=claims.begins,
        chance=_build_frame(guessing),
    )
    # A page names the treatment in its headings and under the axis; a file has only its title.
    title = panel.heading if look.in_page else f"{panel.heading} by {factor.words}"
    caption = _format_panel_caption(analysis, panel, response, claims.words)
    return figure(f"{panel.name}-by-{factor.name}", title, caption, response_chart(response, look), look)


def _format_panel_caption(analysis: AnalysisResults, panel: Panel, response: Response, claimed: str) -> str:
    metric = panel.series[0].metric
    alone = len(panel.series) == 1
    what = (
        f"{_explain_metric_and_unit(metric)} {_explain_entropy_ceiling(analysis, metric)}"
        if alone or not panel.said
        else panel.said
    )
    return "\n".join(line.strip() for line in (what, claimed, _explain_chart_marks(response, analysis)) if line)


def _explain_metric_and_unit(metric: str) -> str:
    said, counted = capitalise_first(explain_catalog_metric(metric)), get_metric_unit(metric)
    return f"{said}." if counted in said.lower() else f"{said} ({counted})."


def _explain_entropy_ceiling(analysis: AnalysisResults, metric: str) -> str:
    """State the entropy of knowing nothing, which depends on the gallery and gives an entropy its scale."""
    if metric != "entropy/i2t_nats" or not has_metric(analysis.trials, "entropy/gallery"):
        return ""
    sizes = analysis.trials.get_column("entropy/gallery").drop_nulls().unique()
    return f"Equal shares for all {sizes[0]:,.0f} texts would give {math.log(sizes[0]):.2f}." if len(sizes) == 1 else ""


def _explain_chart_marks(response: Response, analysis: AnalysisResults) -> str:
    other, noun, level = response.other, analysis.replicate_noun, format_confidence_level(analysis.alpha)
    some = ", some of each level" if has_many_trainings(analysis) else ""
    if response.lonely and other is None:
        return f"One {noun}, so no interval."
    means = response.means
    known = not means.is_empty() and means["low"].is_not_null().any()
    line = "Heavy line" if response.factor.ordered else "Heavy tick"
    mean = "" if means.is_empty() else f"{line}: mean{f' with its {level} interval' if known else ''}; "
    return (
        f"{mean}open marks: single trainings{some}, coloured by {other.words}."
        if other
        else f"{mean}open marks: single {noun}s{some}."
    )


LEAST_SPACING = 0.05
"""Levels nearer to each other than this share of the axis cannot be told apart on it."""


CLEARLY_BETTER = 2.0
"""The ratio by which a log axis must separate the nearest levels better to replace a linear one."""


def list_factors(analysis: AnalysisResults) -> tuple[Factor, ...]:
    """List the varied paths that the trials have, in the file's order."""
    names = shorten_paths(analysis.factors)
    return tuple(
        _build_factor(analysis, path, names[path]) for path in analysis.factors if path in analysis.trials.columns
    )


def _build_factor(analysis: AnalysisResults, path: str, name: str) -> Factor:
    column = analysis.trials.get_column(path).drop_nulls()
    if column.dtype.is_numeric():
        numbers = sorted({float(level) for level in column})
        factor = Factor(path, name, name_factor(path, name), _choose_axis_kind(numbers), ())
        return factor._replace(levels=tuple(factor.text(level) for level in numbers))
    listed = analysis.curves.filter(pl.col("factor") == path).sort("position").get_column("level")
    seen = {plain(level) for level in column}
    levels = dict.fromkeys([level for level in map(plain, listed) if level in seen] + sorted(seen))
    return Factor(path, name, name_factor(path, name), "categories", tuple(levels))


def _choose_axis_kind(numbers: Sequence[float]) -> Kind:
    linear = _measure_least_spacing(numbers)
    log = _measure_least_spacing([math.log(number) for number in numbers]) if min(numbers, default=0) > 0 else 0.0
    if max(linear, log) < LEAST_SPACING:
        return "steps"
    return "log" if log > CLEARLY_BETTER * linear else "linear"


def _measure_least_spacing(numbers: Sequence[float]) -> float:
    """Return the smallest distance between neighbours, as a share of the whole range."""
    gaps = [after - before for before, after in pairwise(numbers)]
    return min(gaps) / (numbers[-1] - numbers[0]) if gaps else 1.0


STRIP_PREFIX: Final = "strip-"
"""The beginning of a strip's name, before its hypothesis' id."""


def _plot_strip(verdict: Verdict, alpha: float, look: Look) -> Figure | None:
    """Plot one hypothesis as a strip; None where it has no estimate."""
    if _get_finite_or_none(verdict.estimate) is None:
        return None
    chart = Drawing(strip_chart(_build_strip(verdict, look), look), {})
    return figure(
        f"{STRIP_PREFIX}{verdict.id}",
        describe_effect_with_unit(verdict),
        format_estimate_interval(verdict, alpha),
        chart,
        look,
    )


def plot_forest(analysis: AnalysisResults, look: Look) -> Figure | None:
    """Plot all strips under one another; None where no hypothesis has an estimate."""
    estimated = [verdict for verdict in analysis.verdicts if _get_finite_or_none(verdict.estimate) is not None]
    if not estimated:
        return None
    level = format_confidence_level(analysis.alpha)
    caption = f"Estimate and {level} interval of each hypothesis in its own unit; grey: effects too small to count."
    chart = forest_chart([_build_forest_row(verdict, analysis.alpha, look) for verdict in estimated], look)
    return figure("verdicts", "Hypotheses and what was measured", caption, chart, look)


def _build_forest_row(verdict: Verdict, alpha: float, look: Look) -> Headed:
    heading = f"{verdict.verdict.upper()}{format_marks(verdict.marks)}: {verdict.id}"
    lines = [
        line for text in (verdict.claim, format_estimate_interval(verdict, alpha)) for line in wrap(text, LINE_LENGTH)
    ]
    return Headed(wrap(heading, BOLD_LENGTH), lines, _build_strip(verdict, look))


def _build_strip(verdict: Verdict, look: Look) -> Strip:
    return Strip(
        finding=verdict.verdict,
        effect=describe_effect_with_unit(verdict),
        axis=None if look.in_page else wrap(capitalise_first(describe_effect_with_unit(verdict)), LINE_LENGTH),
        estimate=verdict.estimate,
        low=_get_finite_or_none(verdict.ci.low),
        high=_get_finite_or_none(verdict.ci.high),
        smallest_effect=verdict.smallest_effect,
    )


_PATH_METRICS: Final = (
    ("path-rmg", "gap/rmg"),
    ("path-temperature", "temperature/tau"),
    ("path-entropy", "entropy/i2t_nats"),
    ("path-loss", "train/loss"),
)


class DrawnHistories(NamedTuple):
    """An analysis with the evaluations that its page draws, and messages about damaged files."""

    analysis: AnalysisResults
    damaged: tuple[str, ...]


def add_drawn_histories(analysis: AnalysisResults, plan: Plan, ledger: Ledger) -> DrawnHistories:
    """Read the histories that a page of this analysis draws: the metrics of the training curves, of many trials some.

    Every other file stays unread, as reading all takes most of the time and in a bucket a request each.
    """
    metrics, factors = [metric for _, metric in _PATH_METRICS], list_factors(analysis)
    drawn: set[str] = set() if has_many_trainings(analysis) or not factors else set(analysis.trials["trial"])
    if has_many_trainings(analysis) and factors:
        chosen = (_choose_drawn_paths(analysis, metric, *_get_path_factors(factors)) for metric in metrics)
        drawn = set(chain.from_iterable(chosen))
    trials = [trial for trial in plan.trials if trial.id in drawn]
    found = read_histories(trials, ledger, plan.sweep.spec.vary, metrics)
    return DrawnHistories(replace(analysis, history=found.frame), found.damaged)


def _get_path_factors(factors: Sequence[Factor]) -> tuple[Factor, Factor | None]:
    """Return the factors of the training curves' colours and dashes."""
    return factors[0], factors[1] if len(factors) > 1 else None


ENDED_APART: Final = "The trainings of each level that ended lowest, in the middle and highest"


def _count_paths(history: pl.DataFrame, metric: str) -> int:
    return _select_finite(history, metric)["trial"].n_unique()


def plot_training_curves(analysis: AnalysisResults, look: Look) -> list[Figure]:
    """Plot the training paths of gap, temperature, entropy and loss, coloured and dashed by the first two factors.

    Models that are only measured have none.
    """
    factors = list_factors(analysis)
    if not factors:
        return []
    factor, other = _get_path_factors(factors)
    dashes = f", dashes: {other.words}" if other is not None and is_dashed(other) else ""
    found = []
    for name, metric in _PATH_METRICS:
        paths = _build_path_rows(analysis, metric, factor, other)
        if not paths.is_empty() and (paths["samples"] > 0).any():
            axis, from_zero = capitalise_first(label_metric_axis(metric)), metric.startswith("gap/")
            chart = path_chart(paths, axis, factor, other, look, from_zero=from_zero)
            title = f"{capitalise_first(name_metric(metric))} over training"
            drawn = paths["trial"].n_unique()
            every = not has_many_trainings(analysis) and drawn == _count_paths(analysis.history, metric)
            lines = "One line per training" if every else ENDED_APART
            found.append(figure(name, title, f"{lines}; colour: {factor.words}{dashes}.", chart, look))
    return found


MOST_ROWS: Final = 6_000
"""The most rows of dimensions that a page draws; beyond, it draws the mean of each level, and says so."""
FIRST_RANKS: Final = 64
PROFILE_VALUES: Final = ("squared", "carried")


class Profiles(NamedTuple):
    """A row for each dimension of a training, and the caption's sentence about the lines."""

    rows: pl.DataFrame
    lines: str


def plot_gap_by_dimension(analysis: AnalysisResults, look: Look, record: RunRecord) -> list[Figure]:
    """Plot both figures of the gap by dimension, coloured by the first factor; none without saved mean embeddings."""
    factors, dimensions = list_factors(analysis), record.dimensions
    if not factors or dimensions.is_empty() or analysis.trials.is_empty():
        return []
    factor = factors[0]
    profiles = _build_profiles(analysis, factor, dimensions)
    squared = "The squared difference of the modality means in each dimension, largest first; their sum is L2M squared."
    carried = "The share of it that the largest dimensions carry together; dashed: if all carried the same."
    return [
        _plot_dimension_profile(
            profiles, "squared", "Gap by dimension", "Squared mean difference", squared, factor, look
        ),
        _plot_dimension_profile(
            profiles, "carried", "Share the largest dimensions carry", "Share carried", carried, factor, look
        ),
    ]


def _plot_dimension_profile(
    profiles: Profiles, quantity: ProfileQuantity, title: str, axis: str, caption: str, factor: Factor, look: Look
) -> Figure:
    chart = profile_chart(profiles.rows, quantity, axis, factor, look)
    words = f"{caption} Colour: {factor.words}. {profiles.lines}"
    return figure(f"dimensions-{quantity}", title, words, chart, look)


def _build_profiles(analysis: AnalysisResults, factor: Factor, dimensions: pl.DataFrame) -> Profiles:
    replicate = analysis.replicate_noun
    levels = pl.Series("series", [factor.text(level) for level in analysis.trials[factor.path]], pl.String)
    trials = analysis.trials.select("trial", "label", replicate, levels)
    ranked = _rank_dimensions(dimensions).join(trials, on="trial", maintain_order="right")
    many = has_many_trainings(analysis)
    lacking = analysis.trials.filter(~pl.col("trial").is_in(ranked["trial"].unique().implode()))
    missing = f"Not kept by {format_first_names(list(lacking['label']))}." if len(lacking) and not many else ""
    identity = ("trial", "label", replicate)
    known = ranked.select("rank", "dimension", *PROFILE_VALUES, *identity, "series")
    if len(known) <= MOST_ROWS and not many:
        return Profiles(known, f"One line per training. {missing}".strip())
    counts = known.group_by("series").agg(pl.col("trial").n_unique())["trial"].to_list()
    some = f"at most {max(counts)} of its trainings, from the smallest gap to the largest" if many else "its trainings"
    return Profiles(_average_by_level(known), f"One line per level, the mean of {some}. {missing}".strip())


def _rank_dimensions(dimensions: pl.DataFrame) -> pl.DataFrame:
    """Return every dimension's squared difference, its rank within its training, and the cumulative share."""
    squared = dimensions.with_columns(squared=(pl.col("image_mean") - pl.col("text_mean")) ** 2)
    return squared.sort("trial", "squared", descending=[False, True], maintain_order=True).with_columns(
        rank=pl.int_range(1, pl.len() + 1).over("trial"),
        carried=(pl.col("squared").cum_sum() / pl.col("squared").sum()).over("trial"),
    )


def _average_by_level(known: pl.DataFrame) -> pl.DataFrame:
    """Return the mean over a level's trainings, at the ranks that a line needs: the first, every few, the last."""
    step = max(1, int(known["rank"].max() or 1) // FIRST_RANKS)  # type: ignore[arg-type]
    rank = pl.col("rank")
    needed = known.filter((rank <= FIRST_RANKS) | (rank % step == 0) | (rank == rank.max()))
    means = needed.group_by("series", "rank", maintain_order=True).agg(
        *(pl.col(name).mean() for name in PROFILE_VALUES)
    )
    unknown = [name for name in ("dimension", "trial", "seed", "model", "recipe") if name in known.columns]
    nothing = [pl.lit(None, known.schema[name]).alias(name) for name in unknown]
    return means.with_columns(*nothing, label=pl.col("series")).select(known.columns)


ACCURACY: Final = "quality/accuracy_"


_SIMILARITY_PARTS: Final = {
    "object_same": "same object",
    "object_different": "different object",
    "attribute_same": "same attribute",
    "attribute_different": "different attribute",
}


_SEPARATE_ACCURACIES: Final = [
    make_single_panel(f"accuracy-{name}", f"{ACCURACY}{name}")._replace(
        heading=f"Zero-shot accuracy of {name}", axis="Zero-shot accuracy, percent"
    )
    for name in FACTOR_VALUES
]
_JOINT_ACCURACIES: Final = [
    Panel(
        "accuracy",
        "Zero-shot accuracy by factor",
        "Zero-shot accuracy, percent",
        tuple(Series(f"{ACCURACY}{name}", name) for name in FACTOR_VALUES),
        "Share of images whose factor value is found among the prompts for all its values; dotted: guessing.",
        {f"{ACCURACY}{name}": 100 / count for name, count in FACTOR_VALUES.items()},
    ),
    Panel(
        "accuracies",
        "Object and attribute accuracy",
        "Zero-shot accuracy, percent",
        (Series("quality/object_accuracy", "object"), Series("quality/attribute_accuracy", "attributes")),
        "The object is the main factor; attributes are the mean over the others.",
    ),
    *(
        Panel(
            f"similarity-{side}s",
            f"Similarity of {side}s by what they share",
            "Mean cosine",
            tuple(Series(f"bias/{part}_{side}", words) for part, words in _SIMILARITY_PARTS.items()),
            f"Mean cosine of two {side}s that share their object, or an attribute, or do not. MOAD is the difference "
            "of the first two less that of the last two.",
        )
        for side in ("image", "text")
    ),
]


GAP: Final = "gap/rmg"
CAPTIONS: Final = "data.captions."
HELD_OUT: Final = f"{CAPTIONS}held_out"
FULL_CAPTION_FACTORS: Final = (HELD_OUT, f"{CAPTIONS}order")


QUALITIES: Final = (
    "quality/object_accuracy",
    "quality/attribute_accuracy",
    "quality/i2t_recall_1",
    "quality/t2i_recall_1",
)


def plot_gap_and_qualities(analysis: AnalysisResults, look: Look, record: RunRecord) -> list[Figure]:
    """Plot the gap against each quality, with Kendall's tau over all trainings and over those of one arm."""
    factors = list_factors(analysis)
    found = [(quality, _select_finite(analysis.trials, GAP, quality)) for quality in QUALITIES]
    # Galleries with different captions, as far as one trial's settings before treatments are known.
    varied = {factor.path for factor in factors if factor.path.startswith(CAPTIONS)}
    own = varied & set(FULL_CAPTION_FACTORS) if record.settings.get(HELD_OUT) == "full" else varied
    return [
        _plot_gap_and_quality(
            analysis, quality, rows, factors, look, _CAPTION_CAUTION if own and "_recall_" in quality else ""
        )
        for quality, rows in found
        if len(rows) > 1 and factors
    ]


def _plot_gap_and_quality(
    analysis: AnalysisResults, quality: str, rows: pl.DataFrame, factors: Sequence[Factor], look: Look, caution: str
) -> Figure:
    factor = factors[0]
    drawn = _select_drawn_trainings(analysis, [factor.path], MOST_MARKS, GAP, quality)
    points = _build_frame(
        {
            "gap": row[GAP],
            "quality": row[quality],
            "series": factor.text(row[factor.path]),
            **_extract_identity(row),
        }
        for row in drawn.iter_rows(named=True)
    )
    chart = tradeoff_chart(
        points, capitalise_first(label_metric_axis(GAP)), capitalise_first(label_metric_axis(quality)), factor, look
    )
    title = f"Gap and {name_metric(quality)}"
    name = quality.partition("/")[2].replace("_", "-")
    some = "" if len(drawn) == len(rows) else f" Drawn are {len(drawn)}, of each level some."
    caption = f"{_format_quality_caption(quality, rows, factors)}{caution}{some}"
    return figure(f"gap-and-{name}", title, caption, chart, look)


_CAPTION_CAUTION: Final = (
    " Evaluation captions follow the treatment, and equal captions count as matches, so that recalls of different "
    "levels are of different tasks."
)


def _format_quality_caption(quality: str, rows: pl.DataFrame, factors: Sequence[Factor]) -> str:
    arms: dict[tuple[str, ...], list[int]] = {}
    for place, levels in enumerate(rows.select(factor.path for factor in factors).iter_rows()):
        arms.setdefault(tuple(map(str, levels)), []).append(place)
    every, within = (
        _compute_tau(rows[GAP].to_list(), rows[quality].to_list(), strata)
        for strata in ([range(len(rows))], list(arms.values()))
    )
    return (
        f"Kendall's τ over all {len(rows)} trainings: {_format_tau(every)}; "
        f"between trainings of equal treatment: {_format_tau(within)}."
    )


def _compute_tau(one: Sequence[float], other: Sequence[float], strata: Strata) -> float:
    x, y = (rank_within_strata(np.array([values], dtype=float), strata) for values in (one, other))
    return float(compute_kendall_taus(x, y, strata)[0])


def _format_tau(value: float) -> str:
    return f"{value:.2f}".replace("-", "−") if math.isfinite(value) else NOT_KNOWN


_UNSAID: Final = "information/image_given_caption"
_UNFORESEEABLE: Final = "information/caption_given_image"
_SHORT_NAMES: Final = {"gap/l2m": "L2M", "gap/rmg": "RMG"}
_KINDS: Final = ("can be foreseen from the image", "cannot be foreseen")
_FEWEST_KINDS: Final = 3
"""Fewer amounts of information than these make no figure."""


def plot_gap_by_bits(analysis: AnalysisResults, look: Look) -> list[Figure]:
    """Plot the mean gap of each kind of captions against the bits that it leaves unsaid; none without such a factor."""
    factor = _find_caption_factor(analysis)
    if factor is None:
        return []
    lengths = analysis.trials["samples_seen"].unique().sort()
    return [
        _plot_gap_by_bits_after(analysis, factor, metric, int(samples), look, alone=len(lengths) == 1)
        for samples in lengths
        for metric in _SHORT_NAMES
        if has_metric(analysis.trials, metric)
    ]


def _find_caption_factor(analysis: AnalysisResults) -> Factor | None:
    """Return the factor of names whose levels say how many bits captions leave unsaid, if there is one."""
    trials = analysis.trials
    if not (has_metric(trials, _UNSAID) and has_metric(trials, _UNFORESEEABLE)):
        return None
    if trials[_UNSAID].n_unique() < _FEWEST_KINDS:
        return None
    for factor in list_factors(analysis):
        bits = trials.group_by(factor.path).agg(pl.col(_UNSAID, _UNFORESEEABLE).n_unique())
        if not factor.ordered and bits[_UNSAID].max() == bits[_UNFORESEEABLE].max() == 1:
            return factor
    return None


def _plot_gap_by_bits_after(
    analysis: AnalysisResults, factor: Factor, metric: str, samples: int, look: Look, *, alone: bool
) -> Figure:
    chosen = analysis.trials.filter((pl.col("samples_seen") == samples) & pl.col(metric).is_finite())
    captions = chosen.group_by(pl.col(factor.path).alias("level"), maintain_order=True).agg(
        gap=pl.col(metric).mean(),
        unsaid=pl.col(_UNSAID).first(),
        unforeseeable=pl.col(_UNFORESEEABLE).first(),
        trainings=pl.len(),
    )
    foreseen = pl.when(pl.col("unforeseeable") == 0).then(pl.lit(_KINDS[0])).otherwise(pl.lit(_KINDS[1]))
    drawing = bits_chart(
        captions.with_columns(foreseen.alias("series")), capitalise_first(label_metric_axis(metric)), _KINDS, look
    )
    after = "" if alone else f", after {format_count_with_noun(samples, 'pair')}"
    caption = (
        f"Each point is the mean over all trainings with these captions{after}. "
        "Points above each other leave equally many bits unsaid."
    )
    name = f"{metric.partition('/')[2]}-by-bits" + ("" if alone else f"-{samples}")
    return figure(name, f"{_SHORT_NAMES[metric]} by what captions leave unsaid{after}", caption, drawing, look)
