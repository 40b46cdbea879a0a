"""The difference of the modality means, dimension by dimension."""

from typing import Final

import polars as pl

from gapctl_charts.data import Datasets, Drawing
from gapctl_charts.look import Look
from gapctl_charts.tooltips import value_tooltip

HEIGHT: Final = 300


def difference_chart(dimensions: pl.DataFrame, look: Look) -> Drawing:
    """A bar of `value` for each `dimension`, from `place` to `next`."""
    import altair as alt

    data = Datasets()
    chart: alt.Chart = (
        data.chart(dimensions, "dimension")
        .mark_rect(color=look.categories(1)[0])
        .encode(
            x=alt.X("place:Q", title="dimensions, largest difference first", axis=alt.Axis(grid=False, format="~d")),
            x2=alt.X2("next:Q"),
            y=alt.Y("value:Q", title="mean image minus mean text"),
            y2=alt.datum(0),
            tooltip=["dimension:Q", value_tooltip("difference")],
        )
    )
    return data.drawing(chart.properties(width=look.width, height=HEIGHT))
