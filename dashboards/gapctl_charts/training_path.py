"""Training paths: a metric against the samples seen, a line per training."""

from typing import TYPE_CHECKING, Final

import polars as pl

from gapctl_charts.axes import level_colours
from gapctl_charts.data import Datasets, Drawing
from gapctl_charts.factor import Factor
from gapctl_charts.look import Look
from gapctl_charts.tooltips import training_tooltip, value_tooltip

if TYPE_CHECKING:
    import altair as alt

HEIGHT = 240
EDGE = 5
"""Pixels between the outermost marks and the edge, which would cut them."""
DASHES: Final = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])


def is_dashed(other: Factor | None) -> bool:
    """Whether dashes tell a second factor's levels apart; there are few kinds of them."""
    return other is not None and len(other.levels) <= len(DASHES)


def path_chart(
    paths: pl.DataFrame, axis: str, factor: Factor, other: Factor | None, look: Look, *, from_zero: bool
) -> Drawing:
    """Lines of `value` over `samples`, coloured by `series` (the factor's level), dashed by `dashes` (the other's).

    `trial`, `label` and `seed` (or `model`) say which training a line is of.
    """
    import altair as alt

    data = Datasets()
    base = data.chart(paths, "evaluation").encode(
        x=alt.X("samples:Q", title="samples seen", axis=_thousands(), scale=alt.Scale(nice=False, padding=EDGE)),
        y=alt.Y("value:Q", title=axis, scale=alt.Scale(zero=from_zero, padding=0 if from_zero else EDGE)),
        color=level_colours(factor, look),
        detail=alt.Detail("trial:N"),
    )
    lines = base.mark_line(strokeWidth=1.6, strokeOpacity=0.85)
    if other is not None and is_dashed(other):
        lines = lines.encode(strokeDash=_dashes(other))
    tooltip = training_tooltip(paths, alt.Tooltip("samples:Q", title="samples seen", format=","), value_tooltip(axis))
    points = base.mark_point(size=22, filled=True, opacity=0.9).encode(tooltip=tooltip)
    return data.drawing(alt.LayerChart(layer=[lines, points], width=look.width, height=HEIGHT), "x", "y")


def _thousands() -> "alt.Axis":
    import altair as alt

    return alt.Axis(format="~s", grid=False, tickCount=6, labelExpr="datum.value === 0 ? '0' : datum.label")


def _dashes(other: Factor) -> "alt.StrokeDash":
    import altair as alt

    scale = alt.Scale(domain=list(other.levels), range=list(DASHES[: len(other.levels)]))
    return alt.StrokeDash("dashes:N", title=other.words, sort=list(other.levels), scale=scale)
