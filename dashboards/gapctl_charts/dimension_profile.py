"""The gap by dimension: how large it is in each, largest first, and what share the largest carry together."""

from typing import TYPE_CHECKING, Literal

import polars as pl

from gapctl_charts.axes import level_colours
from gapctl_charts.data import chart_of
from gapctl_charts.factor import Factor
from gapctl_charts.look import Look
from gapctl_charts.tooltips import training_tooltip, value_tooltip
from gapctl_charts.zoom import zoomable

if TYPE_CHECKING:
    import altair as alt

HEIGHT = 240
Shown = Literal["squared", "carried"]


def profile_chart(profiles: pl.DataFrame, shown: Shown, axis: str, factor: Factor, look: Look) -> "alt.LayerChart":
    """Lines of `squared` or `carried` over `rank`, coloured by `series` (the factor's level).

    A row is a dimension of a training (`trial`, `label`, `seed`, `dimension`).
    """
    import altair as alt

    share = shown == "carried"
    y = alt.Y(f"{shown}:Q", title=axis, axis=alt.Axis(format="%") if share else alt.Axis(format="~g"))
    base = chart_of(profiles, "dimension").encode(
        x=alt.X("rank:Q", title="dimensions, largest first", axis=_whole(), scale=alt.Scale(nice=False)),
        y=y.scale(domain=[0, 1]) if share else y,
        color=level_colours(factor, look),
        detail="trial:N",
    )
    lines = base.mark_line(strokeWidth=1.4, opacity=0.8, clip=True)
    tooltip = training_tooltip(
        alt.Tooltip("dimension:Q"),
        alt.Tooltip("rank:Q"),
        value_tooltip("squared difference", "squared"),
        value_tooltip("carried up to here", "carried", ".1%"),
    )
    points = base.mark_point(size=16, filled=True, opacity=0.75, clip=True).encode(tooltip=tooltip)
    return zoomable(alt.LayerChart(layer=[lines, points], width=look.width, height=HEIGHT), look, "x", "y")


def _whole() -> "alt.Axis":
    import altair as alt

    return alt.Axis(format="d", grid=False, tickMinStep=1)
