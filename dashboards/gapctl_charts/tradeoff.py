"""A quality against the gap, a point per training."""

import polars as pl

from gapctl_charts.axes import level_colours, series_shapes
from gapctl_charts.data import Datasets, Drawing
from gapctl_charts.factor import Factor
from gapctl_charts.look import Look
from gapctl_charts.tooltips import training_tooltip, value_tooltip

HEIGHT = 240
EDGE = 10
"""Pixels between the outermost marks and the edge, which would cut them."""


def tradeoff_chart(trainings: pl.DataFrame, gap: str, quality: str, factor: Factor, look: Look) -> Drawing:
    """Points at `gap` and `quality`, coloured and shaped by `series` (the factor's level); the words are the axes'.

    `trial`, `label` and `seed` (or `model`) say which training a point is.
    """
    import altair as alt

    data = Datasets()
    points = data.chart(trainings, "training").mark_point(size=60, filled=True, opacity=0.85)
    chart = points.encode(
        x=alt.X("gap:Q", title=gap, scale=alt.Scale(zero=False, padding=EDGE), axis=alt.Axis(tickCount=6)),
        y=alt.Y("quality:Q", title=quality, scale=alt.Scale(zero=False, padding=EDGE)),
        color=level_colours(factor, look),
        shape=series_shapes(factor.levels, factor.words),
        tooltip=training_tooltip(trainings, value_tooltip(gap, "gap"), value_tooltip(quality, "quality")),
    )
    return data.drawing(alt.LayerChart(layer=[chart], width=look.width, height=HEIGHT), "x", "y")
