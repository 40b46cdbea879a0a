"""A dose-response chart: a metric against the treatment, with every seed, means, intervals and what was claimed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from gapctl_charts.axes import level_colours, series_colours, series_shapes, treatment_axis
from gapctl_charts.data import Datasets, Drawing, values_chart
from gapctl_charts.factor import Factor
from gapctl_charts.look import Look
from gapctl_charts.tooltips import replicate_column, training_tooltip, value_tooltip

if TYPE_CHECKING:
    import altair as alt

HEIGHT = 260
SEEDS_ASIDE = 10
"""Pixels to the right of their level, so that seeds do not hide the mean and its interval."""
HEAVY, THIN = 2.5, 1.5
CLAIM_WIDTH = 22
"""Pixels of a claim about a category, which has no wedge."""


@dataclass(frozen=True)
class Response:
    """One chart's frames and what they are called; `has_zero` where 0 says that there is no effect.

    Each frame has `place` and `level` (the treatment) and `series` (a metric's name, or the other factor's level).
    `seeds`: `value`, `trial`, `label`, `seed` or `model`. `means`: `value`, `low`, `high`, `seeds`. `arms`: `value`,
    `trainings`. `claims`: `low` and `high`, between which a change from the first level is too small to count, and
    `hypothesis`. `claimed`: `value`, where the claimed effect begins, and `edge`, one for each such line. `chance`:
    `value`.
    """

    axis: str
    names: tuple[str, ...]
    has_zero: bool
    factor: Factor
    other: Factor | None
    seeds: pl.DataFrame
    means: pl.DataFrame
    arms: pl.DataFrame
    claims: pl.DataFrame = field(default_factory=pl.DataFrame)
    claimed: pl.DataFrame = field(default_factory=pl.DataFrame)
    chance: pl.DataFrame = field(default_factory=pl.DataFrame)

    @property
    def lonely(self) -> bool:
        """Whether one seed or model is all there is, so that a mean is that one."""
        return self.seeds[replicate_column(self.seeds)].n_unique() == 1


def response_chart(response: Response, look: Look) -> Drawing:
    """The claim and intervals below, then thin lines per level of the other factor, seeds, and the mean on top."""
    import altair as alt

    data = Datasets()
    colour, shape = _encodings(response, look)
    # With a second factor colours tell its levels apart, and the mean over all of them is drawn in ink.
    heavy = alt.value(look.colour("ink")) if response.other else colour
    layers = [
        *_claims(response, data, look),
        *_zero(response, look),
        *_chance(response, data, colour),
        *_intervals(response, data, heavy),
        *_arms(response, data, colour),
        _seeds(response, data, colour, shape),
        *_means(response, data, heavy),
    ]
    chart = alt.LayerChart(layer=layers, width=look.width, height=HEIGHT)
    return data.drawing(chart, *(("x", "y") if response.factor.measured else ("y",)))


def _encodings(response: Response, look: Look) -> tuple["alt.Color", "alt.Shape"]:
    if (other := response.other) is not None:
        return level_colours(other, look), series_shapes(other.levels, other.words)
    names = response.names
    colour, shape = series_colours(names, look.categories(len(names)), None), series_shapes(names, None)
    return (colour, shape) if len(names) > 1 else (colour.legend(None), shape.legend(None))


def _claims(response: Response, data: Datasets, look: Look) -> list["alt.Chart"]:
    """Grey where an effect would not count, dashed where the claimed one begins."""
    import altair as alt

    if response.claims.is_empty():
        return []
    # Columns of their own names: an area would otherwise stack with the intervals.
    band = data.chart(response.claims.rename({"low": "small_low", "high": "small_high"}), "too small to count")
    edge = data.chart(response.claimed.rename({"value": "claimed"}), "claimed effect begins")
    grey, muted = look.colour("negligible"), look.colour("muted")
    if response.factor.ordered:
        small, begins = band.mark_area(color=grey), edge.mark_line(color=muted, strokeDash=[5, 3])
    else:
        small = band.mark_rule(color=grey, strokeWidth=CLAIM_WIDTH)
        begins = edge.mark_tick(color=muted, orient="horizontal", size=CLAIM_WIDTH)
    x = treatment_axis(response.factor)
    return [
        small.encode(
            x=x,
            y=_y(response, "small_low"),
            y2=alt.Y2("small_high:Q"),
            detail=alt.Detail("series:N"),
            tooltip=_claim_tooltip(),
        ),
        begins.encode(x=x, y=_y(response, "claimed"), detail=alt.Detail("edge:N")),
    ]


def _claim_tooltip() -> list["alt.Tooltip"]:
    import altair as alt

    return [alt.Tooltip("hypothesis:N"), alt.Tooltip("says:N", title="too small to count")]


def _zero(response: Response, look: Look) -> list["alt.Chart"]:
    if not response.has_zero:
        return []
    rule = values_chart([{"value": 0}]).mark_rule(color=look.colour("muted"), strokeDash=[4, 3])
    return [rule.encode(y=_y(response))]


def _chance(response: Response, data: Datasets, colour: Any) -> list["alt.Chart"]:
    """Thin lines at what guessing would give."""
    import altair as alt

    if response.chance.is_empty():
        return []
    rule = data.chart(response.chance, "guessing").mark_rule(strokeDash=[1, 3], strokeWidth=1.2, opacity=0.9)
    return [
        rule.encode(y=_y(response), color=colour, tooltip=[alt.Tooltip("series:N"), value_tooltip("guessing gives")])
    ]


def _intervals(response: Response, data: Datasets, colour: Any) -> list["alt.Chart"]:
    """A bar at each level, and a band between those of numbers."""
    import altair as alt

    means = response.means
    if means.is_empty() or not (means["low"].is_not_null() & means["high"].is_not_null()).any():
        return []
    base = (
        data.chart(means, "mean")
        .transform_filter("isValid(datum.low) && isValid(datum.high)")
        .encode(x=treatment_axis(response.factor), y=_y(response, "low"), y2=alt.Y2("high:Q"), color=colour)
    )
    bars = base.mark_rule(strokeWidth=1.5, opacity=0.7)
    return [base.mark_area(opacity=0.16, line=False), bars] if response.factor.ordered else [bars]


def _arms(response: Response, data: Datasets, colour: Any) -> list["alt.Chart"]:
    """The means of each combination with the other factor's levels."""
    if response.arms.is_empty():
        return []
    base = data.chart(response.arms, "mean of an arm").encode(color=colour)
    return _lines(response, base, THIN, () if response.lonely else ("trainings",))


