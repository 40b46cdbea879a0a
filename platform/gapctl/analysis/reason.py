"""A verdict's reason in one sentence: what the seeds did, what that means, and what was missing."""

from gapctl.analysis.effect_test import fewest_of_sign_test, sides_of, significant
from gapctl.analysis.holm import Corrected
from gapctl.analysis.left_out import left_out
from gapctl.analysis.measured import Measured
from gapctl.analysis.mediation import Mediated
from gapctl.analysis.remaining import Remaining
from gapctl.analysis.results import Finding, Interval
from gapctl.analysis.rule import beyond, declared
from gapctl.analysis.seed_words import number, numbers, replicate, seeds_did, short
from gapctl.spec.hypotheses import AtLevel, Correlation, Mediation


def reason(
    measured: Measured, verdict: Finding, p: Corrected, claim: Corrected, alpha: float, remaining: Remaining
) -> str:
    """One sentence for a researcher who sees the numbers beside it."""
    clauses = left_out(measured, remaining)
    if len(measured.estimate.effects_S):
        meaning = _meaning(measured, verdict, p, claim, alpha)
        clauses = [*seeds_did(measured), meaning, *_share(measured), *_p_test(measured, verdict, claim), *clauses]
    else:
        clauses = [_nothing(measured), *clauses]
    if measured.hypothesis.where:
        held = ", ".join(f"{short(path)}={level}" for path, level in measured.hypothesis.where.items())
        clauses[0] = f"among trainings with {held}, {_small(clauses[0])}"
    text = "; ".join(clauses)
    return f"{text[0].upper()}{text[1:]}."


def _small(clause: str) -> str:
    return f"{clause[0].lower()}{clause[1:]}"


def _nothing(measured: Measured) -> str:
    if measured.correlated and measured.correlated.too_few and measured.responses.seeds:
        arms = measured.correlated.grid.arms
        return f"nothing can be told apart: the given metrics leave no order among {arms} arms"
    return f"No {replicate(measured).one} can be judged yet"


def _meaning(measured: Measured, verdict: Finding, p: Corrected, claim: Corrected, alpha: float) -> str:
    found, hypothesis, direction = measured.estimate, measured.hypothesis, measured.direction
    if len(found.effects_S) < 2:
        return f"an interval needs at least two {replicate(measured).many}"
    smallest = f"the smallest effect of {number(hypothesis.smallest_effect)}"
    inside = f"the interval lies within {smallest} on both sides"
    if verdict == "supported":
        return inside if direction == "neither" else f"the interval lies beyond {smallest}"
    if verdict == "refuted":
        if direction == "neither":
            return f"the whole interval lies beyond {smallest}"
        zero = number(hypothesis.value) if isinstance(hypothesis, AtLevel) else "zero"
        return _against(declared(found.ci, direction), hypothesis.smallest_effect, smallest, zero)
    if beyond(found.ci, hypothesis.smallest_effect, direction, found.rounding):
        where = inside if direction == "neither" else f"the interval lies beyond {smallest}"
        return f"{where}, but {_failed(measured, p, claim, alpha)}, not below {number(alpha)}"
    if found.agree and not measured.correlated:
        return f"that is {smallest} itself, neither beyond nor short of it"
    return f"the interval reaches from effects short of {smallest} to effects beyond it"


def _failed(measured: Measured, p: Corrected, claim: Corrected, alpha: float) -> str:
    """Which p it was; that of an effect as large as claimed counts as well."""
    if measured.direction == "neither" or not significant(p.p, alpha):
        return f"p after Holm is {number(p.p)}"
    return f"p of an effect beyond it, after Holm, is {number(claim.p)}"


def _against(ci: Interval, size: float, smallest: str, zero: str) -> str:
    if ci.low > -size:
        return f"every effect in the interval is smaller than {smallest}"
    if ci.high < 0:
        return f"the whole interval lies on the other side of {zero}"
    return f"no effect in the interval reaches {smallest} in the declared direction"


def _share(measured: Measured) -> list[str]:
    hypothesis, mediated = measured.hypothesis, measured.mediated
    if not isinstance(hypothesis, Mediation) or mediated is None or len(mediated.free.effects_S) < 2:
        return []
    if mediated.share_ci.low != mediated.share_ci.low:
        return [f"with {short(hypothesis.mediator)}={hypothesis.free} there may be no effect, so it has no share"]
    return [_share_words(mediated)]


def _share_words(mediated: Mediated) -> str:
    share, low, high = numbers([100 * value for value in (mediated.share, *mediated.share_ci)])
    return f"the share of the effect that is mediated is {share} % ({low} % to {high} %)"


def _p_test(measured: Measured, verdict: Finding, claim: Corrected) -> list[str]:
    found, hypothesis = measured.estimate, measured.hypothesis
    if isinstance(hypothesis, Correlation):
        return _dealt(measured, claim)
    if found.agree:
        return [_signs(measured, verdict, claim)]
    if hypothesis.test == "trend" and found.p_test == "t":
        return ["as Page's test needs three levels, p is that of the slopes' t test"]
    return []


def _signs(measured: Measured, verdict: Finding, claim: Corrected) -> str:
    """The sign test decides, and whether so few seeds can satisfy it at all."""
    found, direction, smallest = measured.estimate, measured.direction, measured.hypothesis.smallest_effect
    which = "p of the claim" if found.p_test == "page" else "p"
    name = replicate(measured)
    said = f"as the {name.many} agree exactly, {which} is the sign test's"
    fewest = fewest_of_sign_test(direction, claim.level)
    waits = verdict == "inconclusive" and beyond(found.ci, smallest, direction, found.rounding)
    if waits and len(found.effects_S) < fewest:
        return f"{said}, which cannot fall below {number(claim.level)} with fewer than {fewest} {name.many}"
    return said


def _dealt(measured: Measured, claim: Corrected) -> list[str]:
    """Where no result over these arms could have been significant."""
    if measured.correlated is None:
        return []
    grid = measured.correlated.grid
    least = grid.least_p(sides_of(measured.direction))
    if significant(least, claim.level):
        return []
    ways = f"{grid.counted:,} ways to deal the levels of {grid.arms} arms"
    return [f"p cannot fall below {number(least)}, as it is counted over {ways}"]
