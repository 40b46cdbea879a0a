"""Quality against gap: a figure for each quality, with what closing the gap does to it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import polars as pl

from gapctl.report.closing.rows import families, quality_rows
from gapctl.report.closing.words import in_points, measure_words
from gapctl.report.words import capital
from gapctl_charts.figure import Figure, figure
from gapctl_charts.look import Look
from gapctl_charts.quality_against_gap import Untouched, intervention_chart

if TYPE_CHECKING:
    from gapctl.interventions.answer import MeasureAnswer
    from gapctl.interventions.judge import Judgement

MARKS: Final = (
    "Where each intervention takes the held-out images. Dashed: with nothing done; grey: changes that do not count. "
    "Bars: 95 % interval of the change, for all interventions at once."
)
"""What the marks of every chart mean."""


def closing_figures(
    judgement: "Judgement", keys: Sequence[str], measures: Sequence["MeasureAnswer"], look: Look
) -> list[Figure]:
    """A figure for each of the qualities; its words begin with what closing the gap does to it, where that is known."""
    found = {measure.key: f"Closing the gap: {measure.found}." for measure in measures}
    return [_quality_figure(judgement, key, found.get(key, ""), look) for key in keys]


def _quality_figure(judgement: "Judgement", key: str, found: str, look: Look) -> Figure:
    from gapctl.interventions.verdict import smallest_effect

    name = key.partition("/")[2].replace("_", "-")
    rows = quality_rows(judgement, key)
    untouched = Untouched(in_points(key, judgement.before[key]), in_points(key, smallest_effect(key)))
    chart = intervention_chart(pl.DataFrame(rows), families(rows), measure_words("gap/l2m"), untouched, look)
    return figure(f"closing-{name}", capital(measure_words(key)), found, chart, look)
