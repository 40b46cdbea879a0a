"""How often each value occurs: a histogram of numbers, and bars of words."""

from typing import Final

import polars as pl

from gapctl_charts.data import Datasets, Drawing
from gapctl_charts.look import Look

HEIGHT: Final = 260
ROW_HEIGHT: Final = 16


def histogram(bars: pl.DataFrame, axis: str, look: Look) -> Drawing:
    """Bars from `low` up to but not including `high`, as tall as their `samples`; `axis` names the values."""
    import altair as alt

    data = Datasets()
    chart: alt.Chart = (
        data.chart(bars, "bar")
        .mark_rect(color=look.categories(1)[0])
        .encode(
            x=alt.X("low:Q", title=axis, axis=alt.Axis(grid=False), scale=alt.Scale(zero=False)),
            x2=alt.X2("high:Q"),
            y=alt.Y("samples:Q", title="samples", axis=alt.Axis(format="~s")),
            y2=alt.datum(0),
            tooltip=[alt.Tooltip("low:Q", title="from"), alt.Tooltip("high:Q", title="to below"), "samples:Q"],
        )
    )
    return data.drawing(chart.properties(width=look.width, height=HEIGHT))


def word_bars(words: pl.DataFrame, look: Look) -> Drawing:
    """A bar for each `word`, as long as the `times` it occurs, in the frame's order."""
    import altair as alt

    data = Datasets()
    chart: alt.Chart = (
        data.chart(words, "word")
        .mark_bar(color=look.categories(1)[0])
        .encode(
            y=alt.Y("word:N", sort=words.get_column("word").to_list(), title=None),
            x=alt.X("times:Q", title="occurrences", axis=alt.Axis(format="~s")),
            tooltip=["word:N", "times:Q"],
        )
    )
    return data.drawing(chart.properties(width=look.width, height=ROW_HEIGHT * max(1, len(words))))
