"""What a search drew and what came of it: over its course, by each value, and how much each value decides."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from gapctl_charts.data import Datasets, Drawing
from gapctl_charts.look import Look

if TYPE_CHECKING:
    import altair as alt

Kind = Literal["log", "linear", "categories"]
HEIGHT = 230
SIZE = 60
EDGE = 10
"""Pixels between the outermost marks and the edge, which would cut them."""
BAR = 22


def history_chart(points: pl.DataFrame, best: pl.DataFrame, axis: str, look: Look) -> Drawing:
    """The metric of each point in the order of drawing, and the best so far.

    `points` has a row per point: `number`, `value`, `ended` (a word) and `label`; `best` one per point that was trained
    to its end: `number` and `value`.
    """
    import altair as alt

    data = Datasets()
    x = alt.X("number:Q", title="Points in the order of drawing", axis=alt.Axis(tickMinStep=1, format="d"))
    y = alt.Y("value:Q", title=axis, scale=alt.Scale(zero=False))
    line = data.chart(best, "best").mark_line(interpolate="step-after", color=look.colour("ink"), strokeWidth=2)
    marks = _marks(data.chart(points, "point"), look)
    layers = alt.layer(line.encode(x=x, y=y), marks.encode(x=x, y=y)).properties(width=look.width, height=HEIGHT)
    return data.drawing(layers, "x", "y")


def slice_chart(
    points: pl.DataFrame, value: str, axis: str, kind: Kind, look: Look, order: Sequence[str] = ()
) -> Drawing:
    """The metric by one value that was drawn; categories stand in this `order`.

    `points` as in `history_chart`, with the drawn value in `drawn`.
    """
    import altair as alt

    data = Datasets()
    marks = _marks(data.chart(points, "point"), look)
    if kind == "categories":
        x = alt.X("drawn:N", title=value, sort=list(order), axis=alt.Axis(labelAngle=0))
    else:
        scale = alt.Scale(type=kind, zero=False, nice=False, padding=EDGE)
        x = alt.X("drawn:Q", title=value, scale=scale, axis=alt.Axis(format="~r", tickCount=6, labelOverlap=True))
    y = alt.Y("value:Q", title=axis, scale=alt.Scale(zero=False))
    zooms = ("y",) if kind == "categories" else ("x", "y")
    # One layer, as what zooms is a layered chart.
    return data.drawing(alt.layer(marks.encode(x=x, y=y)).properties(width=look.width, height=HEIGHT), *zooms)


def importance_chart(shares: pl.DataFrame, look: Look) -> Drawing:
    """How much of the metric's variation each value decides: `name` and `share`, the largest first."""
    import altair as alt

    data = Datasets()
    bars = data.chart(shares, "value").mark_bar(color=look.colour("category-0"), height=BAR * 0.7)
    encoded = bars.encode(
        x=alt.X("share:Q", title="Share of the variation", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
        y=alt.Y("name:N", title=None, sort=None),
        tooltip=[alt.Tooltip("name:N", title="value"), alt.Tooltip("share:Q", format=".0%")],
    )
    return data.drawing(encoded.properties(width=look.width, height=alt.Step(BAR)))


def _marks(chart: "alt.Chart", look: Look) -> Any:
    """A mark for each point: filled where it was trained to its end."""
    import altair as alt

    ended = ["done", "stopped"]
    colours = [look.colour("category-0"), look.colour("category-1")]
    return chart.mark_point(size=SIZE, filled=True, opacity=0.8).encode(
        color=alt.Color("ended:N", title=None, scale=alt.Scale(domain=ended, range=colours)),
        shape=alt.Shape("ended:N", title=None, scale=alt.Scale(domain=ended, range=["circle", "cross"])),
        tooltip=[
            alt.Tooltip("label:N", title="point"),
            alt.Tooltip("value:Q", format=".4g"),
            alt.Tooltip("ended:N"),
            alt.Tooltip("number:Q", title="drawn as"),
        ],
    )
