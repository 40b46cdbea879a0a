"""Dose-response charts: a metric against the treatment's level, every seed shown."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from gapctl.analysis.results import Analysis
from gapctl.report.dose_layers import Response, response_chart
from gapctl.report.figure import Figure, figure
from gapctl.report.levels import Factor
from gapctl.report.palette import Look
from gapctl.report.rows import Series, arm_rows, has_metric, mean_rows, seed_rows
from gapctl.report.words import capital, confidence, meaning, metric_name, unit, with_unit

_ZERO_IS_NONE: Final = {"gap/rmg", "gap/l2m", "bias/moad_image", "bias/moad_text"}


class Panel(NamedTuple):
    """What one chart shows: `name` for its file, `heading` above it, `axis` beside it."""

    name: str
    heading: str
    axis: str
    series: tuple[Series, ...]


def _single(name: str, metric: str) -> Panel:
    return Panel(name, capital(metric_name(metric)), capital(with_unit(metric)), (Series(metric, metric_name(metric)),))


_GAP: Final = (_single("rmg", "gap/rmg"), _single("l2m", "gap/l2m"))
_ENTROPY: Final = (_single("entropy", "entropy/i2t_nats"),)
_BIAS_TOGETHER: Final = Panel(
    "moad",
    "Object bias (MOAD)",
    "Object bias (MOAD), cosine",
    (Series("bias/moad_image", "images"), Series("bias/moad_text", "texts")),
)
_BIAS_APART: Final = (_single("moad-images", "bias/moad_image"), _single("moad-texts", "bias/moad_text"))


def dose_figures(analysis: Analysis, factor: Factor, others: Sequence[Factor], look: Look) -> list[Figure]:
    """A chart per metric that was measured; colours are metrics, or the first other factor's levels."""
    other = others[0] if others else None
    bias = (_BIAS_TOGETHER,) if other is None else _BIAS_APART
    found = []
    for panel in (*_GAP, *bias, *_ENTROPY):
        present = tuple(series for series in panel.series if has_metric(analysis.trials, series.metric))
        if present:
            found.append(_dose_figure(analysis, panel._replace(series=present), factor, other, look))
    return found


def _dose_figure(analysis: Analysis, panel: Panel, factor: Factor, other: Factor | None, look: Look) -> Figure:
    response = Response(
        axis=panel.axis,
        names=tuple(series.name for series in panel.series),
        has_zero=all(series.metric in _ZERO_IS_NONE for series in panel.series),
        factor=factor,
        other=other,
        seeds=seed_rows(analysis, panel.series, factor, other),
        means=mean_rows(analysis, panel.series, factor),
        arms=[] if other is None else arm_rows(analysis, panel.series[0].metric, factor, other),
    )
    # A page has the treatment in its headings and under the axis; a file stands alone.
    title = panel.heading if look.in_page else f"{panel.heading} by {factor.words}"
    caption = _caption(analysis, panel, response)
    return figure(f"{panel.name}-by-{factor.name}", title, caption, response_chart(response, look), look)


def _caption(analysis: Analysis, panel: Panel, response: Response) -> str:
    if len(panel.series) > 1:
        what = "Object bias of image and text embeddings; 0 is none (cosine)."
    else:
        what = f"{_meaning(panel.series[0].metric)} {_ceiling(analysis, panel.series[0].metric)}"
    return f"{what.strip()}\n{_marks(response, confidence(analysis.alpha))}"


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
    line, bars = ("line", "band and bars") if response.factor.ordered else ("tick", "bar")
    known = any(row["low"] is not None for row in response.means)
    mean = f"Heavy {line}: mean{f'; {bars}: its {level} interval' if known else ''}. " if response.means else ""
    points = f"Open marks: single trainings, coloured by {other.words}." if other else "Open marks: single seeds."
    return f"{mean}{points}"
