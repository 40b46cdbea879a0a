"""The decision rule: an interval against the smallest effect that counts, and p after Holm."""

import math

from gapctl.analysis.estimate import Direction
from gapctl.analysis.results import Finding, Interval


def finding(ci: Interval, smallest_effect: float, direction: Direction, p_holm: float, alpha: float) -> Finding:
    """Supported where every effect in the interval counts and p is small, refuted where none counts.

    An effect counts when it lies beyond the smallest effect in the declared direction, so an interval is against a
    hypothesis wherever it lies short of that: in the negligible band, on the other side of zero, or across both.
    """
    if beyond(ci, smallest_effect, direction) and p_holm < alpha:
        return "supported"
    return "refuted" if short_of(ci, smallest_effect, direction) else "inconclusive"


def beyond(ci: Interval, smallest_effect: float, direction: Direction) -> bool:
    """Whether the whole interval lies beyond the smallest effect; for `either`, on one side."""
    if direction == "either":
        return ci.low > smallest_effect or ci.high < -smallest_effect
    return declared(ci, direction).low > smallest_effect


def short_of(ci: Interval, smallest_effect: float, direction: Direction) -> bool:
    """Whether no effect in the interval reaches the smallest effect in the declared direction."""
    if direction == "either":
        return ci.low > -smallest_effect and ci.high < smallest_effect
    return declared(ci, direction).high < smallest_effect


def declared(ci: Interval, direction: Direction) -> Interval:
    """The interval of the effect counted positive in the declared direction."""
    return Interval(-ci.high, -ci.low) if direction == "decreasing" else ci


def margin(value: float, smallest_effect: float, direction: Direction) -> float:
    """How far an estimate lies beyond the smallest effect; negative where it lies short of it."""
    towards = math.fabs(value) if direction == "either" else declared(Interval(value, value), direction).low
    return towards - smallest_effect
