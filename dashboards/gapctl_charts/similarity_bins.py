"""How similar images are to their own texts, and to others'."""

from typing import Final

import polars as pl

from gapctl_charts.axes import series_colours
from gapctl_charts.data import Datasets, Drawing
from gapctl_charts.look import Look

HEIGHT: Final = 300
PAIRS: Final = ("matched", "other")


def similarity_chart(bins: pl.DataFrame, look: Look) -> Drawing:
    """Bars from cosine `low` to `high` as tall as their `share` of the pairs, coloured by `series`."""
    import altair as alt

    data = Datasets()
    chart: alt.Chart = (
        data.chart(bins, "bin")
        .mark_rect(opacity=0.6)
        .encode(
            x=alt.X("low:Q", title="cosine of image and text", axis=alt.Axis(grid=False), scale=alt.Scale(zero=False)),
            x2=alt.X2("high:Q"),
            y=alt.Y("share:Q", title="share of pairs", axis=alt.Axis(format="~%")),
            y2=alt.datum(0),
            color=series_colours(PAIRS, look.categories(2), None),
            tooltip=[
                "series:N",
                alt.Tooltip("low:Q", title="from"),
                alt.Tooltip("high:Q", title="to"),
                alt.Tooltip("share:Q", format=".2%"),
            ],
        )
    )
    return data.drawing(chart.properties(width=look.width, height=HEIGHT))
