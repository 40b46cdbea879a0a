"""What hovering shows: the training behind a mark, whatever the chart."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import altair as alt


def training_tooltip(*measured: "alt.Tooltip") -> list["alt.Tooltip"]:
    """Treatment, seed and id of a row's training (`label`, `seed`, `trial`), and between them what was measured."""
    import altair as alt

    first = [alt.Tooltip("label:N", title="training"), alt.Tooltip("seed:O")]
    return [*first, *measured, alt.Tooltip("trial:N", title="trial id")]


def value_tooltip(title: str, field: str = "value", form: str = ".4~g") -> "alt.Tooltip":
    """A number under its name."""
    import altair as alt

    return alt.Tooltip(f"{field}:Q", title=title, format=form)
