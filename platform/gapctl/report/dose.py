"""Dose-response figures: metrics against the treatment's level, every seed shown."""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import polars as pl

from gapctl.analysis.results import Analysis
from gapctl.report.claims import claims_of
from gapctl.report.rows import Series, arm_rows, frame, has_metric, mean_rows, seed_rows
from gapctl.report.words import capital, confidence, meaning, metric_name, unit, with_unit
from gapctl_charts.dose_response import Response, response_chart
from gapctl_charts.factor import Factor
from gapctl_charts.figure import Figure, figure
from gapctl_charts.look import Look

_ZERO_IS_NONE: Final = {"gap/rmg", "gap/l2m", "bias/moad_image", "bias/moad_text"}


class Panel(NamedTuple):
    """What one figure shows: `name` for its file, `heading` above it, `axis` beside it, and what guessing gives.

    `said` is what the caption begins with; without it, the meaning of the metric.
    """

    name: str
    heading: str
    axis: str
    series: tuple[Series, ...]
    said: str = ""
    chance: Mapping[str, float] = {}


def single(name: str, metric: str) -> Panel:
    """A panel of one metric."""
    return Panel(name, capital(metric_name(metric)), capital(with_unit(metric)), (Series(metric, metric_name(metric)),))


_BIAS_TOGETHER: Final = Panel(
    "moad",
    "Object bias (MOAD)",
    "Object bias (MOAD), cosine",
    (Series("bias/moad_image", "images"), Series("bias/moad_text", "texts")),
    "Object bias of image and text embeddings; 0 is none (cosine).",
)
_BIAS_APART: Final = (single("moad-images", "bias/moad_image"), single("moad-texts", "bias/moad_text"))
_GAP: Final = (single("rmg", "gap/rmg"), single("l2m", "gap/l2m"))
_ENTROPY: Final = (single("entropy", "entropy/i2t_nats"),)


def dose_figures(analysis: Analysis, factor: Factor, others: Sequence[Factor], look: Look) -> list[Figure]:
    """A figure per metric that was measured: usual ones, and those that hypotheses on this factor or none ask for."""
    return panel_figures(analysis, _panels(analysis, factor, others), factor, others, look)


def dose_figure(analysis: Analysis, factor: Factor, others: Sequence[Factor], look: Look, metric: str) -> Figure | None:
    """The one of these that bears a metric's name; None where there is none."""
    panels = [panel for panel in _panels(analysis, factor, others) if panel.name == metric.partition("/")[2]]
    return next(iter(panel_figures(analysis, panels, factor, others, look)), None)


def _panels(analysis: Analysis, factor: Factor, others: Sequence[Factor]) -> list[Panel]:
    usual = (*_GAP, *(_BIAS_APART if others else (_BIAS_TOGETHER,)), *_ENTROPY)
    shown = {series.metric for panel in usual for series in panel.series}
    asked = dict.fromkeys(item.response for item in analysis.verdicts if item.factor in (factor.path, ""))
    more = [single(metric.partition("/")[2], metric) for metric in asked if metric not in shown]
    return [*usual, *more]


def panel_figures(
    analysis: Analysis, panels: Sequence[Panel], factor: Factor, others: Sequence[Factor], look: Look
) -> list[Figure]:
    """The panels that have anything to show; colours are metrics, or the first other factor's levels."""
    other = others[0] if others else None
    found = []
    for panel in panels:
        present = tuple(series for series in panel.series if has_metric(analysis.trials, series.metric))
        if present:
            found.append(_dose_figure(analysis, panel._replace(series=present), factor, other, look))
    return found


def _dose_figure(analysis: Analysis, panel: Panel, factor: Factor, other: Factor | None, look: Look) -> Figure:
    means = mean_rows(analysis, panel.series, factor)
    claims = claims_of(analysis, panel.series, factor, means)
    response = Response(
        axis=panel.axis,
        names=tuple(series.name for series in panel.series),
        has_zero=all(series.metric in _ZERO_IS_NONE for series in panel.series),
        factor=factor,
        other=other,
        seeds=seed_rows(analysis, panel.series, factor, other),
        means=means,
        arms=pl.DataFrame() if other is None else arm_rows(analysis, panel.series[0].metric, factor, other),
        claims=claims.small,
        claimed=claims.begins,
        chance=_chance(panel, other),
    )
    # A page has the treatment in its headings and under the axis; a file stands alone.
    title = panel.heading if look.in_page else f"{panel.heading} by {factor.words}"
    caption = _caption(analysis, panel, response, claims.words)
    return figure(f"{panel.name}-by-{factor.name}", title, caption, response_chart(response, look), look)


def _chance(panel: Panel, other: Factor | None) -> pl.DataFrame:
    known = {series.name: panel.chance.get(series.metric) for series in panel.series}
    rows = [{"series": name, "value": value} for name, value in known.items() if value is not None]
    return frame(rows if other is None else [])


def _caption(analysis: Analysis, panel: Panel, response: Response, claimed: str) -> str:
    metric = panel.series[0].metric
    alone = len(panel.series) == 1
    what = f"{_meaning(metric)} {_ceiling(analysis, metric)}" if alone or not panel.said else panel.said
    return "\n".join(line.strip() for line in (what, claimed, _marks(response, confidence(analysis.alpha))) if line)


def _meaning(metric: str) -> str:
    said, counted = capital(meaning(metric)), unit(metric)
    return f"{said}." if counted in said.lower() else f"{said} ({counted})."


def _ceiling(analysis: Analysis, metric: str) -> str:
    """An entropy says little without that of not knowing at all, which depends on the gallery."""
    if metric != "entropy/i2t_nats" or not has_metric(analysis.trials, "entropy/gallery"):
        return ""
    sizes = analysis.trials.get_column("entropy/gallery").drop_nulls().unique()
    return f"Equal shares for all {sizes[0]:,.0f} texts would give {math.log(sizes[0]):.2f}." if len(sizes) == 1 else ""


def _marks(response: Response, level: str) -> str:
    other = response.other
    if response.lonely and other is None:
        return "One seed, so no interval."
    means = response.means
    known = not means.is_empty() and means["low"].is_not_null().any()
    line = "Heavy line" if response.factor.ordered else "Heavy tick"
    mean = "" if means.is_empty() else f"{line}: mean{f' with its {level} interval' if known else ''}; "
    return (
        f"{mean}open marks: single trainings, coloured by {other.words}."
        if other
        else f"{mean}open marks: single seeds."
    )
