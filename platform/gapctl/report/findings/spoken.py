"""What a verdict says of a claim: for it, against it, open, nothing, or nothing that can be told."""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from gapctl.analysis.judged import Judged
from gapctl.analysis.results import Verdict
from gapctl.report.findings.claims import Checks, Claim

Word = Literal["yes", "no", "open", "cannot say", "–"]
SPEAKING: Final[tuple[Word, ...]] = ("yes", "no", "open")
"""Words of a row that tests the claim."""


class Spoken(NamedTuple):
    """`failed` names the checks for want of which it cannot say, each with how it ended."""

    word: Word
    failed: tuple[tuple[str, str], ...] = ()


def spoken_for(claim: Claim, verdict: Verdict, judged: Judged, checks: Checks) -> Spoken:
    """Whether a verdict of a sweep speaks for the claim.

    It says nothing (a dash) where it is beside the claim or a check itself. It cannot say where a check that it leans
    on is not supported, or was not judged: what was to be compared did not differ, or nobody looked.
    """
    of_sweep = checks.get(judged.analysis.sweep, {})
    if verdict.id in of_sweep or not claim.spoken_to(verdict.id, verdict.source, verdict.response):
        return Spoken("–")
    leant_on = [check for check, leaning in of_sweep.items() if leaning == "all" or verdict.id in leaning]
    failed = tuple((check, end) for check in leant_on if (end := _end(check, judged.analysis.verdicts)) != "supported")
    if failed:
        return Spoken("cannot say", failed)
    if verdict.verdict == "inconclusive":
        return Spoken("open")
    return Spoken("yes" if (verdict.verdict == "supported") != (verdict.id in claim.against) else "no")


def _end(check: str, verdicts: Sequence[Verdict]) -> str:
    return next((verdict.verdict for verdict in verdicts if verdict.id == check), "not judged")
