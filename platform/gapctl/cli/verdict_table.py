"""The verdicts on a terminal.

`print_verdicts` prints a table to compare verdicts by, then each claim with its effect and reason; `print_comparison`
prints several sweeps.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gapctl.ledger import Ledger

if TYPE_CHECKING:
    from gapctl.analysis.compare import ResponseComparison, SweepAnalysis, SweepComparison, SweepVerdict
    from gapctl.analysis.results import AnalysisResults, Outcome, Verdict


VERDICT_STYLES: Final[dict["Outcome", str]] = {"supported": "green", "refuted": "red", "inconclusive": "yellow"}
ASCII_REPLACEMENTS: Final = str.maketrans({"−": "-", "–": "-", "τ": "tau"})
HASH_DIGITS = 12
MIN_WIDTH = 20
COLUMN_GAP: Final = "  "


def print_verdicts(analysis: "AnalysisResults", console: Console) -> None:
    """Print question, verdicts, reasons, and whether the hypotheses were declared in time."""
    from gapctl.report.text import explain_redesign

    scale = f", scale {analysis.scale}" if analysis.scale else ""
    console.print(Text(f"{analysis.sweep}{scale}: {analysis.question}"))
    if analysis.verdicts:
        _print_table(analysis, console)
        first: dict[str, str] = {}
        for verdict in analysis.verdicts:
            console.print(_explain_verdict(verdict, console.width, first, analysis.alpha))
    else:
        console.print("The sweep file states no hypotheses, so there is nothing to judge.", highlight=False)
    if analysis.verdicts or analysis.declared:
        console.print(Text(f"\n{describe_declaration(analysis)}"))
    if analysis.declared is not None and analysis.declared.command is not None:
        console.print(Text(f"what was declared: {analysis.declared.command}"), soft_wrap=True)
    for line in explain_redesign(analysis):
        console.print(Text(line.translate(ASCII_REPLACEMENTS)))
    console.print(Text(f"{len(analysis.trials)} of {analysis.planned} trainings done"))


def describe_declaration(analysis: "AnalysisResults") -> str:
    """Describe the hypotheses' hash, and whether verdicts on them are confirmatory or exploratory."""
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


def _print_table(analysis: "AnalysisResults", console: Console) -> None:
    """Print a row for each hypothesis.

    Where that is too wide, its name stands on a line above; where even that is, the marks on a line below.
    """
    from gapctl.report.text import format_confidence_level, format_marks, format_replicates_heading

    counted, level = format_replicates_heading(analysis.verdicts), format_confidence_level(analysis.alpha)
    header = ["verdict", "estimate", f"{level} interval", "p (Holm)", counted]
    marks = ["", *(format_marks(verdict.marks) for verdict in analysis.verdicts)]
    cells = [header, *(_format_cells(verdict) for verdict in analysis.verdicts)]
    whole = [[f"{word}{mark}", *numbers] for (word, *numbers), mark in zip(cells, marks, strict=True)]
    in_line = _compute_row_width(_compute_widths(whole)) <= console.width
    rows = whole if in_line else cells
    columns = _compute_widths(rows)
    names = ["hypothesis", *(verdict.id for verdict in analysis.verdicts)]
    longest = max(map(len, names))
    beside = longest + _compute_row_width(columns) <= console.width
    styles = ["bold", *(VERDICT_STYLES[verdict.verdict] for verdict in analysis.verdicts)]
    for name, row, style, mark in zip(names, rows, styles, marks, strict=True):
        start = name.ljust(longest) if beside else f"{name}\n"
        console.print(_format_row(start, row, columns, style, "bold" if name == names[0] else ""))
        if mark and not in_line:
            indent = " " * longest if beside else ""
            console.print(Text(f"{indent}{COLUMN_GAP}{mark.strip()}", style))


def _compute_widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _compute_row_width(columns: Sequence[int]) -> int:
    return sum(len(COLUMN_GAP) + column for column in columns)


def _format_row(start: str, cells: Sequence[str], columns: Sequence[int], first: str, others: str) -> Text:
    word, *numbers = (
        cell.rjust(width) if place else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, columns, strict=True))
    )
    return Text.assemble((start, others), COLUMN_GAP, (word, first), (COLUMN_GAP + COLUMN_GAP.join(numbers), others))


def _format_cells(verdict: "Verdict") -> list[str]:
    return [verdict.verdict, *_format_numbers(verdict), str(verdict.seeds)]


