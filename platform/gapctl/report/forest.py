"""Verdicts as estimates with intervals, each in its own unit, against the band of what is too small to count."""

from collections.abc import Mapping
from textwrap import wrap
from typing import TYPE_CHECKING, Final

from gapctl.analysis.results import Analysis, Verdict
from gapctl.report.figure import LINE_LENGTH, Figure, figure
from gapctl.report.palette import Look
from gapctl.report.rows import finite
from gapctl.report.words import capital, confidence, effect_name, interval_words

if TYPE_CHECKING:
    import altair as alt

STRIP_HEIGHT = 30
_MARK: Final = {"supported": "circle", "refuted": "cross", "inconclusive": "diamond"}


def strip_figure(verdict: Verdict, alpha: float, look: Look) -> Figure | None:
    """One hypothesis as a strip; None where nothing could be estimated."""
    if finite(verdict.estimate) is None:
        return None
    chart = _strip(verdict, look)
    return figure(f"strip-{verdict.id}", effect_name(verdict), interval_words(verdict, alpha), chart, look)


def forest_figure(analysis: Analysis, look: Look) -> Figure | None:
    """All strips under one another; None where nothing could be estimated."""
    import altair as alt

    strips = [
        _titled(verdict, analysis.alpha, look) for verdict in analysis.verdicts if finite(verdict.estimate) is not None
    ]
    if not strips:
        return None
    level = confidence(analysis.alpha)
    caption = f"Estimate and {level} interval of each hypothesis in its own unit; grey: effects too small to count."
    return figure("verdicts", "Hypotheses and what was measured", caption, alt.vconcat(*strips, spacing=18), look)


def _titled(verdict: Verdict, alpha: float, look: Look) -> "alt.LayerChart":
    import altair as alt

    title = alt.TitleParams(
        f"{verdict.verdict.upper()}{' (exploratory)' if verdict.exploratory else ''}: {verdict.id}",
        color=look.colour(verdict.verdict),
        subtitle=[*wrap(verdict.claim, LINE_LENGTH), interval_words(verdict, alpha)],
        fontSize=13,
    )
    return _strip(verdict, look).properties(title=title)


def _strip(verdict: Verdict, look: Look) -> "alt.LayerChart":
    import altair as alt

    row = _row(verdict)
    base = alt.Chart(alt.InlineData(values=[row]))
    colour = look.colour(verdict.verdict)
    point = base.mark_point(shape=_MARK[verdict.verdict], size=200, filled=True, opacity=1, color=colour)
    title = None if look.in_page else capital(effect_name(verdict))
    parts = [
        base.mark_rect(color=look.colour("negligible")).encode(x=_x("band_low", title, row), x2="band_high:Q"),
        base.mark_rule(color=look.colour("muted"), strokeDash=[4, 3]).encode(x=alt.XDatum(0)),
        point.encode(stroke=alt.value(look.colour("surface")), x=_x("estimate", title, row), tooltip=_tooltip(verdict)),
    ]
    if row["low"] is not None and row["high"] is not None:
        bar = base.mark_rule(strokeWidth=3, color=colour)
        parts.insert(2, bar.encode(x=_x("low", title, row), x2="high:Q", tooltip=_tooltip(verdict)))
    return alt.LayerChart(layer=parts, width=look.width, height=STRIP_HEIGHT)


def _x(field: str, title: str | None, row: Mapping[str, float | None]) -> "alt.X":
    import altair as alt

    scale = alt.Scale(domain=_domain(row), nice=False, zero=False)
    axis = alt.Axis(tickCount=4, grid=False, format="~g")
    return alt.X(f"{field}:Q", title=title, scale=scale, axis=axis)


def _tooltip(verdict: Verdict) -> list["alt.Tooltip"]:
    import altair as alt

    fields = {"estimate": effect_name(verdict), "low": "low", "high": "high", "band_high": "smallest effect"}
    return [alt.Tooltip(f"{field}:Q", title=title, format=".4~g") for field, title in fields.items()]


def _row(verdict: Verdict) -> dict[str, float | None]:
    return {
        "estimate": verdict.estimate,
        "low": finite(verdict.ci.low),
        "high": finite(verdict.ci.high),
        "band_low": -verdict.smallest_effect,
        "band_high": verdict.smallest_effect,
    }


def _domain(row: Mapping[str, float | None]) -> list[float]:
    shown = [0.0, *(value for value in row.values() if value is not None)]
    room = 0.08 * (max(shown) - min(shown)) or 1.0
    return [min(shown) - room, max(shown) + room]
