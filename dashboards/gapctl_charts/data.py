"""Frames beside charts: Altair copies and checks every value that passes through it, so rows go round it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

if TYPE_CHECKING:
    import altair as alt

Rows = Sequence[Mapping[str, Any]]


class Drawing(NamedTuple):
    """A chart, the rows that it names, and the channels whose axes zoom in a page."""

    chart: "alt.TopLevelMixin"
    rows: Mapping[str, Rows]
    zooms: Sequence[str] = ()


class Datasets:
    """The frames of one chart, each under the word that says what a row of it shows.

    Whoever downloads the chart's data gets these rows.
    """

    def __init__(self) -> None:
        self._rows: dict[str, Rows] = {}

    def chart(self, frame: pl.DataFrame, shows: str) -> "alt.Chart":
        """A chart of the frame's rows, in their order; what is no number is null."""
        import altair as alt
        import polars.selectors as cs

        self._rows[shows] = frame.with_columns(cs.float().fill_nan(None)).to_dicts()
        return alt.Chart(alt.NamedData(shows))

    def drawing(self, chart: "alt.TopLevelMixin", *zooms: str) -> Drawing:
        """The finished chart with everything that was put here."""
        return Drawing(chart, dict(self._rows), zooms)


def values_chart(rows: Sequence[Mapping[str, Any]]) -> "alt.Chart":
    """A chart of a few constants that are no data: zero lines, bands."""
    import altair as alt

    return alt.Chart(alt.InlineData(values=[dict(row) for row in rows]))
