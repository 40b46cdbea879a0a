"""A quality against the gap, a point per training."""

from typing import TYPE_CHECKING

import polars as pl

from gapctl_charts.axes import level_colours, series_shapes
from gapctl_charts.data import chart_of
from gapctl_charts.factor import Factor
from gapctl_charts.look import Look
from gapctl_charts.tooltips import training_tooltip, value_tooltip
from gapctl_charts.zoom import zoomable

if TYPE_CHECKING:
    import altair as alt

HEIGHT = 240


def tradeoff_chart(trainings: pl.DataFrame, gap: str, quality: str, factor: Factor, look: Look) -> "alt.LayerChart":
    """Points at `gap` and `quality`, coloured and shaped by `series` (the factor's level); the words are the axes'.

    `trial`, `label` and `seed` say which training a point is.
    """
    import altair as alt

    points = chart_of(trainings, "training").mark_point(size=60, filled=True, opacity=0.85, clip=True)
    chart = points.encode(
        x=alt.X("gap:Q", title=gap, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6)),
        y=alt.Y("quality:Q", title=quality, scale=alt.Scale(zero=False)),
        color=level_colours(factor, look),
        shape=series_shapes(factor.levels, factor.words),
        tooltip=training_tooltip(value_tooltip(gap, "gap"), value_tooltip(quality, "quality")),
    )
    return zoomable(alt.LayerChart(layer=[chart], width=look.width, height=HEIGHT), look, "x", "y")
