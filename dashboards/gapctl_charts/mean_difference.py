"""The difference of the modality means, dimension by dimension."""

from typing import TYPE_CHECKING, Final

import polars as pl

from gapctl_charts.data import chart_of
from gapctl_charts.look import Look
from gapctl_charts.tooltips import value_tooltip

if TYPE_CHECKING:
    import altair as alt

HEIGHT: Final = 300


def difference_chart(dimensions: pl.DataFrame, look: Look) -> "alt.Chart":
    """A bar of `value` for each `dimension`, from `place` to `next`."""
    import altair as alt

    chart: alt.Chart = chart_of(dimensions, "dimension").mark_rect(color=look.categories(1)[0]).encode(
        x=alt.X("place:Q", title="dimensions, largest difference first", axis=alt.Axis(grid=False, format="~d")),
        x2="next:Q",
        y=alt.Y("value:Q", title="mean image minus mean text"),
        y2=alt.datum(0),
        tooltip=["dimension:Q", value_tooltip("difference")],
    )
    return chart.properties(width=look.width, height=HEIGHT)
