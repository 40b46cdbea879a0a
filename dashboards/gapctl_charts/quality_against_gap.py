"""Where interventions take the held-out images: a quality against the gap, with the interval of each change."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import polars as pl

from gapctl_charts.axes import series_colours, series_shapes
from gapctl_charts.data import Datasets, Drawing, values_chart
from gapctl_charts.look import Look

if TYPE_CHECKING:
    import altair as alt

HEIGHT: Final = 300


class Untouched(NamedTuple):
    """The quality with nothing done, and the smallest change of it that counts."""

    value: float
    smallest: float


def intervention_chart(
    interventions: pl.DataFrame, families: Sequence[str], gap: str, untouched: Untouched, look: Look
) -> Drawing:
    """A point per intervention at `gap` and `value`, its interval from `low` to `high`; `series` is its family.

    `label` is its amount, empty where it has none; those of one family that have one are joined by `place`. `name`,
    `change` and `verdict` are for hovering.
    """
    import altair as alt

    data = Datasets()
    colour = series_colours(families, look.categories(len(families)), None).legend(columns=3)
    shape = series_shapes(families, None).legend(columns=3)
    base = data.chart(interventions, "intervention").encode(x=_x(gap), color=colour)
    sweeps = base.transform_filter("datum.label !== ''")
    layers = [
        *_untouched(untouched, look),
        base.mark_rule(strokeWidth=1.5, opacity=0.7).encode(y=_y("low"), y2=alt.Y2("high:Q")),
        sweeps.mark_line(strokeWidth=1.5, opacity=0.8).encode(y=_y(), order=alt.Order("place:Q")),
        base.mark_point(filled=True, size=70, opacity=1).encode(y=_y(), shape=shape, tooltip=_tooltip()),
        sweeps.mark_text(dx=9, dy=-9, fontSize=11).encode(y=_y(), text=alt.Text("label:N")),
    ]
    return data.drawing(alt.LayerChart(layer=layers, width=look.width, height=HEIGHT))


def _untouched(untouched: Untouched, look: Look) -> list["alt.Chart"]:
    """What the quality is with nothing done, and the band of changes that do not count."""
    import altair as alt

    value, smallest = untouched
    base = values_chart([{"low": value - smallest, "high": value + smallest, "value": value}])
    return [
        base.mark_rect(color=look.colour("negligible"), opacity=0.7).encode(y=_y("low"), y2=alt.Y2("high:Q")),
        base.mark_rule(color=look.colour("muted"), strokeDash=[4, 3]).encode(y=_y()),
    ]


def _x(title: str) -> "alt.X":
    import altair as alt

    return alt.X("gap:Q", title=title, axis=alt.Axis(grid=False, tickCount=6))


def _y(field: str = "value") -> "alt.Y":
    import altair as alt

    return alt.Y(f"{field}:Q", title="points", scale=alt.Scale(zero=False))


def _tooltip() -> list["alt.Tooltip"]:
    import altair as alt

    numbers = {"gap": ("L2M", ".3f"), "value": ("points", ".1f"), "change": ("change", "+.1f")}
    return [
        alt.Tooltip("name:N", title="intervention"),
        *(alt.Tooltip(f"{field}:Q", title=title, format=form) for field, (title, form) in numbers.items()),
        alt.Tooltip("verdict:N", title="verdict"),
    ]
