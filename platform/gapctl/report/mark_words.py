"""What a verdict's marks say, a sentence each: which arms had not learned."""

from typing import Final

from gapctl.analysis.results import Verdict
from gapctl.report.words import counted

MOST_ARMS: Final = 4


def mark_lines(verdict: Verdict) -> list[str]:
    """The sentences that stand below a verdict; none where it has no such mark."""
    return [*_not_learned(verdict)]


def _not_learned(verdict: Verdict) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for check in verdict.not_learned:
        reasons.setdefault(check.arm, []).append(check.reason)
    if not reasons:
        return []
    said = [f"{arm}: {' and '.join(found)}" for arm, found in list(reasons.items())[:MOST_ARMS]]
    more = [f"and {counted(len(reasons) - MOST_ARMS, 'more arm')}"] if len(reasons) > MOST_ARMS else []
    return [f"Not learned: {'; '.join([*said, *more])}."]
