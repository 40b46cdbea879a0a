"""A hypothesis as a strip: its estimate with its interval, against the band of what is too small to count."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from gapctl_charts.data import values_chart
from gapctl_charts.look import Look
from gapctl_charts.tooltips import value_tooltip

if TYPE_CHECKING:
    import altair as alt

HEIGHT = 30
_MARK: Final = {"supported": "circle", "refuted": "cross", "inconclusive": "diamond"}


class Strip(NamedTuple):
    """One verdict: `low` and `high` are None where too few seeds give no interval; `axis` is the axis title's lines."""

    finding: Literal["supported", "refuted", "inconclusive"]
    effect: str
    axis: list[str] | None
    estimate: float
    low: float | None
    high: float | None
    smallest_effect: float


def strip_chart(strip: Strip, look: Look) -> "alt.LayerChart":
    """The band around zero, zero itself, the interval and the estimate, whose shape tells the verdict too."""
    import altair as alt

    row = _row(strip)
    base, colour = values_chart([dict(row)]), look.colour(strip.finding)
    point = base.mark_point(shape=_MARK[strip.finding], size=200, filled=True, opacity=1, color=colour)
    tooltip = _tooltip(strip)
    parts = [
        base.mark_rect(color=look.colour("negligible")).encode(x=_x("band_low", strip, row), x2=alt.X2("band_high:Q")),
        base.mark_rule(color=look.colour("muted"), strokeDash=[4, 3]).encode(x=alt.XDatum(0)),
        point.encode(stroke=alt.value(look.colour("surface")), x=_x("estimate", strip, row), tooltip=tooltip),
    ]
    if strip.low is not None and strip.high is not None:
        bar = base.mark_rule(strokeWidth=3, color=colour)
        parts.insert(2, bar.encode(x=_x("low", strip, row), x2=alt.X2("high:Q"), tooltip=tooltip))
    return alt.LayerChart(layer=parts, width=look.width, height=HEIGHT)


def _x(field: str, strip: Strip, row: Mapping[str, float | None]) -> "alt.X":
    import altair as alt

    scale = alt.Scale(domain=_domain(row), nice=False, zero=False)
    return alt.X(f"{field}:Q", title=strip.axis, scale=scale, axis=alt.Axis(tickCount=4, grid=False, format="~g"))


def _tooltip(strip: Strip) -> list["alt.Tooltip"]:
    named = {"estimate": strip.effect, "low": "low", "high": "high", "band_high": "smallest effect"}
    return [value_tooltip(title, field) for field, title in named.items()]


def _row(strip: Strip) -> dict[str, float | None]:
    band = {"band_low": -strip.smallest_effect, "band_high": strip.smallest_effect}
    return {"estimate": strip.estimate, "low": strip.low, "high": strip.high, **band}


def _domain(row: Mapping[str, float | None]) -> list[float]:
    shown = [0.0, *(value for value in row.values() if value is not None)]
    room = 0.08 * (max(shown) - min(shown)) or 1.0
    return [min(shown) - room, max(shown) + room]
