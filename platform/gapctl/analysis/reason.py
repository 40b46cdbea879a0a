"""A verdict's reason in one sentence: what the seeds did, what that means, and what was missing."""

import math
from collections.abc import Sequence

import numpy as np

from gapctl.analysis.effect_test import agree
from gapctl.analysis.estimate import Estimate
from gapctl.analysis.holm import Corrected
from gapctl.analysis.paired import Paired
from gapctl.analysis.results import Finding, Interval
from gapctl.analysis.rule import beyond, declared
from gapctl.spec.sweep import Contrast, Hypothesis

VERBS = {1: ("rises", "rise"), -1: ("falls", "fall"), 0: ("does not change", "do not change")}


def reason(
    hypothesis: Hypothesis, verdict: Finding, responses: Paired, found: Estimate, corrected: Corrected, alpha: float
) -> str:
    """One sentence for a researcher who sees the numbers beside it."""
    clauses = _left_out(hypothesis, responses)
    if len(found.effects_S):
        meaning = _meaning(hypothesis, verdict, found, corrected, alpha)
        clauses = [_seeds(hypothesis, found), meaning, *_p_test(hypothesis, found), *clauses]
    else:
        clauses = ["No seed can be judged yet", *clauses]
    return "; ".join(clauses) + "."


def _seeds(hypothesis: Hypothesis, found: Estimate) -> str:
    effects = [float(effect) for effect in found.effects_S]
    unit = "" if isinstance(hypothesis, Contrast) else f" per unit of {hypothesis.factor.rsplit('.', 1)[-1]}"
    signs = [int(np.sign(effect)) for effect in effects]
    if len(set(signs)) == 1:
        return f"{_subject(len(effects))} {VERBS[signs[0]][len(effects) > 1]}{_amount(effects)}{unit}"
    wanted = -1 if hypothesis.direction == "decreasing" else 1
    count = signs.count(wanted)
    low, high = numbers([min(effects), max(effects)])
    verb = VERBS[wanted][count != 1]
    return f"{count or 'None'} of {len(effects)} seeds {verb}, the effects running from {low} to {high}{unit}"


def _subject(seeds: int) -> str:
    return {1: "The only complete seed", 2: "Both seeds"}.get(seeds, f"All {seeds} seeds")


def _amount(effects: Sequence[float]) -> str:
    sizes = sorted(abs(effect) for effect in effects)
    low, high = numbers([sizes[0], sizes[-1]])
    if sizes[-1] == 0:
        return ""
    if len(sizes) > 1 and agree(np.asarray(effects)):
        return f" by exactly {low}"
    return f" by {low}" if low == high else f" by {low} to {high}"


def _meaning(hypothesis: Hypothesis, verdict: Finding, found: Estimate, corrected: Corrected, alpha: float) -> str:
    if len(found.effects_S) < 2:
        return "an interval needs at least two seeds"
    smallest = f"the smallest effect of {number(hypothesis.smallest_effect)}"
    if verdict == "supported":
        return f"the interval lies beyond {smallest}"
    if verdict == "refuted":
        return _against(declared(found.ci, hypothesis.direction), hypothesis, smallest)
    if beyond(found.ci, hypothesis.smallest_effect, hypothesis.direction):
        return (
            f"the interval lies beyond {smallest}, but p after Holm is {number(corrected.p)}, not below {number(alpha)}"
        )
    if agree(found.effects_S):
        return f"that is {smallest} itself, neither beyond nor short of it"
    return f"the interval reaches from effects short of {smallest} to effects beyond it"


def _against(ci: Interval, hypothesis: Hypothesis, smallest: str) -> str:
    if ci.low > -hypothesis.smallest_effect:
        return f"every effect in the interval is smaller than {smallest}"
    if ci.high < 0:
        return "the whole interval lies on the other side of zero"
    return f"no effect in the interval reaches {smallest} in the declared direction"


def _p_test(hypothesis: Hypothesis, found: Estimate) -> list[str]:
    if found.p_test == "sign":
        return ["as the seeds agree exactly, p is the sign test's"]
    if hypothesis.test == "trend" and found.p_test == "t":
        return ["as Page's test needs three levels, p is that of the slopes' t test"]
    return []


def _left_out(hypothesis: Hypothesis, responses: Paired) -> list[str]:
    clauses = []
    if responses.missing:
        done = f"{responses.found} of {responses.planned} trainings are done"
        clauses.append(f"{_list(responses.missing)} left out as {done}")
    if responses.not_finite:
        clauses.append(f"{_list(responses.not_finite)} left out as {hypothesis.response} is not a number there")
    return clauses


def _list(seeds: Sequence[int]) -> str:
    names = [str(seed) for seed in seeds]
    if len(names) == 1:
        return f"seed {names[0]} is"
    return f"seeds {', '.join(names[:-1])} and {names[-1]} are"


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}"


def numbers(values: Sequence[float]) -> list[str]:
    """Numbers to compare: as many decimals for each as the largest needs for three significant digits."""
    largest = max(abs(value) for value in values)
    decimals = max(0, 2 - math.floor(math.log10(largest))) if largest else 0
    return [f"{value:.{decimals}f}" for value in values]
