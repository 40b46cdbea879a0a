"""What is left of a metric of many models as dimensions are removed."""

from collections.abc import Sequence

import polars as pl

from gapctl_charts.axes import series_colours
from gapctl_charts.data import Datasets, Drawing
from gapctl_charts.look import Look
from gapctl_charts.tooltips import value_tooltip

HEIGHT = 300


def ablation_chart(curves: pl.DataFrame, axis: str, strata: Sequence[str], look: Look) -> Drawing:
    """A line of `value` over `removed` dimensions for each `model`, coloured by `series` (its stratum).

    The axis begins at 0 and is logarithmic beyond 1. `trial` is the one behind a point.
    """
    import altair as alt

    data = Datasets()
    ticks = sorted(set(curves["removed"].to_list()))
    x = alt.X(
        "removed:Q",
        title="largest dimensions removed",
        scale=alt.Scale(type="symlog", constant=1, nice=False, padding=8),
        axis=alt.Axis(values=ticks, grid=False, format="d"),
    )
    base = data.chart(curves, "model").encode(
        x=x,
        y=alt.Y("value:Q", title=axis, scale=alt.Scale(zero=False)),
        color=series_colours(strata, look.categories(len(strata)), None),
        detail=alt.Detail("model:N"),
    )
    points = base.mark_point(size=26, filled=True, opacity=0.8).encode(
        tooltip=[
            alt.Tooltip("model:N"),
            alt.Tooltip("series:N", title="stratum"),
            alt.Tooltip("removed:Q", title="dimensions removed"),
            value_tooltip(axis),
            alt.Tooltip("trial:N", title="trial id"),
        ]
    )
    lines = base.mark_line(strokeWidth=1.2, strokeOpacity=0.65)
    return data.drawing(alt.LayerChart(layer=[lines, points], width=look.width, height=HEIGHT), "y")
