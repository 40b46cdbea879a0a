"""What a verdict's marks say, a sentence each: what was answered first, which arms had not learned."""

import math
from collections import Counter
from typing import Final

from gapctl.analysis.results import Analysis, Verdict
from gapctl.report.words import aligned, counted, in_brackets, p_value

MOST_ARMS: Final = 4


def mark_lines(verdict: Verdict) -> list[str]:
    """The sentences that stand below a verdict; none where it has no such mark."""
    return [*_first_answer(verdict), *_not_learned(verdict)]


def redesign_lines(analysis: Analysis) -> list[str]:
    """What a sweep asks again, and what was answered first or why that is not known; nothing for other sweeps."""
    first = analysis.first_question
    if first is None:
        return []
    if first.note is not None:
        return [f"It asks again what {first.asked} asked; that first answer is not in this ledger: {first.note}."]
    counts = Counter(one.verdict for one in first.answers)
    told = ", ".join(f"{count} {word}" for word, count in counts.items()) or "no hypotheses"
    return [f"It asks again what {first.asked} asked; the first answer, of {first.sweep}: {told}."]


def _first_answer(verdict: Verdict) -> list[str]:
    first = verdict.first_answer
    if first is None:
        return []
    estimate, low, high = aligned([first.estimate, *first.ci])
    interval = f"{low} to {high}" if math.isfinite(first.ci.low) else "too few seeds"
    word = f"{first.verdict}{in_brackets(first.marks)}"
    return [f"First answer, {first.sweep}, {first.id}: {word}, {estimate} ({interval}), p {p_value(first.p)}."]


def _not_learned(verdict: Verdict) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for check in verdict.not_learned:
        reasons.setdefault(check.arm, []).append(check.reason)
    if not reasons:
        return []
    said = [f"{arm}: {' and '.join(found)}" for arm, found in list(reasons.items())[:MOST_ARMS]]
    more = [f"and {counted(len(reasons) - MOST_ARMS, 'more arm')}"] if len(reasons) > MOST_ARMS else []
    return [f"Not learned: {'; '.join([*said, *more])}."]
