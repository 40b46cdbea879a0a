"""Axes and scales that several charts share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gapctl_charts.factor import Factor
from gapctl_charts.look import Look

if TYPE_CHECKING:
    import altair as alt

TICKS_SHOWN = 12
LABEL_ROOM = 48
"""Characters of level names that fit side by side under a chart."""
SHAPES = ("circle", "triangle-up", "square", "diamond", "cross", "triangle-down")


def treatment_axis(factor: Factor) -> "alt.X":
    """The x axis of a dose-response chart: `place` of each row by the factor's own kind of axis."""
    import altair as alt

    if factor.measured:
        scale = alt.Scale(type="log" if factor.kind == "log" else "linear", zero=False, nice=False, padding=14)
        title = f"{factor.words} (log scale)" if factor.kind == "log" else factor.words
        return alt.X("place:Q", title=title, scale=scale, axis=alt.Axis(format="~r", grid=False, **_ticks(factor)))
    angle = 0 if sum(map(len, factor.levels)) <= LABEL_ROOM else -35
    axis = alt.Axis(labelAngle=angle, labelLimit=200, grid=False)
    return alt.X("place:O", title=factor.words, sort=list(factor.levels), scale=alt.Scale(padding=0.6), axis=axis)


def level_colours(factor: Factor, look: Look) -> "alt.Color":
    """Colours for the `series` of each row: bright for high levels, or one per category."""
    colours = look.steps(len(factor.levels)) if factor.ordered else look.categories(len(factor.levels))
    return series_colours(factor.levels, colours, factor.words)


def series_colours(names: Sequence[str], colours: Sequence[str], title: str | None) -> "alt.Color":
    """One colour for each value of `series`, in this order, with a legend."""
    import altair as alt

    return alt.Color("series:N", title=title, sort=list(names), scale=alt.Scale(domain=list(names), range=colours))


def series_shapes(names: Sequence[str], title: str | None) -> "alt.Shape":
    """One shape for each value of `series`, merged into the legend of its colours."""
    import altair as alt

    shapes = [SHAPES[index % len(SHAPES)] for index in range(len(names))]
    return alt.Shape("series:N", title=title, sort=list(names), scale=alt.Scale(domain=list(names), range=shapes))


def _ticks(factor: Factor) -> dict[str, Any]:
    return {"values": [float(level) for level in factor.levels]} if len(factor.levels) <= TICKS_SHOWN else {}
