"""Frames inside charts, so that a page or a file needs nothing else."""

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    import altair as alt


def chart_of(frame: pl.DataFrame, shows: str) -> "alt.Chart":
    """A chart of a frame's rows, in their order; what is no number is null.

    `shows` says in a word what a row is. Rows that have it are the chart's data to whoever downloads them.
    """
    import polars.selectors as cs

    return values_chart(frame.with_columns(cs.float().fill_nan(None), shows=pl.lit(shows)).to_dicts())


def values_chart(rows: list[dict[str, Any]]) -> "alt.Chart":
    """A chart of a few constants: zero lines, bands."""
    import altair as alt

    return alt.Chart(alt.InlineData(values=rows))
