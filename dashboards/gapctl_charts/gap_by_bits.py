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
USUAL_PAGE_WIDTH = 640
FONT_SIZE, CHARACTER, LINE = 10, 5.2, 11
"""Of a name, in pixels: its size, the width of a character, the height of a line."""
NAME_OFFSET, LEFT_MARGIN = 8, 4
EDGE = 12
"""Pixels between the outermost marks and the edge, which would cut them."""


def bits_chart(captions: pl.DataFrame, gap: str, kinds: Sequence[str], look: Look) -> Drawing:
    """Points at `unsaid` and `gap`, named by `level`, coloured and shaped by `series`, which is one of `kinds`.

    Names that would lie over others are left to the tooltips. `unforeseeable` are the bits of captions that images do
    not tell, `trainings` how many a point is the mean of.
    """
    import altair as alt

    data = Datasets()
    unsaid = "Bits that captions leave unsaid of images"
    scale = alt.Scale(zero=True, nice=False, padding=EDGE)
    base = data.chart(place_names(captions, look), "captions").encode(
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
    """The levels' names on the sides of their points that `place_names` chose."""
    right = base.mark_text(align="left", dx=NAME_OFFSET, fontSize=FONT_SIZE, baseline="middle")
    left = base.mark_text(align="right", dx=-NAME_OFFSET, fontSize=FONT_SIZE, baseline="middle")
    return [
        names.encode(text="level:N").transform_filter(f"datum.side == '{side}'")
        for names, side in ((right, "right"), (left, "left"))
    ]


def place_names(captions: pl.DataFrame, look: Look) -> pl.DataFrame:
    """Adds `side`: where a point's name meets neither another point nor a name placed before it; else empty.

    In the left half names stand to the right if they can, in the right half to the left.
    """
    width = look.width if isinstance(look.width, int) else USUAL_PAGE_WIDTH
    places: list[tuple[float, float]] = captions.select("unsaid", "gap").rows()
    x_unit = width / max(*(x for x, _ in places), 1e-9)  # pixels
    y_unit = HEIGHT / max(*(y for _, y in places), 1e-9)
    points = [(x * x_unit, y * y_unit) for x, y in places]
    taken: list[tuple[float, float, float]] = []  # left, right and middle of the names so far
    sides = []
    for (x, y), level in zip(points, captions["level"], strict=True):
        length = CHARACTER * len(str(level))
        right, left = (x + NAME_OFFSET, x + NAME_OFFSET + length), (x - NAME_OFFSET - length, x - NAME_OFFSET)
        wanted = [("right", right), ("left", left)]
        for side, (begin, end) in wanted if x <= width / 2 else wanted[::-1]:
            on_points = any(begin < px + 5 and px - 5 < end and abs(py - y) < LINE / 2 + 3 for px, py in points)
            on_names = any(begin < other_end and other < end and abs(at - y) < LINE for other, other_end, at in taken)
            if not (on_points or on_names or begin < -LEFT_MARGIN or end > width + NAME_OFFSET):
                taken.append((begin, end, y))
                sides.append(side)
                break
        else:
            sides.append("")
    return captions.with_columns(side=pl.Series(sides, dtype=pl.String))
