"""What the seeds did, as the first clause of a verdict's reason."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gapctl.analysis.estimate import Estimate
from gapctl.analysis.measured import Measured
from gapctl.spec.hypotheses import AtLevel, Correlation, Equivalence, Hypothesis, Mediation, Trend

VERBS = {1: ("rises", "rise"), -1: ("falls", "fall"), 0: ("does not change", "do not change")}


def seeds_did(measured: Measured) -> list[str]:
    """The seeds' own effects in words; for a mediation also the treatment's effect with the mediator free and fixed."""
    hypothesis, found, name = measured.hypothesis, measured.estimate, replicate(measured)
    if isinstance(hypothesis, Correlation):
        return [_ran("tau", found, name)]
    if isinstance(hypothesis, Equivalence):
        return [_ran("the difference", found, name)]
    if isinstance(hypothesis, AtLevel):
        return [_stood(hypothesis, found, name)]
    if isinstance(hypothesis, Mediation) and measured.mediated:
        return [_in_both_arms(measured, hypothesis), _ran("the difference between these", found, name)]
    return [_moved(hypothesis, found, name)]


class Name(NamedTuple):
    """What a replicate is called."""

    one: str
    many: str


def replicate(measured: Measured) -> Name:
    """A seed, or a pair of seeds where two are compared."""
    return Name("seed", "seeds") if measured.responses.each == 1 else Name("pair of seeds", "pairs of seeds")


def subject(count: int, name: Name) -> str:
    """`All 3 seeds`, in few words where there are one or two."""
    return {1: f"The only complete {name.one}", 2: f"Both {name.many}"}.get(count, f"All {count} {name.many}")


def _moved(hypothesis: Hypothesis, found: Estimate, name: Name) -> str:
    effects = found.effects_S.tolist()
    unit = f" per unit of {short(hypothesis.factor)}" if isinstance(hypothesis, Trend) else ""
    signs = [int(np.sign(effect)) for effect in effects]
    if len(set(signs)) == 1:
        return f"{subject(len(effects), name)} {VERBS[signs[0]][len(effects) > 1]}{_amount(found)}{unit}"
    wanted = -1 if getattr(hypothesis, "direction", "") == "decreasing" else 1
    count = signs.count(wanted)
    low, high = numbers([min(effects), max(effects)])
    verb = VERBS[wanted][count != 1]
    return f"{count or 'None'} of {len(effects)} {name.many} {verb}, the effects running from {low} to {high}{unit}"


def _stood(hypothesis: AtLevel, found: Estimate, name: Name) -> str:
    """On which side of the value the seeds lie, and how far from it."""
    effects, value = found.effects_S.tolist(), number(hypothesis.value)
    verb = "lies" if len(effects) == 1 else "lie"
    signs = [int(np.sign(effect)) for effect in effects]
    if len(set(signs)) == 1:
        where = {1: f"above {value},", -1: f"below {value},", 0: f"at {value} itself"}[signs[0]]
        return f"{subject(len(effects), name)} {verb} {where}{_amount(found)}"
    side, wanted = ("below", -1) if hypothesis.direction == "decreasing" else ("above", 1)
    count = signs.count(wanted)
    low, high = numbers([min(effects), max(effects)])
    lying = f"{count or 'None'} of {len(effects)} {name.many} {'lies' if count == 1 else 'lie'} {side} {value}"
    return f"{lying}, the distances running from {low} to {high}"


def _amount(found: Estimate) -> str:
    sizes = np.sort(np.abs(found.effects_S))
    low, high = numbers([sizes[0], sizes[-1]])
    if sizes[-1] == 0:
        return ""
    if found.agree:
        return f" by exactly {low}"
    return f" by {low}" if low == high else f" by {low} to {high}"


def _ran(what: str, found: Estimate, name: Name) -> str:
    effects = found.effects_S.tolist()
    low, high = numbers([min(effects), max(effects)])
    if len(effects) == 1:
        return f"in the only complete {name.one} {what} is {low}"
    where = f"in both {name.many}" if len(effects) == 2 else f"in all {len(effects)} {name.many}"
    if found.agree:
        return f"{where} {what} is exactly {low}"
    if low == high:
        return f"{where} {what} is {low}"
    return f"over {len(effects)} {name.many} {what} runs from {low} to {high}"


def _in_both_arms(measured: Measured, hypothesis: Mediation) -> str:
    assert measured.mediated is not None
    mediator, treatment = short(hypothesis.mediator), short(hypothesis.factor)
    free, fixed = numbers([measured.mediated.free.value, measured.mediated.fixed.value])
    at_free, at_fixed = f"{mediator}={hypothesis.free}", f"{mediator}={hypothesis.fixed}"
    return f"the effect of {treatment} is {free} with {at_free} and {fixed} with {at_fixed}"


def short(path: str) -> str:
    """The last part of a dotted path."""
    return path.rsplit(".", 1)[-1]


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}"


def numbers(values: Sequence[float]) -> list[str]:
    """Numbers to compare: as many decimals for each as the largest needs for three significant digits."""
    largest = max(abs(value) for value in values)
    decimals = max(0, 2 - math.floor(math.log10(largest))) if largest else 0
    return [f"{value:.{decimals}f}" for value in values]