def _means(response: Response, data: Datasets, colour: Any) -> list["alt.Chart"]:
    if response.means.is_empty():
        return []
    base = data.chart(response.means, "mean").encode(color=colour)
    ticks = not response.lonely or response.other is not None
    return _lines(response, base, HEAVY, ("low", "high", "seeds") if ticks else ())


def _lines(response: Response, base: "alt.Chart", width: float, told: Sequence[str]) -> list["alt.Chart"]:
    """A line between levels that are numbers, and a tick at each that tells of itself, if there is anything to tell."""
    placed = base.encode(x=treatment_axis(response.factor), y=_y(response))
    lines = [placed.mark_line(strokeWidth=width)] if response.factor.ordered else []
    if not told:
        return lines
    counted = f"{replicate_column(response.seeds)}s"
    more = [value_tooltip(counted if name == "seeds" else name, name) for name in told]
    ticks = placed.mark_tick(thickness=width, size=16, orient="horizontal", opacity=1)
    return [*lines, ticks.encode(tooltip=[*_value_tooltip(response, "mean"), *more])]


def _seeds(response: Response, data: Datasets, colour: "alt.Color", shape: "alt.Shape") -> "alt.Chart":
    tooltip = training_tooltip(response.seeds, *_value_tooltip(response, response.axis))
    aside = 0 if response.lonely else SEEDS_ASIDE
    base = data.chart(response.seeds, "training")
    points: alt.Chart = base.mark_point(size=44, filled=False, strokeWidth=1.6, opacity=0.85, xOffset=aside)
    return points.encode(x=treatment_axis(response.factor), y=_y(response), color=colour, shape=shape, tooltip=tooltip)


def _y(response: Response, field: str = "value") -> "alt.Y":
    import altair as alt

    return alt.Y(f"{field}:Q", title=response.axis, scale=alt.Scale(zero=response.has_zero))


def _value_tooltip(response: Response, title: str) -> list["alt.Tooltip"]:
    import altair as alt

    told_apart = response.other is not None or len(response.names) > 1
    of = response.other.words if response.other else "of"
    return [
        alt.Tooltip("level:N", title=response.factor.words),
        *([alt.Tooltip("series:N", title=of)] if told_apart else []),
        value_tooltip(title),
    ]
