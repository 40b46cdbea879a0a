"""Four charts of a set of embeddings: the plane, the dimensions, the similarities, and the gap without dimensions."""

from typing import TYPE_CHECKING, Any, Final

from gapctl.report.axes import series_colours, series_shapes
from gapctl.report.figure import Figure, figure
from gapctl.report.measured.record import Measured
from gapctl.report.palette import Look

if TYPE_CHECKING:
    import altair as alt

HEIGHT: Final = 300
MODALITIES: Final = ("image", "text")
PAIRS: Final = ("matched", "other")
GAPS: Final = ("relative gap (RMG)", "distance of means (L2M)")
DIGITS: Final = 5
"""More would not be seen, and would make the page larger."""


def measured_figures(measured: Measured, look: Look) -> list[Figure]:
    """All charts, in the order in which one reads them."""
    found = [_plane(measured, look), _similarities(measured, look), _dimensions(measured, look)]
    return [*found, _removals(measured, look)] if measured.removals else found


def _plane(measured: Measured, look: Look) -> Figure:
    import altair as alt

    rows = [
        {"series": name, "x": round(point.x, DIGITS), "y": round(point.y, DIGITS)}
        for name, points in zip(MODALITIES, (measured.images, measured.texts), strict=True)
        for point in points
    ]
    first, second = (f"{share:.0%}" for share in measured.shares)
    points = alt.Chart(alt.InlineData(values=rows)).mark_point(size=14, opacity=0.55, strokeWidth=1)
    chart = points.encode(
        x=_axis("x", f"first direction, {first} of the variance"),
        y=_axis("y", f"second direction, {second} of the variance"),
        color=series_colours(MODALITIES, look.categories(2), None),
        shape=series_shapes(MODALITIES, None),
    )
    title = "Both modalities in a plane"
    caption = f"The two directions in which embeddings vary most, both modalities together. {_drawn(measured)}"
    return figure("plane", title, caption, chart.properties(width=look.width, height=HEIGHT), look)


def _drawn(measured: Measured) -> str:
    return f"Drawn: {len(measured.images):,} images and {len(measured.texts):,} texts."


def _similarities(measured: Measured, look: Look) -> Figure:
    import altair as alt

    rows = [
        {"series": name, "low": round(each.low, DIGITS), "high": round(each.high, DIGITS), "share": share}
        for each in measured.bins
        for name, share in zip(PAIRS, (each.matched, each.other), strict=True)
        if share
    ]
    bars = alt.Chart(alt.InlineData(values=rows)).mark_rect(opacity=0.6)
    chart = bars.encode(
        x=alt.X("low:Q", title="cosine of image and text", axis=alt.Axis(grid=False), scale=alt.Scale(zero=False)),
        x2="high:Q",
        y=alt.Y("share:Q", title="share of pairs", axis=alt.Axis(format="~%")),
        y2=alt.datum(0),
        color=series_colours(PAIRS, look.categories(2), None),
        tooltip=["series:N", alt.Tooltip("low:Q", title="from"), alt.Tooltip("high:Q", title="to"), _percent()],
    )
    caption = "Matched pairs, and random pairs that are not; the less they overlap, the better retrieval can be."
    title = "How similar images and texts are"
    return figure("similarities", title, caption, chart.properties(width=look.width, height=HEIGHT), look)


def _percent() -> "alt.Tooltip":
    import altair as alt

    return alt.Tooltip("share:Q", format=".2%")


def _dimensions(measured: Measured, look: Look) -> Figure:
    import altair as alt

    order = sorted(range(len(measured.difference)), key=lambda index: -abs(measured.difference[index]))
    rows = [
        {"place": place, "next": place + 1, "dimension": index, "value": round(measured.difference[index], DIGITS)}
        for place, index in enumerate(order)
    ]
    bars = alt.Chart(alt.InlineData(values=rows)).mark_rect(color=look.categories(1)[0])
    chart = bars.encode(
        x=alt.X("place:Q", title="dimensions, largest difference first", axis=alt.Axis(grid=False, format="~d")),
        x2="next:Q",
        y=alt.Y("value:Q", title="mean image minus mean text"),
        y2=alt.datum(0),
        tooltip=["dimension:Q", alt.Tooltip("value:Q", title="difference", format=".4~f")],
    )
    title = "Which dimensions carry the gap"
    caption = "The difference of the modality means in each dimension; its norm is the distance of means (L2M)."
    return figure("dimensions", title, caption, chart.properties(width=look.width, height=HEIGHT), look)


def _removals(measured: Measured, look: Look) -> Figure:
    import altair as alt

    rows = [
        {"series": name, "removed": each.removed, "value": round(value, DIGITS)}
        for each in measured.removals
        for name, value in zip(GAPS, (each.rmg, each.l2m), strict=True)
    ]
    lines = alt.Chart(alt.InlineData(values=rows)).mark_line(strokeWidth=2)
    chart = lines.encode(
        x=alt.X("removed:Q", title="dimensions removed", axis=alt.Axis(grid=False, format="~d")),
        y=alt.Y("value:Q", title="gap that is left"),
        color=series_colours(GAPS, look.categories(2), None),
        tooltip=["series:N", "removed:Q", alt.Tooltip("value:Q", format=".4~f")],
    )
    title = "The gap without its dimensions"
    caption = "Dimensions are removed from the largest difference on, and rows are normalised again."
    return figure("removals", title, caption, chart.properties(width=look.width, height=HEIGHT), look)


def _axis(name: str, title: str) -> Any:
    import altair as alt

    channel = alt.X if name == "x" else alt.Y
    return channel(f"{name}:Q", title=title, scale=alt.Scale(zero=False), axis=alt.Axis(format="~g"))
