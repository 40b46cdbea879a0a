"""Verdicts as a table: the test, its effect and verdict, what that says of a claim, and what would change it."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from gapctl.analysis.judged import Judged
from gapctl.analysis.results import Verdict
from gapctl.report.effect_words import effect_name
from gapctl.report.findings.averages import MARK, average_words
from gapctl.report.findings.change import what_would_change
from gapctl.report.findings.spoken import Spoken
from gapctl.report.markdown_text import code, plain, table
from gapctl.report.verdict_cards import SYMBOLS
from gapctl.report.words import aligned, confidence, counted

_TESTS: Final = ("our test", "effect", "estimate", "interval", "verdict", "sweep, scale, seeds", "what would change it")
_AFTER_VERDICT: Final = _TESTS.index("verdict") + 1


class Found(NamedTuple):
    """A verdict and the sweep that it is of."""

    verdict: Verdict
    judged: Judged


def verdicts_table(
    tested: Sequence[Found], scales: Mapping[str, Collection[str]], spoken: Sequence[Spoken] | None = None
) -> list[str]:
    """The table, and a sentence for each average that hides a change of sign.

    `scales` are those of each sweep that the ledger holds; `spoken` has what each row says of a claim, a column more.
    """
    averages = [average_words(verdict, judged) for verdict, judged in tested]
    rows = [
        _cells(verdict, judged, scales[judged.analysis.sweep], marked=bool(words))
        for (verdict, judged), words in zip(tested, averages, strict=True)
    ]
    head = list(_TESTS)
    if spoken is not None:
        head.insert(_AFTER_VERDICT, "for the claim")
        for row, said in zip(rows, spoken, strict=True):
            row.insert(_AFTER_VERDICT, _spoken_words(said))
    return [table(head, rows, numbers_from=len(head)), *(f"{MARK} {words}" for words in averages if words)]


def _cells(verdict: Verdict, judged: Judged, scales: Collection[str], marked: bool) -> list[str]:
    analysis = judged.analysis
    estimate, low, high = aligned([verdict.estimate, *verdict.ci])
    known = math.isfinite(verdict.ci.low)
    interval = f"{low} to {high} ({confidence(analysis.alpha)})" if known else "too few seeds"
    word = f"{SYMBOLS[verdict.verdict]} **{verdict.verdict}**" + (" (exploratory)" if verdict.exploratory else "")
    where = f"{plain(judged.name)}, {counted(verdict.seeds, 'seed')}"
    change = what_would_change(verdict, judged, scales)
    test = f"{plain(verdict.claim)} ({code(verdict.id)})"
    shown = f"{estimate} {MARK}" if marked else estimate
    return [test, plain(effect_name(verdict)), shown, interval, word, where, change]


def _spoken_words(spoken: Spoken) -> str:
    why = " and ".join(f"{code(check)} is {end}" for check, end in spoken.failed)
    return f"{spoken.word}: {why}" if why else spoken.word
