"""The verdicts on a terminal: a table to compare them by, then each claim with its effect and its reason."""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from gapctl.analysis.results import Analysis, Finding, Verdict

STYLES: Final[dict["Finding", str]] = {"supported": "green", "refuted": "red", "inconclusive": "yellow"}
ASCII: Final = str.maketrans({"−": "-", "–": "-", "τ": "tau"})
SIGNS: Final = {"exploratory": "*", "redesigned": "^", "not learned": "!"}
"""Marks in a column that has no room for words."""
HASH_DIGITS = 12
NARROWEST = 20
GAP: Final = "  "


def print_verdicts(analysis: "Analysis", console: "Console") -> None:
    """Prints question, verdicts, reasons, and whether the hypotheses were declared in time."""
    from rich.text import Text

    from gapctl.report.mark_words import redesign_lines

    scale = f", scale {analysis.scale}" if analysis.scale else ""
    console.print(Text(f"{analysis.sweep}{scale}: {analysis.question}"))
    if analysis.verdicts:
        _print_table(analysis, console)
        for verdict in analysis.verdicts:
            console.print(_explained(verdict, console.width))
    else:
        console.print("The sweep file states no hypotheses, so there is nothing to judge.", highlight=False)
    if analysis.verdicts or analysis.declared:
        console.print(Text(f"\n{declared_when(analysis)}"))
    if analysis.declared is not None and analysis.declared.command is not None:
        console.print(Text(f"what was declared: {analysis.declared.command}"), soft_wrap=True)
    for line in redesign_lines(analysis):
        console.print(Text(line.translate(ASCII)))
    console.print(Text(f"{len(analysis.trials)} of {analysis.planned} trainings done"))


def declared_when(analysis: "Analysis") -> str:
    """The hypotheses' hash, and whether verdicts on them confirm or explore."""
    declared, now = analysis.declared_sha256, analysis.hypotheses_sha256
    here = f"hypotheses sha256 {now[:HASH_DIGITS]}"
    if declared == now:
        late = f", but exploratory: {analysis.deviation}" if analysis.deviation else ""
        return f"{here}, declared before the first trial{late}"
    if declared is None:
        return f"{here}, exploratory: they were not declared before the first trial"
    changes = ["their text is not in the ledger"] if analysis.declared is None else analysis.declared.changes
    before = f"those declared before the first trial were {declared[:HASH_DIGITS]}"
    also = [analysis.deviation] if analysis.deviation else []
    return f"{here}, exploratory: {before}; {'; '.join([*changes, *also])}"


def _print_table(analysis: "Analysis", console: "Console") -> None:
    """One row for each hypothesis; where that is too wide, its name on one line and the numbers below."""
    from gapctl.report.words import confidence

    header = ["verdict", "estimate", f"{confidence(analysis.alpha)} interval", "p (Holm)", "seeds"]
    cells = [header, *(_cells(verdict) for verdict in analysis.verdicts)]
    columns = [max(map(len, column)) for column in zip(*cells, strict=True)]
    names = ["hypothesis", *(verdict.id for verdict in analysis.verdicts)]
    longest = max(map(len, names))
    beside = longest + sum(len(GAP) + column for column in columns) <= console.width
    styles = ["bold", *(STYLES[verdict.verdict] for verdict in analysis.verdicts)]
    for name, row, style in zip(names, cells, styles, strict=True):
        start = name.ljust(longest) if beside else f"{name}\n"
        console.print(_row(start, row, columns, style, "bold" if row is header else ""))
    if note := footnote(analysis.verdicts):
        console.print(note, highlight=False)


def signs(verdict: "Verdict") -> str:
    """A sign for each mark."""
    return "".join(SIGNS[mark] for mark in verdict.marks)


def footnote(verdicts: Sequence["Verdict"]) -> str:
    """What the signs of these verdicts mean; nothing where there are none."""
    marked = {mark for verdict in verdicts for mark in verdict.marks}
    return ", ".join(f"{sign} {mark}" for mark, sign in SIGNS.items() if mark in marked)


def _row(start: str, cells: Sequence[str], columns: Sequence[int], first: str, others: str) -> "Text":
    from rich.text import Text

    word, *numbers = (
        cell.rjust(width) if place else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, columns, strict=True))
    )
    return Text.assemble((start, others), GAP, (word, first), (GAP + GAP.join(numbers), others))


def _cells(verdict: "Verdict") -> list[str]:
    return [f"{verdict.verdict}{signs(verdict)}", *_numbers(verdict), str(verdict.seeds)]


def _explained(verdict: "Verdict", width: int) -> "Text":
    from rich.text import Text

    from gapctl.report.effect_words import effect_name
    from gapctl.report.mark_words import mark_lines
    from gapctl.report.words import in_brackets, settling

    lines = [verdict.claim, f"Effect: {effect_name(verdict).translate(ASCII)}.", verdict.reason]
    if verdict.seeds_needed is not None:
        lines.append(settling(verdict.seeds_needed))
    lines += [line.translate(ASCII) for line in mark_lines(verdict)]
    mark = in_brackets(verdict.marks)
    said = "".join(f"\n{_indented(line, width)}" for line in lines)
    return Text.assemble("\n", verdict.id, ": ", (verdict.verdict, STYLES[verdict.verdict]), mark, said)


def _indented(line: str, width: int) -> str:
    return textwrap.fill(line, max(width, NARROWEST), initial_indent="  ", subsequent_indent="  ")


def _numbers(verdict: "Verdict") -> list[str]:
    """Estimate, interval and p, with the minus sign that a shell and the reasons know."""
    from gapctl.report.words import aligned, p_value

    estimate, low, high = aligned([verdict.estimate, *verdict.ci])
    interval = f"{low} to {high}" if math.isfinite(verdict.ci.low) else low
    return [text.translate(ASCII) for text in (estimate, interval, p_value(verdict.p))]
