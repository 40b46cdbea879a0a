"""Which seeds were left out of an estimate, why, and which command brings them back."""

import math
from collections.abc import Sequence

from gapctl.analysis.measured import Measured
from gapctl.analysis.paired import LARGEST, Odd
from gapctl.analysis.remaining import Remaining
from gapctl.plan.trials import Trial
from gapctl.spec.hypotheses import Correlation

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