def _explain_verdict(verdict: "Verdict", width: int, first: dict[str, str], alpha: float) -> Text:
    """Explain a verdict; `first` has the verdict at which each explanation of marks was printed, and gains these."""
    from gapctl.report.text import (
        describe_effect_with_unit,
        describe_prediction,
        explain_marks,
        explain_seeds_needed,
        format_marks,
    )

    lines = [
        verdict.claim,
        f"Effect: {describe_effect_with_unit(verdict).translate(ASCII_REPLACEMENTS)}.",
        verdict.reason,
    ]
    predicted = describe_prediction(verdict, alpha).translate(ASCII_REPLACEMENTS)
    lines += filter(None, [predicted, explain_seeds_needed(verdict)])
    for line in explain_marks(verdict):
        at = first.setdefault(line, verdict.id)
        again = f"{line.partition(':')[0]}: as for {at}."
        lines.append((line if at == verdict.id else again).translate(ASCII_REPLACEMENTS))
    mark = format_marks(verdict.marks)
    wrapper = textwrap.TextWrapper(max(width, MIN_WIDTH), initial_indent="  ", subsequent_indent="  ")
    reasons = "".join(f"\n{wrapper.fill(line)}" for line in lines)
    return Text.assemble("\n", verdict.id, ": ", (verdict.verdict, VERDICT_STYLES[verdict.verdict]), mark, reasons)


def _format_numbers(verdict: "Verdict") -> list[str]:
    """Format estimate, interval and p, with the ASCII minus sign that the reasons use."""
    from gapctl.report.text import format_aligned_numbers, format_p_value

    estimate, low, high = format_aligned_numbers([verdict.estimate, *verdict.ci])
    interval = f"{low} to {high}" if math.isfinite(verdict.ci.low) else low
    return [text.translate(ASCII_REPLACEMENTS) for text in (estimate, interval, format_p_value(verdict.p))]


def print_sweep_analysis(judged: "SweepAnalysis", ledger: Ledger, console: Console) -> None:
    """Print a sweep's verdicts and the facts of its run."""
    from gapctl.report.page_parts import collect_run_facts

    print_verdicts(judged.analysis, console)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for fact in collect_run_facts(judged, ledger)[1:]:
        table.add_row(fact.term, Text(fact.said.translate(ASCII_REPLACEMENTS)))
    console.print()
    console.print(table)


def print_comparison(combined: "SweepComparison", ledger: Ledger, console: Console) -> None:
    """Print every sweep, then the comparison."""
    from gapctl.report.compare_page import describe_differences, describe_shared_trainings

    for judged in combined.sweeps:
        console.print(Text(f"--- {judged.name} ---", style="bold"))
        print_sweep_analysis(judged, ledger, console)
        console.print()
    console.print(Text(f"--- {len(combined.sweeps)} sweeps compared, each by its own hypotheses ---", style="bold"))
    _print_comparison_tables([found for found in combined.comparisons if len(found.sweeps) > 1], console)
    console.print()
    _print_lines(describe_shared_trainings(combined) or ["They share no training."], console)
    _print_lines(describe_differences(combined) or ["They differ in no setting, and were made alike."], console)


def _print_comparison_tables(comparisons: "Sequence[ResponseComparison]", console: Console) -> None:
    from gapctl.report.compare_page import (
        explain_interval_levels,
        format_response_comparison,
        list_verdict_column_names,
    )

    if not comparisons:
        console.print("No response and factor is judged by more than one sweep.", highlight=False)
    for comparison in comparisons:
        for effect in dict.fromkeys(finding.effect for finding in comparison.findings):
            console.print(Text(f"\n{format_response_comparison(comparison)}; {effect}".translate(ASCII_REPLACEMENTS)))
            findings = [finding for finding in comparison.findings if finding.effect == effect]
            console.print(_build_effect_table(findings, list_verdict_column_names(comparison), console.width))
        _print_lines(list(filter(None, [explain_interval_levels(comparison)])), console)


NARROW: Final = 100
"""Columns of a terminal below which marks and names of sweeps are folded, so that no number is cut."""


def _build_effect_table(findings: "Sequence[SweepVerdict]", headings: Sequence[str], width: int) -> Table:
    """Build the table of one effect, which the heading names; in 80 columns the marks stand below the verdicts."""
    from gapctl.report.compare_page import format_verdict_cells

    rows = [[cell.translate(ASCII_REPLACEMENTS) for cell in format_verdict_cells(finding)] for finding in findings]
    table = Table(box=None, pad_edge=False)
    for index, name in enumerate([headings[0], *headings[2:]]):
        numbers = [len(row[index + 1]) for row in rows] if index > 1 else []
        least = max(len(name), *numbers) if numbers else len("inconclusive") if index == 1 else None
        table.add_column(
            name,
            overflow="fold",
            no_wrap=index > 1,
            width=least if width < NARROW else None,
            min_width=least,
            justify="right" if index > 1 else "left",
        )
    for finding, (sweep, _, word, *others) in zip(findings, rows, strict=True):
        table.add_row(Text(sweep), Text(word, style=VERDICT_STYLES[finding.verdict.verdict]), *others)
    return table


def _print_lines(lines: Sequence[str], console: Console) -> None:
    for line in lines:
        said = textwrap.fill(line, max(console.width, MIN_WIDTH), subsequent_indent="  ")
        console.print(Text(said))
