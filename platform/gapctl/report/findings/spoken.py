"""What a verdict says of a claim: for it, against it, open, nothing, or nothing that can be told."""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from gapctl.analysis.judged import Judged
from gapctl.analysis.results import Verdict
from gapctl.report.findings.claims import Checks, Claim, withdrawn

Word = Literal["yes", "no", "open", "cannot say", "not learned", "withdrawn", "–"]
SPEAKING: Final[tuple[Word, ...]] = ("yes", "no", "open")
"""Words of a row that tests the claim."""


class Spoken(NamedTuple):
    """`failed` names the checks for want of which it cannot say, each with how it ended."""

    word: Word
    failed: tuple[tuple[str, str], ...] = ()


def spoken_for(claim: Claim, verdict: Verdict, judged: Judged, checks: Checks) -> Spoken:
    """Whether a verdict of a sweep speaks for the claim.

    A row that is struck through does not count, whatever it says (`struck`). It says nothing (a dash) where it is
    beside the claim or a check itself. It cannot say where a check that it leans on is not supported, or was not
    judged: what was to be compared did not differ, or nobody looked.
    """
    of_sweep = checks.get(judged.analysis.sweep, {})
    if verdict.id in of_sweep or not claim.spoken_to(verdict.id, verdict.source, verdict.response):
        return Spoken("–")
    if word := struck(verdict, judged):
        return Spoken(word)
    leant_on = [check for check, leaning in of_sweep.items() if leaning == "all" or verdict.id in leaning]
    failed = tuple((check, end) for check in leant_on if (end := _end(check, judged.analysis.verdicts)) != "supported")
    if failed:
        return Spoken("cannot say", failed)
    return Spoken(_answer(verdict, denies=verdict.id in claim.against))


def struck(verdict: Verdict, judged: Judged) -> Word | None:
    """Why a row is struck through: an arm that it compares learned nothing, or a review withdrew it; None otherwise."""
    if verdict.not_learned:
        return "not learned"
    return "withdrawn" if verdict.id in withdrawn().get(judged.analysis.sweep, {}) else None


def _answer(verdict: Verdict, *, denies: bool) -> Word:
    """A denial that is refuted by an effect the other way does not show that there is none, and leaves it open."""
    if verdict.verdict == "inconclusive":
        return "open"
    if not denies:
        return "yes" if verdict.verdict == "supported" else "no"
    if verdict.verdict == "supported":
        return "no"
    return "yes" if verdict.refuted_as == "negligible" else "open"


def _end(check: str, verdicts: Sequence[Verdict]) -> str:
    return next((verdict.verdict for verdict in verdicts if verdict.id == check), "not judged")
