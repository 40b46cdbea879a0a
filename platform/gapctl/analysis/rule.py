"""The decision rule: an interval against the smallest effect that counts, and p after Holm."""

import math

from gapctl.analysis.effect_test import Direction, significant
from gapctl.analysis.results import Finding, Interval, RefutedAs


def finding(
    ci: Interval, smallest_effect: float, direction: Direction, p_holm: float, alpha: float, rounding: float = 0.0
) -> Finding:
    """Supported where every effect in the interval is as claimed and p is small, refuted where none is.

    An effect counts when it lies beyond the smallest effect in the declared direction, so an interval is against a
    hypothesis wherever it lies short of that: in the negligible band, on the other side of zero, or across both.
    `neither` claims the band itself, so that `either` is supported where it is refuted, and the other way round.
    An interval that ends on the smallest effect, or within `rounding` of it, is neither beyond it nor short of it.
    """
    if beyond(ci, smallest_effect, direction, rounding) and significant(p_holm, alpha):
        return "supported"
    return "refuted" if short_of(ci, smallest_effect, direction, rounding) else "inconclusive"


def beyond(ci: Interval, smallest_effect: float, direction: Direction, rounding: float = 0.0) -> bool:
    """Whether the whole interval lies beyond the smallest effect: on one side for `either`, inside for `neither`."""
    if direction == "neither":
        return short_of(ci, smallest_effect, "either", rounding)
    edge = smallest_effect + rounding
    if direction == "either":
        return ci.low > edge or ci.high < -edge
    return declared(ci, direction).low > edge


def short_of(ci: Interval, smallest_effect: float, direction: Direction, rounding: float = 0.0) -> bool:
    """Whether no effect in the interval is as claimed."""
    if direction == "neither":
        return beyond(ci, smallest_effect, "either", rounding)
    edge = smallest_effect - rounding
    if direction == "either":
        return ci.low > -edge and ci.high < edge
    return declared(ci, direction).high < edge


def refuted_as(ci: Interval, smallest_effect: float, direction: Direction, rounding: float = 0.0) -> RefutedAs:
    """Where the interval of a refuted verdict lies; only `negligible` says that there is no effect that counts."""
    if direction == "neither":
        return "different"
    if short_of(ci, smallest_effect, "either", rounding):
        return "negligible"
    return "opposite" if declared(ci, direction).high < 0 else "short"


def declared(ci: Interval, direction: Direction) -> Interval:
    """The interval of the effect counted positive in the declared direction."""
    return Interval(-ci.high, -ci.low) if direction == "decreasing" else ci


def margin(value: float, smallest_effect: float, direction: Direction) -> float:
    """How far an estimate lies beyond the smallest effect, to where it is claimed; negative where short of it."""
    if direction == "neither":
        return smallest_effect - math.fabs(value)
    towards = math.fabs(value) if direction == "either" else declared(Interval(value, value), direction).low
    return towards - smallest_effect
