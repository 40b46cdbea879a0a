"""What a hypothesis must satisfy beyond the types of its values: metrics, factors and levels that exist."""

from collections.abc import Iterator, Mapping, Sequence

from gapctl.spec.arms import arm_grid
from gapctl.spec.hypotheses import AtLevel, Contrast, Correlation, Equivalence, Hypothesis, Level, Mediation, Trend
from gapctl.spec.nearest import did_you_mean
from gapctl.spec.problem import KeyPath, Problem, show
from gapctl.spec.vocabulary import METRICS, is_metric, nearest_metric

Vary = Mapping[str, Sequence[Level] | None]
"""The factors with their levels; None stands for levels that are wrong themselves."""


def hypothesis_problems(hypothesis: Hypothesis, at: KeyPath, vary: Vary | None) -> Iterator[Problem]:
    """All that is wrong with a hypothesis whose values have the right types; `vary` is None where it is wrong."""
    yield from _metric(hypothesis.response, (*at, "response"))
    if isinstance(hypothesis, Correlation):
        yield from _partner(hypothesis, at)
    elif not isinstance(hypothesis, Equivalence) and hypothesis.direction == "either":
        yield from _refutable(hypothesis.smallest_effect, at)
    if vary is None:
        return
    yield from _where(hypothesis, at, vary)
    if isinstance(hypothesis, Correlation):
        yield from _given(hypothesis, at, vary)
        return
    if isinstance(hypothesis, AtLevel):
        return
    yield from _factor(hypothesis.factor, (*at, "factor"), vary)
    if (levels := vary.get(hypothesis.factor)) is not None:
        yield from _trend(levels, at) if isinstance(hypothesis, Trend) else _between(hypothesis, levels, at)
    if isinstance(hypothesis, Mediation):
        yield from _mediator(hypothesis, at, vary)


def _metric(key: str, at: KeyPath) -> Iterator[Problem]:
    if not is_metric(key):
        text = f"found {show(key)}; expected a metric such as gap/rmg or bias/moad_image{nearest_metric(key)}"
        yield Problem(at, text)


def _partner(hypothesis: Correlation, at: KeyPath) -> Iterator[Problem]:
    yield from _metric(hypothesis.against, (*at, "against"))
    if hypothesis.against == hypothesis.response:
        yield Problem((*at, "against"), f"found {show(hypothesis.against)} again; expected another metric")
    if hypothesis.direction == "either":
        yield from _refutable(hypothesis.smallest_effect, at)


def _refutable(smallest_effect: float, at: KeyPath) -> Iterator[Problem]:
    if smallest_effect == 0:
        text = "found 0 with direction either, which nothing can refute; expected the smallest effect that counts"
        yield Problem((*at, "smallest_effect"), text)


def _where(hypothesis: Hypothesis, at: KeyPath, vary: Vary) -> Iterator[Problem]:
    used = [getattr(hypothesis, name, None) for name in ("factor", "mediator")]
    for path, level in hypothesis.where.items():
        place = (*at, "where", path)
        yield from _factor(path, place, vary)
        if path in used:
            yield Problem(place, "already compared by this hypothesis; expected another factor")
        levels = vary.get(path)
        if levels is not None and not among(level, levels):
            yield Problem(place, f"found {show(level)}; expected a level of {path}: {show(levels)}")


def _factor(path: str, at: KeyPath, vary: Vary) -> Iterator[Problem]:
    if path not in vary:
        expected = f"expected one of {', '.join(vary)}{did_you_mean(path, vary)}"
        yield Problem(at, f"found {show(path)}, which does not vary; {expected}")


def _between(hypothesis: Contrast | Equivalence | Mediation, levels: Sequence[Level], at: KeyPath) -> Iterator[Problem]:
    for side, level in enumerate(hypothesis.between):
        if not among(level, levels):
            known = f"expected a level of {hypothesis.factor}: {show(levels)}"
            yield Problem((*at, "between", side), f"found {show(level)}; {known}")
    if among(hypothesis.between[0], hypothesis.between[1:]):
        text = f"found {show(hypothesis.between[1])} again; expected two different levels"
        yield Problem((*at, "between", 1), text)


def _trend(levels: Sequence[Level], at: KeyPath) -> Iterator[Problem]:
    """Two levels are few, yet a quick scale may leave no more: the analysis says what they can show."""
    if any(isinstance(level, bool | str) for level in levels):
        yield Problem((*at, "factor"), f"its levels are {show(levels)}; expected numbers for a trend")
    elif len(levels) < 2:
        yield Problem((*at, "factor"), f"its only level is {show(levels[0])}; expected at least two for a trend")


def _mediator(hypothesis: Mediation, at: KeyPath, vary: Vary) -> Iterator[Problem]:
    place = (*at, "mediator")
    yield from _factor(hypothesis.mediator, place, vary)
    if hypothesis.mediator == hypothesis.factor:
        yield Problem(place, f"found {show(hypothesis.mediator)}, the treatment itself; expected another factor")
        return
    levels = vary.get(hypothesis.mediator)
    for key, level in (("free", hypothesis.free), ("fixed", hypothesis.fixed)):
        if levels is not None and not among(level, levels):
            known = f"expected a level of {hypothesis.mediator}: {show(levels)}"
            yield Problem((*at, key), f"found {show(level)}; {known}")
    if among(hypothesis.free, [hypothesis.fixed]):
        yield Problem((*at, "fixed"), f"found {show(hypothesis.fixed)} again; expected another level than free's")


def _given(hypothesis: Correlation, at: KeyPath, vary: Vary) -> Iterator[Problem]:
    seen = {hypothesis.response, hypothesis.against}
    for index, name in enumerate(hypothesis.given):
        place = (*at, "given", index)
        if name in seen:
            yield Problem(place, f"found {show(name)} again; expected another metric or factor")
        elif name not in vary and not is_metric(name):
            close = did_you_mean(name, [*vary, *METRICS])
            text = f"expected a metric such as gap/rmg or a factor that varies: {', '.join(vary)}{close}"
            yield Problem(place, f"found {show(name)}; {text}")
        seen.add(name)
    known = {path: levels for path, levels in vary.items() if levels}
    if len(known) == len(vary):
        yield from _comparable(hypothesis, at, known)


def _comparable(hypothesis: Correlation, at: KeyPath, vary: Mapping[str, Sequence[Level]]) -> Iterator[Problem]:
    if not arm_grid(vary, hypothesis.where, hypothesis.given).pairs:
        held = [name for name in (*hypothesis.where, *hypothesis.given) if name in vary]
        left = f"with {', '.join(held)} held, no two arms are left" if held else "the sweep has one arm"
        key = "given" if hypothesis.given else "test"
        yield Problem((*at, key), f"{left} to correlate metrics over; expected a factor that still varies")


def among(level: Level, levels: Sequence[Level]) -> bool:
    """Whether a level is one of these, as a sweep file counts them."""
    return itself(level) in {itself(other) for other in levels}


def itself(level: Level) -> tuple[bool, Level]:
    """What levels are compared by: Python holds True and 1 for equal, a sweep file does not."""
    return isinstance(level, bool), level
