"""Verdicts under one another, each in its own unit: what a page shows as strips, in one file."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gapctl_charts.data import Drawing
from gapctl_charts.look import Look
from gapctl_charts.verdict_strip import Strip, strip_chart

if TYPE_CHECKING:
    import altair as alt

SPACING = 18


class Headed(NamedTuple):
    """A strip with its heading's lines and those below it."""

    heading: Sequence[str]
    lines: Sequence[str]
    strip: Strip


def forest_chart(rows: Sequence[Headed], look: Look) -> Drawing:
    """A strip for each verdict, with its heading in the verdict's colour."""
    import altair as alt

    strips = [strip_chart(row.strip, look).properties(title=_title(row, look)) for row in rows]
    return Drawing(alt.vconcat(*strips, spacing=SPACING), {})


def _title(row: Headed, look: Look) -> "alt.TitleParams":
    import altair as alt

    colour = look.colour(row.strip.finding)
    return alt.TitleParams(list(row.heading), color=colour, subtitle=list(row.lines), fontSize=13)
