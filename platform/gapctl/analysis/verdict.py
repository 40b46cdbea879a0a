"""The verdict on a hypothesis, once the p-values of all hypotheses of its file are known."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from gapctl.analysis.estimates import Estimate, Mediated, fewest_of_sign_test, sides_of, significant
from gapctl.analysis.learning import ArmCheck
from gapctl.analysis.measured import Corrected, Measured, beyond, declared, finding, measure, refuted_as, seeds_needed
from gapctl.analysis.paired import LARGEST, Odd
from gapctl.analysis.results import Interval, Outcome, Remaining, Verdict
from gapctl.config.hypotheses import AtLevel, Contrast, Correlation, Equivalence, Hypothesis, Level, Mediation, Trend
from gapctl.config.sweep import SweepFile
from gapctl.plan.plan import Trial

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


MOST_NAMED = 3


def left_out(measured: Measured, remaining: Remaining) -> list[str]:
    """A clause per reason; none where every planned seed counts."""
    responses = measured.responses
    clauses = _missing(measured, remaining) if responses.missing else []
    if responses.not_finite:
        why = [f"no training recorded {either(responses.absent)}"] if responses.absent else _odd(responses.odd)
        clauses.append(f"{_list(responses.not_finite, responses.each)} left out as {' and '.join(why)}")
    if measured.correlated and measured.correlated.constant:
        seeds = _list(measured.correlated.constant, responses.each)
        clauses.append(f"{seeds} left out as {_constant(measured.hypothesis)}")
    return clauses


def _missing(measured: Measured, remaining: Remaining) -> list[str]:
    responses = measured.responses
    done = f"{responses.found} of {responses.planned} trainings are done"
    clauses = [f"{_list(responses.missing, responses.each)} left out as {done}"]
    untrained, damaged = remaining.of(measured.cells, measured.hypothesis.where)
    if untrained:
        clauses.append(f"`{remaining.command}` trains the other {len(untrained)} ({_names(untrained)})")
    if damaged:
        clauses.append(f"{len(damaged)} cannot be read ({_names(damaged)}): move their folders away first")
    return clauses


def _odd(odd: Sequence[Odd]) -> list[str]:
    """For each metric what is wrong with it, and in which trainings."""
    by_fault: dict[tuple[str, str], list[Odd]] = {}
    for one in odd:
        by_fault.setdefault((one.metric, _fault(one.value)), []).append(one)
    return [f"{metric} {fault} {_where(found)}" for (metric, fault), found in by_fault.items()]


def _fault(value: float | None) -> str:
    if value is None:
        return "was not recorded"
    return f"is beyond {LARGEST:g}" if math.isfinite(value) else "is not a finite number"


def _where(odd: Sequence[Odd]) -> str:
    named = [one.label if one.value is None else f"{one.value:g} in {one.label}" for one in odd[:MOST_NAMED]]
    more = len(odd) - MOST_NAMED
    listed = ", ".join([*named, *([f"{more} more"] if more > 0 else [])])
    return f"in {listed}" if odd[0].value is None else f"({listed})"


def _names(trials: Sequence[Trial]) -> str:
    named = ", ".join(trial.label for trial in trials[:MOST_NAMED])
    more = len(trials) - MOST_NAMED
    return f"{named} and {more} more" if more > 0 else named


def _constant(hypothesis: object) -> str:
    assert isinstance(hypothesis, Correlation)
    same = f"{either([hypothesis.response, hypothesis.against])} is the same in all arms compared"
    return f"{same}, or nothing of it is left beside the given metrics" if hypothesis.given else same


def either(names: Sequence[str]) -> str:
    """`a, b or c`."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _list(first: Sequence[int], each: int) -> str:
    """The seeds of replicates that are so many seeds each."""
    names = [str(seed + more) for seed in first for more in range(each)]
    if len(names) == 1:
        return f"seed {names[0]} is"
    return f"seeds {', '.join(names[:-1])} and {names[-1]} are"


