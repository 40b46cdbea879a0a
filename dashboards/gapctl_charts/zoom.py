"""Zooming that leaves a page's own scrolling alone: dragging moves, Ctrl and the wheel zoom, a double click resets."""

from collections.abc import Sequence
from typing import Any, Final

from gapctl_charts.look import Look

NAME: Final = "zoom"
# Mouse events, since a finger that drags means to scroll the page.
_DRAG: Final = "[mousedown, window:mouseup] > window:mousemove!"
_WHEEL: Final = "wheel![event.ctrlKey || event.metaKey]"


def zoom_of(channels: Sequence[str], look: Look) -> list[dict[str, Any]]:
    """The parameter that zooms a chart's number axes (`x`, `y`) in a page; on paper there is nothing to zoom."""
    if not look.in_page or not channels:
        return []
    interval = {"type": "interval", "encodings": list(channels), "translate": _DRAG, "zoom": _WHEEL}
    return [{"name": NAME, "select": interval, "bind": "scales"}]
