"""The gap by dimension: how large it is in each, largest first, and what share the largest carry together."""

from typing import TYPE_CHECKING, Literal

import polars as pl

from gapctl_charts.axes import level_colours
from gapctl_charts.data import Datasets, Drawing, values_chart
from gapctl_charts.factor import Factor
from gapctl_charts.look import Look
from gapctl_charts.tooltips import training_tooltip, value_tooltip

if TYPE_CHECKING:
    import altair as alt

HEIGHT = 240
ProfileQuantity = Literal["squared", "carried"]


def profile_chart(profiles: pl.DataFrame, quantity: ProfileQuantity, axis: str, factor: Factor, look: Look) -> Drawing:
    """Lines of `squared` or `carried` over `rank`, coloured by `series` (the factor's level).

    A row is a dimension of a training (`trial`, `label`, `seed` or `model`, `dimension`).
    """
    import altair as alt

    data = Datasets()
    share = quantity == "carried"
    y = alt.Y(f"{quantity}:Q", title=axis, axis=alt.Axis(format="%") if share else alt.Axis(format="~g"))
    base = data.chart(profiles, "dimension").encode(
        x=alt.X("rank:Q", title="dimensions, largest first", axis=_whole(), scale=alt.Scale(nice=False)),
        y=y.scale(domain=[0, 1]) if share else y,
        color=level_colours(factor, look),
        detail=alt.Detail("trial:N"),
    )
    lines = base.mark_line(strokeWidth=1.4, strokeOpacity=0.8)
    tooltip = training_tooltip(
        profiles,
        alt.Tooltip("dimension:Q"),
        alt.Tooltip("rank:Q"),
        value_tooltip("squared difference", "squared"),
        value_tooltip("carried up to here", "carried", ".1%"),
    )
    points = base.mark_point(size=16, filled=True, opacity=0.75).encode(tooltip=tooltip)
    layers = [*(_even(profiles, look) if share else []), lines, points]
    return data.drawing(alt.LayerChart(layer=layers, width=look.width, height=HEIGHT), "x", "y")


def _even(profiles: pl.DataFrame, look: Look) -> list["alt.Chart"]:
    """What every dimension would carry if they carried the same."""
    import altair as alt

    most = int(profiles["rank"].max() or 1)  # type: ignore[arg-type]
    ends = values_chart([{"rank": 1, "carried": 1 / most}, {"rank": most, "carried": 1.0}])
    return [
        ends.mark_line(color=look.colour("muted"), strokeDash=[5, 3]).encode(x=alt.X("rank:Q"), y=alt.Y("carried:Q"))
    ]


def _whole() -> "alt.Axis":
    import altair as alt

    return alt.Axis(format="d", grid=False, tickMinStep=1)
