"""Zooming that leaves a page's own scrolling alone: dragging moves, Ctrl and the wheel zoom, a double click resets."""

from typing import TYPE_CHECKING, Any

from gapctl_charts.look import Look

if TYPE_CHECKING:
    import altair as alt

NAME = "zoom"
_DRAG = "[mousedown, window:mouseup] > window:mousemove!"
_WHEEL = "wheel![event.ctrlKey || event.metaKey]"


def zoomable(chart: "alt.LayerChart", look: Look, *channels: str) -> "alt.LayerChart":
    """The chart with zoom on its number axes (`x`, `y`) where a page shows it; on paper there is nothing to zoom."""
    import altair as alt

    if not look.in_page or not channels:
        return chart
    encodings: Any = list(channels)
    zoom = alt.selection_interval(NAME, bind="scales", encodings=encodings, translate=_DRAG, zoom=_WHEEL)
    zoomed: alt.LayerChart = chart.add_params(zoom)
    return zoomed
