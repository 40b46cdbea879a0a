"""What is left of gap and recall when dimensions are removed."""

from typing import Final

import polars as pl

from gapctl_charts.axes import series_colours
from gapctl_charts.data import Datasets, Drawing
from gapctl_charts.look import Look
from gapctl_charts.tooltips import value_tooltip

HEIGHT: Final = 300
SERIES: Final = ("relative gap (RMG)", "distance of means (L2M)", "recall at 1, image to text")


def removal_chart(removals: pl.DataFrame, look: Look) -> Drawing:
    """Lines of `value` over how many dimensions were `removed`, coloured by `series` (one of `SERIES`)."""
    import altair as alt

    data = Datasets()
    chart: alt.Chart = (
        data.chart(removals, "removal")
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("removed:Q", title="dimensions removed", axis=alt.Axis(grid=False, format="~d")),
            y=alt.Y("value:Q", title="what is left"),
            color=series_colours(SERIES, look.categories(3), None),
            tooltip=["series:N", "removed:Q", value_tooltip("value")],
        )
    )
    return data.drawing(chart.properties(width=look.width, height=HEIGHT))
