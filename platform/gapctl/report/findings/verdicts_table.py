"""Verdicts as a table: the test, its effect and verdict, what that says of a claim, and what would change it."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from gapctl.analysis.holm import holm
from gapctl.analysis.judged import Judged
from gapctl.analysis.results import Verdict
from gapctl.report.effect_words import effect_name
from gapctl.report.findings.averages import MARK, average_words
from gapctl.report.findings.change import what_would_change
from gapctl.report.findings.claims import redesigned, withdrawn
from gapctl.report.findings.spoken import Spoken, struck
from gapctl.report.mark_words import mark_lines, redesign_lines
from gapctl.report.markdown_text import code, plain, table
from gapctl.report.verdict_cards import SYMBOLS
from gapctl.report.words import aligned, confidence, counted, in_brackets, p_value

_TESTS: Final = ("our test", "effect", "estimate", "interval", "verdict", "p, page", "sweep, scale, seeds")
_AFTER_VERDICT: Final = _TESTS.index("verdict") + 1
_CHANGE: Final = "what would change it"
PAGE_ALPHA: Final = 0.05


class Found(NamedTuple):
    """A verdict and the sweep that it is of."""

    verdict: Verdict
    judged: Judged

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from all other rows of the page."""
        return self.judged.name, self.verdict.id


class Shown(NamedTuple):
    """What every row of a page is shown with: the scales of each sweep in the ledger, and p after Holm by row."""

    scales: Mapping[str, Collection[str]]
    p_page: Mapping[tuple[str, str], float]


def p_over_page(rows: Sequence[Found]) -> dict[tuple[str, str], float]:
    """p of the whole claim after Holm over all confirmatory rows, by row; exploratory ones have none."""
    confirmatory = [row for row in rows if not row.verdict.exploratory]
    corrected = holm([row.verdict.p_claim for row in confirmatory], alpha=PAGE_ALPHA)
    return {row.key: found.p for row, found in zip(confirmatory, corrected, strict=True)}


def effect_cells(verdict: Verdict, alpha: float) -> tuple[str, str]:
    """The estimate and its interval."""
    estimate, low, high = aligned([verdict.estimate, *verdict.ci])
    known = math.isfinite(verdict.ci.low)
    return estimate, f"{low} to {high} ({confidence(alpha)})" if known else "too few seeds"


def verdicts_table(tested: Sequence[Found], shown: Shown, spoken: Sequence[Spoken] | None = None) -> list[str]:
    """The table, then a sentence for each mark, each withdrawal, and each average that hides a change of sign.

    `spoken` has what each row says of a claim, a column more.
    """
    averages = [average_words(verdict, judged) for verdict, judged in tested]
    rows = [_cells(found, shown, marked=bool(words)) for found, words in zip(tested, averages, strict=True)]
    head = [*_TESTS, _CHANGE]
    if spoken is not None:
        head.insert(_AFTER_VERDICT, "for the claim")
        for row, said in zip(rows, spoken, strict=True):
            row.insert(_AFTER_VERDICT, _spoken_words(said))
    notes = [f"{MARK} {words}" for words in averages if words]
    return [table(head, rows, numbers_from=len(head)), *_mark_words(tested), *notes]


def _cells(found: Found, shown: Shown, marked: bool) -> list[str]:
    verdict, judged = found
    estimate, interval = effect_cells(verdict, judged.analysis.alpha)
    word = f"{SYMBOLS[verdict.verdict]} **{verdict.verdict}**"
    crossed = ["~~{}~~", "~~{}~~", "~~{}~~"] if struck(verdict, judged) else ["{}", "{}", "{}"]
    cells = (f"{estimate} {MARK}" if marked else estimate, interval, word)
    estimate, interval, word = (form.format(cell) for form, cell in zip(crossed, cells, strict=True))
    test = f"{plain(verdict.claim)} ({code(verdict.id)})"
    p = p_value(shown.p_page[found.key]) if found.key in shown.p_page else "–"
    where = f"{plain(judged.name)}, {counted(verdict.seeds, 'seed')}"
    change = what_would_change(verdict, judged, shown.scales[judged.analysis.sweep])
    verdict_cell = word + in_brackets(marks_of(verdict, judged))
    return [test, plain(effect_name(verdict)), estimate, interval, verdict_cell, p, where, change]


def times_asked(judged: Judged) -> int:
    """How often a sweep's question was asked, this time included, as far as the sweep or the page says."""
    if (known := redesigned().get(judged.analysis.sweep)) is not None:
        return known.before + 1
    return 1 if judged.analysis.first_question is None else 2


def first_answer(judged: Judged) -> str:
    """What a redesigned question was answered first; a dash where it was asked once."""
    if (known := redesigned().get(judged.analysis.sweep)) is not None:
        return known.first_answer
    return " ".join(redesign_lines(judged.analysis)) or "–"


def marks_of(verdict: Verdict, judged: Judged) -> list[str]:
    """The verdict's own marks, and *redesigned* where its sweep asks a question again, by itself or by the page."""
    again = ["redesigned"] if judged.analysis.sweep in redesigned() else []
    return list(dict.fromkeys([*verdict.marks, *again]))


def _mark_words(tested: Sequence[Found]) -> list[str]:
    """What marks mean and why rows were withdrawn, each sentence once with all rows that it is of."""
    ids: dict[str, list[str]] = {}
    for verdict, judged in tested:
        reason = withdrawn().get(judged.analysis.sweep, {}).get(verdict.id)
        for line in [*map(plain, mark_lines(verdict)), *([f"Withdrawn: {reason}."] if reason else [])]:
            ids.setdefault(line, []).append(verdict.id)
    return [f"{', '.join(map(code, names))}. {line}" for line, names in ids.items()]


def _spoken_words(spoken: Spoken) -> str:
    why = " and ".join(f"{code(check)} is {end}" for check, end in spoken.failed)
    return f"{spoken.word}: {why}" if why else spoken.word
