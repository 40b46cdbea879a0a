"""Quality against gap: where each intervention takes the held-out images, with the interval of the change."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gapctl.report.axes import series_colours, series_shapes
from gapctl.report.closing.rows import families, quality_rows
from gapctl.report.closing.words import in_points, measure_words
from gapctl.report.figure import Figure, figure
from gapctl.report.palette import Look
from gapctl.report.words import capital

if TYPE_CHECKING:
    import altair as alt

    from gapctl.interventions.answer import MeasureAnswer
    from gapctl.interventions.judge import Judgement

HEIGHT: Final = 300
MARKS: Final = (
    "Where each intervention takes the held-out images. Dashed: with nothing done; grey: changes that do not count. "
    "Bars: 95 % interval of the change, for all interventions at once."
)
"""What the marks of every chart mean."""


def closing_figures(
    judgement: "Judgement", keys: Sequence[str], measures: Sequence["MeasureAnswer"], look: Look
) -> list[Figure]:
    """A chart for each of the qualities; its words begin with what closing the gap does to it, where that is known."""
    found = {measure.key: f"Closing the gap: {measure.found}." for measure in measures}
    return [_quality_figure(judgement, key, found.get(key, ""), look) for key in keys]


def _quality_figure(judgement: "Judgement", key: str, found: str, look: Look) -> Figure:
    name = key.partition("/")[2].replace("_", "-")
    chart = _chart(judgement, key, look)
    return figure(f"closing-{name}", capital(measure_words(key)), found, chart, look)


def _chart(judgement: "Judgement", key: str, look: Look) -> "alt.LayerChart":
    import altair as alt

    rows = quality_rows(judgement, key)
    names = families(rows)
    colour = series_colours(names, look.categories(len(names)), None).legend(columns=3)
    shape = series_shapes(names, None).legend(columns=3)
    base = alt.Chart(alt.InlineData(values=rows)).encode(x=_x(), color=colour)
    sweeps = base.transform_filter("datum.label !== ''")
    layers = [
        *_reference(judgement, key, look),
        base.mark_rule(strokeWidth=1.5, opacity=0.7).encode(y=_y("low"), y2="high:Q"),
        sweeps.mark_line(strokeWidth=1.5, opacity=0.8).encode(y=_y(), order="place:Q"),
        base.mark_point(filled=True, size=70, opacity=1).encode(y=_y(), shape=shape, tooltip=_tooltip()),
        sweeps.mark_text(dx=9, dy=-9, fontSize=11).encode(y=_y(), text="label:N"),
    ]
    return alt.LayerChart(layer=layers, width=look.width, height=HEIGHT)


def _reference(judgement: "Judgement", key: str, look: Look) -> list["alt.Chart"]:
    """What the quality is with nothing done, and the band of changes that do not count."""
    import altair as alt

    from gapctl.interventions.verdict import smallest_effect

    before, smallest = in_points(key, judgement.before[key]), in_points(key, smallest_effect(key))
    base = alt.Chart(alt.InlineData(values=[{"low": before - smallest, "high": before + smallest, "value": before}]))
    return [
        base.mark_rect(color=look.colour("negligible"), opacity=0.7).encode(y=_y("low"), y2="high:Q"),
        base.mark_rule(color=look.colour("muted"), strokeDash=[4, 3]).encode(y=_y()),
    ]


def _x() -> "alt.X":
    import altair as alt

    return alt.X("gap:Q", title=measure_words("gap/l2m"), axis=alt.Axis(grid=False, tickCount=6))


def _y(field: str = "value") -> "alt.Y":
    import altair as alt

    return alt.Y(f"{field}:Q", title="points", scale=alt.Scale(zero=False))


def _tooltip() -> list["alt.Tooltip"]:
    import altair as alt

    numbers = {"gap": ("L2M", ".3f"), "value": ("points", ".1f"), "change": ("change", "+.1f")}
    return [
        alt.Tooltip("name:N", title="intervention"),
        *(alt.Tooltip(f"{field}:Q", title=title, format=form) for field, (title, form) in numbers.items()),
        alt.Tooltip("verdict:N", title="verdict"),
    ]
