"""Verdicts as figures: a strip each for a page, all of them in one file."""

from textwrap import wrap
from typing import Final

from gapctl.analysis.results import Analysis, Verdict
from gapctl.report.effect_words import effect_name, interval_words
from gapctl.report.rows import finite
from gapctl.report.words import capital, confidence, in_brackets
from gapctl_charts.data import Drawing
from gapctl_charts.figure import BOLD_LENGTH, LINE_LENGTH, Figure, figure
from gapctl_charts.forest import Headed, forest_chart
from gapctl_charts.look import Look
from gapctl_charts.verdict_strip import Strip, strip_chart

STRIP: Final = "strip-"
"""What the name of a strip begins with, before its hypothesis' id."""


def strip_figure(verdict: Verdict, alpha: float, look: Look) -> Figure | None:
    """One hypothesis as a strip; None where nothing could be estimated."""
    if finite(verdict.estimate) is None:
        return None
    chart = Drawing(strip_chart(_strip(verdict, look), look), {})
    return figure(f"{STRIP}{verdict.id}", effect_name(verdict), interval_words(verdict, alpha), chart, look)


def forest_figure(analysis: Analysis, look: Look) -> Figure | None:
    """All strips under one another; None where nothing could be estimated."""
    estimated = [verdict for verdict in analysis.verdicts if finite(verdict.estimate) is not None]
    if not estimated:
        return None
    level = confidence(analysis.alpha)
    caption = f"Estimate and {level} interval of each hypothesis in its own unit; grey: effects too small to count."
    chart = forest_chart([_headed(verdict, analysis.alpha, look) for verdict in estimated], look)
    return figure("verdicts", "Hypotheses and what was measured", caption, chart, look)


def _headed(verdict: Verdict, alpha: float, look: Look) -> Headed:
    heading = f"{verdict.verdict.upper()}{in_brackets(verdict.marks)}: {verdict.id}"
    lines = [line for text in (verdict.claim, interval_words(verdict, alpha)) for line in wrap(text, LINE_LENGTH)]
    return Headed(wrap(heading, BOLD_LENGTH), lines, _strip(verdict, look))


def _strip(verdict: Verdict, look: Look) -> Strip:
    return Strip(
        finding=verdict.verdict,
        effect=effect_name(verdict),
        axis=None if look.in_page else wrap(capital(effect_name(verdict)), LINE_LENGTH),
        estimate=verdict.estimate,
        low=finite(verdict.ci.low),
        high=finite(verdict.ci.high),
        smallest_effect=verdict.smallest_effect,
    )
