"""A figure: a chart with its name, its words, and its complete Vega-Lite specification."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from gapctl_charts.data import Drawing
from gapctl_charts.look import Look
from gapctl_charts.zoom import zoom_of

LINE_LENGTH = 72
"""Characters of a caption that fit above a chart in a file, in a wider font than ours where the reader lacks that."""
BOLD_LENGTH = 60
"""The same of a heading."""


@dataclass(frozen=True)
class Figure:
    """`name` is a file name without its ending; `title` and `caption` are plain text."""

    name: str
    title: str
    caption: str
    spec: Mapping[str, Any]


def figure(name: str, title: str, caption: str, drawing: Drawing, look: Look) -> Figure:
    """Completes a chart: the look's configuration instead of altair's theme, a title where no page gives it one."""
    spec = drawing.chart.to_dict(validate=False)
    spec |= {"config": look.config(), "description": f"{title}. {caption}"}
    spec["datasets"] = spec.get("datasets", {}) | dict(drawing.rows)
    if zoom := zoom_of(drawing.zooms, look):
        spec["layer"] = [_clipped(layer) for layer in spec["layer"]]
        spec["layer"][-1]["params"] = zoom
    if look.in_page:
        spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    else:
        spec["title"] = {
            "text": title,
            "subtitle": [part for line in caption.split("\n") for part in wrap(line, LINE_LENGTH)],
            "offset": 12,
        }
    return Figure(name, title, caption, spec)


def _clipped(layer: Mapping[str, Any]) -> dict[str, Any]:
    """What zooming takes beyond the axes is not drawn; in files, which cannot zoom, clips would only be numbered."""
    return {**layer, "mark": {**layer["mark"], "clip": True}}


@contextmanager
def trusted() -> Iterator[None]:
    """Lets Altair take our charts for valid, which tests make sure of; checking takes as long as all the rest."""
    from altair.utils.schemapi import debug_mode

    with debug_mode(False):
        yield
