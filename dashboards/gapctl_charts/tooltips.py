"""What hovering shows: the training behind a mark, whatever the chart."""

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    import altair as alt


def replicate_column(trainings: pl.DataFrame) -> str:
    """The column that tells trainings of an arm apart: `model` or `recipe`, or `seed` where there is neither."""
    return next((noun for noun in ("model", "recipe") if noun in trainings.columns), "seed")


def training_tooltip(trainings: pl.DataFrame, *measured: "alt.Tooltip") -> list["alt.Tooltip"]:
    """Treatment, seed or model, and id of a row's training (`label`, `trial`), and between them what was measured."""
    import altair as alt

    first = [alt.Tooltip("label:N", title="training"), alt.Tooltip(f"{replicate_column(trainings)}:O")]
    return [*first, *measured, alt.Tooltip("trial:N", title="trial id")]


def value_tooltip(title: str, field: str = "value", form: str = ".4~g") -> "alt.Tooltip":
    """A number under its name."""
    import altair as alt

    return alt.Tooltip(f"{field}:Q", title=title, format=form)
