"""Whether closing the gap helps, from the verdicts on those interventions that do close it."""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from gapctl.interventions.judge import Judged, Judgement
from gapctl.interventions.verdict import GAP, GAPS, Change, Verdict, lower_is_better, smallest_effect

CLOSED: Final = 0.5
"""An intervention closes the gap where it leaves at most this share of the distance between the means."""

CLUSTERS: Final = "quality/v_measure"
"""Judged and shown, but no part of the answer: k-means may end in another optimum after the smallest move, which no
interval over images knows of."""

Answer = Literal["yes", "no", "it depends", "not decided", "nothing to close", "not closed"]
Found = Verdict | Literal["depends on how", "some ways harm"]


class Best(NamedTuple):
    """The closing intervention after which a measure is best."""

    name: str
    change: Change


class MeasureAnswer(NamedTuple):
    """What closing the gap does to one quality, over all interventions that close it; which help and which harm."""

    key: str
    found: Found
    best: Best
    helping: tuple[str, ...]
    harming: tuple[str, ...]


class ClosingAnswer(NamedTuple):
    """The answer, the interventions that close the gap, the qualities one by one, and what helps without harm.

    It is yes where an intervention that closes the gap helps a quality and harms none.
    """

    answer: Answer
    closing: tuple[str, ...]
    measures: tuple[MeasureAnswer, ...]
    helping: tuple[str, ...] = ()


def does_closing_help(judgement: Judgement) -> ClosingAnswer:
    """Reads the verdicts together; recalls deeper than 1, which say little of their own, and clusters are left out."""
    if judgement.before[GAP] < smallest_effect(GAP):
        return ClosingAnswer("nothing to close", (), ())
    closing = [each for each in judgement.judged if each.changes and _closes(each, judgement)]
    if not closing:
        return ClosingAnswer("not closed", (), ())
    measures = tuple(_over(closing, key) for key in main_qualities(judgement) if key != CLUSTERS)
    helping = tuple(each.name for each in closing if _helps_without_harm(each, measures))
    return ClosingAnswer(_together(measures, helping), tuple(each.name for each in closing), measures, helping)


def main_qualities(judgement: Judgement) -> tuple[str, ...]:
    """The qualities that an answer is made of, in the order of their judging."""
    return tuple(key for key in judgement.before if not key.startswith(GAPS) and not _deep(key))


def _deep(key: str) -> bool:
    return key.endswith(("_recall_5", "_recall_10"))


def _closes(judged: Judged, judgement: Judgement) -> bool:
    return judged.changes[GAP].value <= CLOSED * judgement.before[GAP]


def _over(closing: Sequence[Judged], key: str) -> MeasureAnswer:
    towards = -1 if lower_is_better(key) else 1
    best = max(closing, key=lambda each: towards * each.changes[key].change)
    helping, harming = (
        tuple(each.name for each in closing if each.changes[key].verdict == verdict) for verdict in ("helps", "harms")
    )
    found = _found({each.changes[key].verdict for each in closing})
    return MeasureAnswer(key, found, Best(best.name, best.changes[key]), helping, harming)


def _helps_without_harm(judged: Judged, measures: Sequence[MeasureAnswer]) -> bool:
    verdicts = {judged.changes[measure.key].verdict for measure in measures}
    return "helps" in verdicts and "harms" not in verdicts


def _found(verdicts: set[Verdict]) -> Found:
    if {"helps", "harms"} <= verdicts:
        return "depends on how"
    if "helps" in verdicts:
        return "helps"
    if "harms" in verdicts:
        return "harms" if verdicts == {"harms"} else "some ways harm"
    return "inconclusive" if "inconclusive" in verdicts else "no difference that counts"


def _together(measures: Sequence[MeasureAnswer], helping: Sequence[str]) -> Answer:
    if helping:
        return "yes"
    found = {measure.found for measure in measures}
    if found & {"helps", "depends on how"}:
        return "it depends"
    return "no" if "harms" in found or "inconclusive" not in found else "not decided"
