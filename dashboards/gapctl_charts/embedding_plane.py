"""Both modalities in the plane of the two directions in which embeddings vary most."""

from typing import Final

import polars as pl

from gapctl_charts.axes import series_colours, series_shapes
from gapctl_charts.data import Datasets, Drawing
from gapctl_charts.look import Look

HEIGHT: Final = 300
MODALITIES: Final = ("image", "text")


def plane_chart(points: pl.DataFrame, x: str, y: str, look: Look) -> Drawing:
    """Points at `x` and `y`, coloured and shaped by `series` (`image` or `text`); the words are the axes'."""
    import altair as alt

    data = Datasets()
    axis, scale = alt.Axis(format="~g"), alt.Scale(zero=False)
    chart: alt.Chart = (
        data.chart(points, "embedding")
        .mark_point(size=14, opacity=0.55, strokeWidth=1)
        .encode(
            x=alt.X("x:Q", title=x, scale=scale, axis=axis),
            y=alt.Y("y:Q", title=y, scale=scale, axis=axis),
            color=series_colours(MODALITIES, look.categories(2), None),
            shape=series_shapes(MODALITIES, None),
        )
    )
    return data.drawing(chart.properties(width=look.width, height=HEIGHT))
