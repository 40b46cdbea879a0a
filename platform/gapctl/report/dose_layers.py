"""What a dose-response chart is made of: zero, intervals, means, and single seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gapctl.report.axes import level_colours, series_colours, series_shapes, treatment_axis
from gapctl.report.levels import Factor
from gapctl.report.palette import Look
from gapctl.report.rows import Row

if TYPE_CHECKING:
    import altair as alt

HEIGHT = 260
SEEDS_ASIDE = 10
"""Pixels to the right of their level, so that seeds do not hide the mean and its interval."""
HEAVY, THIN = 2.5, 1.5


@dataclass(frozen=True)
class Response:
    """The rows of one chart (see rows.py) and what they are called; `has_zero` where 0 says that there is no effect."""

    axis: str
    names: tuple[str, ...]
    has_zero: bool
    factor: Factor
    other: Factor | None
    seeds: Sequence[Row]
    means: Sequence[Row]
    arms: Sequence[Row]

    @property
    def lonely(self) -> bool:
        """Whether one seed is all there is, so that a mean is that seed."""
        return len({row["seed"] for row in self.seeds}) == 1


def response_chart(response: Response, look: Look) -> "alt.LayerChart":
    """Intervals below, then thin lines per level of the other factor, seeds, and the heavy mean on top."""
    import altair as alt

    colour, shape = _encodings(response, look)
    # With a second factor colours tell its levels apart, and the mean over all of them is drawn in ink.
    heavy = alt.value(look.colour("ink")) if response.other else colour
    layers = [
        *_zero(response, look),
        *_intervals(response, heavy),
        *_means(response, response.arms, colour, THIN, ticks=not response.lonely),
        _seeds(response, colour, shape),
        *_means(response, response.means, heavy, HEAVY, ticks=not response.lonely or response.other is not None),
    ]
    return alt.LayerChart(layer=layers, width=look.width, height=HEIGHT)


def _encodings(response: Response, look: Look) -> tuple["alt.Color", "alt.Shape"]:
    if (other := response.other) is not None:
        return level_colours(other, look), series_shapes(other.levels, other.words)
    names = response.names
    colour, shape = series_colours(names, look.categories(len(names)), None), series_shapes(names, None)
    return (colour, shape) if len(names) > 1 else (colour.legend(None), shape.legend(None))


def _zero(response: Response, look: Look) -> list["alt.Chart"]:
    import altair as alt

    if not response.has_zero:
        return []
    base = alt.Chart(alt.InlineData(values=[{"value": 0}]))
    return [base.mark_rule(color=look.colour("muted"), strokeDash=[4, 3]).encode(y=_y(response))]


def _intervals(response: Response, colour: Any) -> list["alt.Chart"]:
    """A bar at each level, and a band between those of numbers."""
    import altair as alt

    known = [row for row in response.means if row["low"] is not None and row["high"] is not None]
    if not known:
        return []
    base = alt.Chart(alt.InlineData(values=known)).encode(
        x=treatment_axis(response.factor), y=_y(response, "low"), y2="high:Q", color=colour
    )
    bars = base.mark_rule(strokeWidth=1.5, opacity=0.7)
    return [base.mark_area(opacity=0.16, line=False), bars] if response.factor.ordered else [bars]


def _means(response: Response, rows: Sequence[Row], colour: Any, width: float, *, ticks: bool) -> list["alt.Chart"]:
    """A tick at each mean, and a line between those of numbers."""
    import altair as alt

    if not rows:
        return []
    base = alt.Chart(alt.InlineData(values=list(rows))).encode(
        x=treatment_axis(response.factor), y=_y(response), color=colour
    )
    lines = [base.mark_line(strokeWidth=width)] if response.factor.ordered else []
    marks = base.mark_tick(thickness=width, size=16, orient="horizontal", opacity=1)
    return [*lines, *([marks.encode(tooltip=_mean_tooltip(response, rows[0]))] if ticks else [])]


def _seeds(response: Response, colour: "alt.Color", shape: "alt.Shape") -> "alt.Chart":
    import altair as alt

    tooltip = [
        alt.Tooltip("label:N", title="training"),
        alt.Tooltip("seed:O"),
        *_value_tooltip(response, response.axis),
        alt.Tooltip("trial:N", title="trial id"),
    ]
    base = alt.Chart(alt.InlineData(values=list(response.seeds)))
    aside = 0 if response.lonely else SEEDS_ASIDE
    points: alt.Chart = base.mark_point(size=44, filled=False, strokeWidth=1.6, opacity=0.85, xOffset=aside)
    return points.encode(x=treatment_axis(response.factor), y=_y(response), color=colour, shape=shape, tooltip=tooltip)


def _y(response: Response, field: str = "value") -> "alt.Y":
    import altair as alt

    return alt.Y(f"{field}:Q", title=response.axis, scale=alt.Scale(zero=response.has_zero))


def _mean_tooltip(response: Response, row: Row) -> list["alt.Tooltip"]:
    import altair as alt

    interval = [alt.Tooltip(f"{side}:Q", format=".4~f") for side in ("low", "high") if side in row]
    counted = "seeds" if "seeds" in row else "trainings"
    return [*_value_tooltip(response, "mean"), *interval, alt.Tooltip(f"{counted}:Q")]


def _value_tooltip(response: Response, title: str) -> list["alt.Tooltip"]:
    import altair as alt

    series = [] if response.other is None and len(response.names) == 1 else ["series:N"]
    return [
        alt.Tooltip("level:N", title=response.factor.words),
        *(alt.Tooltip(field, title=response.other.words if response.other else "of") for field in series),
        alt.Tooltip("value:Q", title=title, format=".4~f"),
    ]
