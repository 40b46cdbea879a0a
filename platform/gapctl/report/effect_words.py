"""A verdict's effect in words: what it is of, which levels it compares, over which trainings, in which unit."""

import math
from collections.abc import Sequence
from typing import Final

from gapctl.analysis.results import Verdict
from gapctl.report.words import aligned, as_declared, confidence, factor_words, metric_name, number, unit
from gapctl.spec.sweep import Level
from gapctl.spec.vocabulary import METRICS
from gapctl_charts.factor import plain

_STEP_WORDS: Final = {"data.captions.attributes": "attribute"}
_DIFFERENCE_UNITS: Final = {"share": "", "correlation": "", "percent": "percentage points"}
_KINDS: Final = {
    "trend": "slope of",
    "correlation": "correlation of",
    "mediation": "mediated difference in",
    "level": "mean of",
}


def effect_unit(verdict: Verdict) -> str:
    """What an estimate counts: a trend's slope is per unit of its factor; two shares, or two correlations, differ by a
    plain number."""
    if verdict.test == "correlation":
        return "Kendall's τ"
    step = _STEP_WORDS.get(verdict.factor, f"unit of {factor_words(verdict.factor)}")
    per = f"per {step}" if verdict.test == "trend" else ""
    counted = unit(verdict.response)
    return " ".join(part for part in (_DIFFERENCE_UNITS.get(counted, counted), per) if part)


def effect_of(verdict: Verdict) -> str:
    """What an effect is of, in words and without its unit: the levels compared, and the trainings it is limited to."""
    kind = _KINDS.get(verdict.test, "difference in")
    compared = f"{kind} {metric_name(verdict.response)}{_against(verdict)}"
    return ", ".join(part for part in (compared, where_words(verdict)) if part)


def effect_name(verdict: Verdict) -> str:
    """The same with its unit, as an axis title."""
    return f"{effect_of(verdict)}, {effect_unit(verdict)}".removesuffix(", ")


def where_words(verdict: Verdict) -> str:
    """Which trainings alone a verdict is of: `where temperature is learned`; nothing where it is of all."""
    held = [f"{factor_words(path)} is {plain(level)}" for path, level in verdict.where.items()]
    return f"where {' and '.join(held)}" if held else ""


def levels_words(levels: Sequence[Level]) -> str:
    """Two levels in the order in which the effect takes them: `5 against 0` is what 5 gives less what 0 gives."""
    return " against ".join(map(plain, levels))


def interval_words(verdict: Verdict, alpha: float) -> str:
    """An estimate with its interval, or why it has none."""
    if not (math.isfinite(verdict.ci.low) and math.isfinite(verdict.ci.high)):
        return f"{number(verdict.estimate)}; too few seeds for an interval"
    estimate, low, high = aligned([verdict.estimate, *verdict.ci])
    return f"{estimate}; {confidence(alpha)} interval {low} to {high}"


def _against(verdict: Verdict) -> str:
    """What the response is held against: a value, another metric, two levels of the treatment and of its mediator."""
    if verdict.test == "level":
        return f", less {as_declared(verdict.value)}" if verdict.value else ""
    if verdict.test == "correlation":
        return f" with {metric_name(verdict.factor)}{_given(verdict)}"
    if not verdict.between:
        return ""
    treatment = f" by {factor_words(verdict.factor)} ({levels_words(verdict.between[::-1])})"
    if verdict.mediator is None:
        return treatment
    return f"{treatment}, through {factor_words(verdict.mediator)} ({levels_words(verdict.mediator_levels)})"


def _given(verdict: Verdict) -> str:
    """What a partial correlation accounts for."""
    names = [metric_name(name) if name in METRICS else factor_words(name) for name in verdict.given]
    return f" given {' and '.join(names)}" if names else ""
