"""Training paths: a metric against the samples seen, a line per training."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gapctl.analysis.results import Analysis
from gapctl.report.axes import level_colours
from gapctl.report.figure import Figure, figure
from gapctl.report.levels import Factor
from gapctl.report.palette import Look
from gapctl.report.rows import Row, path_rows
from gapctl.report.words import capital, metric_name, with_unit

if TYPE_CHECKING:
    import altair as alt

HEIGHT = 240
DASHES: Final = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
_PANELS: Final = (("path-rmg", "gap/rmg"), ("path-temperature", "temperature/tau"))


def path_figures(analysis: Analysis, factors: Sequence[Factor], look: Look) -> list[Figure]:
    """The gap and the temperature over training, coloured by the first factor, dashed by the second."""
    if not factors:
        return []
    factor, other = factors[0], factors[1] if len(factors) > 1 else None
    found = []
    for name, metric in _PANELS:
        if rows := path_rows(analysis, metric, factor, other):
            title = f"{capital(metric_name(metric))} over training"
            found.append(figure(name, title, _caption(factor, other), _chart(rows, metric, factor, other, look), look))
    return found


def _chart(rows: Sequence[Row], metric: str, factor: Factor, other: Factor | None, look: Look) -> "alt.LayerChart":
    import altair as alt

    base = alt.Chart(alt.InlineData(values=list(rows))).encode(
        x=alt.X("samples:Q", title="samples seen", axis=_thousands(), scale=alt.Scale(nice=False)),
        y=alt.Y("value:Q", title=capital(with_unit(metric)), scale=alt.Scale(zero=metric.startswith("gap/"))),
        color=level_colours(factor, look),
        detail="trial:N",
    )
    lines = base.mark_line(strokeWidth=1.6, opacity=0.85)
    if other is not None and len(other.levels) <= len(DASHES):
        lines = lines.encode(strokeDash=_dashes(other))
    points = base.mark_point(size=22, filled=True, opacity=0.9).encode(tooltip=_tooltip(metric))
    return alt.LayerChart(layer=[lines, points], width=look.width, height=HEIGHT)


def _thousands() -> "alt.Axis":
    import altair as alt

    return alt.Axis(format="~s", grid=False, labelExpr="datum.value === 0 ? '0' : datum.label")


def _dashes(other: Factor) -> "alt.StrokeDash":
    import altair as alt

    scale = alt.Scale(domain=list(other.levels), range=list(DASHES[: len(other.levels)]))
    return alt.StrokeDash("dashes:N", title=other.words, sort=list(other.levels), scale=scale)


def _tooltip(metric: str) -> list["alt.Tooltip"]:
    import altair as alt

    return [
        alt.Tooltip("label:N", title="training"),
        alt.Tooltip("seed:O"),
        alt.Tooltip("samples:Q", title="samples seen", format=","),
        alt.Tooltip("value:Q", title=with_unit(metric), format=".4~f"),
        alt.Tooltip("trial:N", title="trial id"),
    ]


def _caption(factor: Factor, other: Factor | None) -> str:
    dashes = f", dashes: {other.words}" if other is not None and len(other.levels) <= len(DASHES) else ""
    return f"One line per training; colour: {factor.words}{dashes}."
