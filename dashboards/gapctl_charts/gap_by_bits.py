"""The gap against the bits that captions leave unsaid, a named point for each kind of captions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from gapctl_charts.axes import series_colours, series_shapes
from gapctl_charts.data import Datasets, Drawing
from gapctl_charts.look import Look
from gapctl_charts.tooltips import value_tooltip

if TYPE_CHECKING:
    import altair as alt

HEIGHT = 300
EDGE = 12
"""Pixels between the outermost marks and the edge, which would cut them."""


def bits_chart(captions: pl.DataFrame, gap: str, kinds: Sequence[str], look: Look) -> Drawing:
    """Points at `unsaid` and `gap`, named by `level`, coloured and shaped by `series`, which is one of `kinds`.

    `unforeseeable` are the bits of captions that images do not tell, `trainings` how many a point is the mean of.
    """
    import altair as alt

    data = Datasets()
    unsaid = "Bits that captions leave unsaid of images"
    scale = alt.Scale(zero=True, nice=False, padding=EDGE)
    base = data.chart(captions, "captions").encode(
        x=alt.X("unsaid:Q", title=unsaid, scale=scale, axis=alt.Axis(tickCount=8)),
        y=alt.Y("gap:Q", title=gap, scale=scale),
        color=series_colours(kinds, look.categories(len(kinds)), None),
    )
    points = base.mark_point(size=70, filled=True, opacity=0.9).encode(
        shape=series_shapes(kinds, None),
        tooltip=[
            alt.Tooltip("level:N", title="captions"),
            value_tooltip(gap, "gap"),
            value_tooltip(unsaid, "unsaid"),
            value_tooltip("Bits of captions that images do not tell", "unforeseeable"),
            alt.Tooltip("trainings:Q"),
        ],
    )
    return data.drawing(alt.LayerChart(layer=[points, *_names(base)], width=look.width, height=HEIGHT), "x", "y")


def _names(base: "alt.Chart") -> list["alt.Chart"]:
    """The levels' names beside their points: to the right, or to the left in the right half of the chart."""
    import altair as alt

    half = "(domain('x')[0] + domain('x')[1]) / 2"
    right = base.mark_text(align="left", dx=8, fontSize=10, baseline="middle")
    left = base.mark_text(align="right", dx=-8, fontSize=10, baseline="middle")
    return [
        names.encode(text="level:N", opacity=alt.condition(where, alt.value(1), alt.value(0)))
        for names, where in ((right, f"datum.unsaid <= {half}"), (left, f"datum.unsaid > {half}"))
    ]