def reason(
    measured: Measured, verdict: Outcome, p: Corrected, claim: Corrected, alpha: float, remaining: Remaining
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


def _meaning(measured: Measured, verdict: Outcome, p: Corrected, claim: Corrected, alpha: float) -> str:
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


def _p_test(measured: Measured, verdict: Outcome, claim: Corrected) -> list[str]:
    found, hypothesis = measured.estimate, measured.hypothesis
    if isinstance(hypothesis, Correlation):
        return _dealt(measured, claim)
    if found.agree:
        return [_signs(measured, verdict, claim)]
    if hypothesis.test == "trend" and found.p_test == "t":
        return ["as Page's test needs three levels, p is that of the slopes' t test"]
    return []


def _signs(measured: Measured, verdict: Outcome, claim: Corrected) -> str:
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


def verdict(
    measured: Measured,
    p: Corrected,
    claim: Corrected,
    alpha: float,
    remaining: Remaining,
    *,
    exploratory: bool,
    redesigned: bool = False,
    not_learned: tuple[ArmCheck, ...] = (),
) -> Verdict:
    """Applies the decision rule; `p` and `claim` are the corrected p of the direction and of the whole claim."""
    hypothesis, found, direction = measured.hypothesis, measured.estimate, measured.direction
    smallest = hypothesis.smallest_effect
    outcome = finding(found.ci, smallest, direction, claim.p, alpha, found.rounding)
    needed = seeds_needed(found, smallest, direction, alpha, claim.level) if outcome == "inconclusive" else None
    each = measured.responses.each
    return Verdict(
        id=hypothesis.id,
        claim=hypothesis.claim,
        test=hypothesis.test,
        response=hypothesis.response,
        factor=_treatment(hypothesis),
        direction=direction,
        smallest_effect=smallest,
        verdict=outcome,
        seeds=len(found.effects_S) * each,
        trials=measured.trials,
        seeds_needed=None if needed is None else needed * each,
        exploratory=exploratory,
        reason=reason(measured, outcome, p, claim, alpha, remaining),
        p=claim.p,
        p_direction=p.p,
        replicates=len(found.effects_S),
        refuted_as=refuted_as(found.ci, smallest, direction, found.rounding) if outcome == "refuted" else None,
        redesigned=redesigned,
        not_learned=not_learned,
        source=hypothesis.source,
        where=dict(hypothesis.where),
        **_figures(found),
        **_compared(hypothesis),
        **_carried(measured.mediated),
    )


def _treatment(hypothesis: Hypothesis) -> str:
    if isinstance(hypothesis, AtLevel):
        return ""
    return hypothesis.against if isinstance(hypothesis, Correlation) else hypothesis.factor


def _figures(found: Estimate) -> dict[str, Any]:
    return {
        "estimate": found.value,
        "ci": found.ci,
        "ci_bootstrap": found.ci_bootstrap,
        "standardised": found.standardised,
        "standardised_pooled": found.standardised_pooled,
        "p_direction_before_holm": found.p,
        "p_test": found.p_test,
        "p_claim": found.p_claim,
        "p_permutation": found.p_permutation,
    }


def _compared(hypothesis: Hypothesis) -> dict[str, Any]:
    found: dict[str, Any] = {"between": getattr(hypothesis, "between", ())}
    if isinstance(hypothesis, Correlation):
        found["given"] = tuple(hypothesis.given)
    if isinstance(hypothesis, AtLevel):
        found["value"] = hypothesis.value
    if isinstance(hypothesis, Mediation):
        found |= {"mediator": hypothesis.mediator, "mediator_levels": (hypothesis.free, hypothesis.fixed)}
    return found


def _carried(mediated: Mediated | None) -> dict[str, Any]:
    if mediated is None:
        return {}
    return {
        "effect_free": mediated.free.value,
        "effect_free_ci": mediated.free.ci,
        "effect_fixed": mediated.fixed.value,
        "effect_fixed_ci": mediated.fixed.ci,
        "share_mediated": mediated.share,
        "share_mediated_ci": mediated.share_ci,
    }


MOST_FACTORS: Final = 2
"""Averages over more factors are not taken apart: with the cells grows the chance that two differ by chance."""


class Cell(NamedTuple):
    """The effect where the factors that are averaged over have these levels."""

    levels: Mapping[str, Level]
    estimate: float
    ci: Interval


class Turning(NamedTuple):
    """The cells of the lowest and of the highest effect; each one's interval lies beyond the smallest effect."""

    lowest: Cell
    highest: Cell


def turning(hypothesis: Hypothesis, trials: pl.DataFrame, spec: SweepFile) -> Turning | None:
    """Where the effect lies beyond the smallest on both sides of zero, each by its whole interval; else None.

    Of contrasts, equivalences and mediations that are averaged over one factor or two. Each cell is estimated as the
    hypothesis would be with the cell's levels in its `where`, with the interval of one comparison: the cells are not
    corrected for how many there are.
    """
    low, high = [], []
    with np.errstate(all="ignore"):
        for levels in _cells(hypothesis, spec):
            narrowed = hypothesis.model_copy(update={"where": {**hypothesis.where, **levels}})
            found = measure(narrowed, trials, spec).estimate
            cell = Cell(levels, found.value, found.ci)
            if beyond(found.ci, hypothesis.smallest_effect, "decreasing", found.rounding):
                low.append(cell)
            if beyond(found.ci, hypothesis.smallest_effect, "increasing", found.rounding):
                high.append(cell)
    if not (low and high):
        return None
    return Turning(min(low, key=lambda cell: cell.estimate), max(high, key=lambda cell: cell.estimate))


def _cells(hypothesis: Hypothesis, spec: SweepFile) -> Iterator[dict[str, Level]]:
    """The combinations of levels that the hypothesis averages over."""
    if not isinstance(hypothesis, Contrast | Equivalence | Mediation):
        return
    named = {hypothesis.factor, *hypothesis.where}
    if isinstance(hypothesis, Mediation):
        named.add(hypothesis.mediator)
    averaged = {path: levels for path, levels in spec.vary.items() if path not in named and len(levels) > 1}
    if 1 <= len(averaged) <= MOST_FACTORS:
        for levels in product(*averaged.values()):
            yield dict(zip(averaged, levels, strict=True))
