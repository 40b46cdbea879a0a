"""Two metrics of many models, a point each, with the line of each stratum."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from gapctl_charts.axes import series_colours, series_shapes
from gapctl_charts.data import Datasets, Drawing
from gapctl_charts.look import Look
from gapctl_charts.tooltips import value_tooltip

if TYPE_CHECKING:
    import altair as alt

HEIGHT = 320
EDGE = 12
"""Pixels between the outermost marks and the edge, which would cut them."""


def scatter_chart(
    models: pl.DataFrame,
    lines: pl.DataFrame,
    axes: tuple[str, str],
    strata: Sequence[str],
    told: Mapping[str, str],
    look: Look,
    *,
    log: bool = False,
) -> Drawing:
    """Points at `against` and `response`, coloured and shaped by `series` (the stratum); the words are the axes'.

    `model` and `trial` say which model a point is, `told` names columns to tell of it by their titles. `lines` has
    `against`, `response` and `series` at both ends of each line. With `log`, the first axis is logarithmic.
    """
    import altair as alt

    data = Datasets()
    colour = series_colours(strata, look.categories(len(strata)), None)
    x, y = _x(axes[0], log=log), alt.Y("response:Q", title=axes[1], scale=alt.Scale(zero=False, padding=EDGE))
    points = data.chart(models, "model").mark_point(size=70, filled=True, opacity=0.85)
    layers = [
        points.encode(x=x, y=y, color=colour, shape=series_shapes(strata, None), tooltip=model_tooltip(told, axes))
    ]
    if not lines.is_empty():
        drawn = data.chart(lines, "stratum").mark_line(strokeWidth=1.5, opacity=0.7)
        layers.insert(0, drawn.encode(x=x, y=y, color=colour))
    return data.drawing(alt.LayerChart(layer=layers, width=look.width, height=HEIGHT), "x", "y")


def _x(title: str, *, log: bool) -> "alt.X":
    import altair as alt

    scale = alt.Scale(type="log" if log else "linear", zero=False, nice=False, padding=EDGE)
    form = alt.Axis(tickCount=6, format="~s") if log else alt.Axis(tickCount=6)
    return alt.X("against:Q", title=f"{title} (log scale)" if log else title, scale=scale, axis=form)


def model_tooltip(told: Mapping[str, str], axes: tuple[str, str]) -> list[Any]:
    """The model's name, what is known of it, what was measured, and its trial."""
    import altair as alt

    return [
        alt.Tooltip("model:N"),
        alt.Tooltip("series:N", title="stratum"),
        *(alt.Tooltip(f"{field}:N", title=title) for title, field in told.items()),
        value_tooltip(axes[0], "against"),
        value_tooltip(axes[1], "response"),
        alt.Tooltip("trial:N", title="trial id"),
    ]
