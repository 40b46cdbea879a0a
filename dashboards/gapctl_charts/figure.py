"""A figure: a chart with its name, its words, and its complete Vega-Lite specification."""

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from gapctl_charts.look import Look

if TYPE_CHECKING:
    import altair as alt


LINE_LENGTH = 84
"""Characters of a caption that fit above a chart in a file."""


@dataclass(frozen=True)
class Figure:
    """`name` is a file name without its ending; `title` and `caption` are plain text."""

    name: str
    title: str
    caption: str
    spec: Mapping[str, Any]


def figure(name: str, title: str, caption: str, chart: "alt.TopLevelMixin", look: Look) -> Figure:
    """Completes a chart: the look's configuration instead of altair's theme, a title where no page gives it one."""
    spec = chart.to_dict(validate=False)
    spec |= {"config": look.config(), "description": f"{title}. {caption}"}
    if look.in_page:
        spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    else:
        spec["title"] = {
            "text": title,
            "subtitle": [part for line in caption.split("\n") for part in wrap(line, LINE_LENGTH)],
            "offset": 12,
        }
    return Figure(name, title, caption, spec)
