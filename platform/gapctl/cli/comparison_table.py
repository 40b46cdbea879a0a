"""Several sweeps on a terminal: each by itself, then side by side, with what they share and where they differ."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gapctl.cli.verdict_table import ASCII, NARROWEST, STYLES, footnote, print_verdicts, signs

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from gapctl.analysis.combined import Combined
    from gapctl.analysis.comparison import Comparison, Finding
    from gapctl.analysis.judged import Judged
    from gapctl.ledger import Ledger


def print_sweep(judged: "Judged", ledger: "Ledger", console: "Console") -> None:
    """A sweep's verdicts and what was run for them."""
    from rich.table import Table
    from rich.text import Text

    from gapctl.report.run_facts import run_facts

    print_verdicts(judged.analysis, console)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for fact in run_facts(judged, ledger)[1:]:
        table.add_row(fact.term, Text(fact.said.translate(ASCII)))
    console.print()
    console.print(table)


def print_comparison(combined: "Combined", ledger: "Ledger", console: "Console") -> None:
    """Every sweep, then the comparison."""
    from rich.text import Text

    from gapctl.report.comparison_words import difference_lines, shared_lines

    for judged in combined.sweeps:
        console.print(Text(f"--- {judged.name} ---", style="bold"))
        print_sweep(judged, ledger, console)
        console.print()
    console.print(Text(f"--- {len(combined.sweeps)} sweeps compared, each by its own hypotheses ---", style="bold"))
    _print_tables([found for found in combined.comparisons if len(found.sweeps) > 1], console)
    console.print()
    _print_lines(shared_lines(combined) or ["They share no training."], console)
    _print_lines(difference_lines(combined) or ["They differ in no setting, and were made alike."], console)


def _print_tables(comparisons: "Sequence[Comparison]", console: "Console") -> None:
    from rich.text import Text

    from gapctl.report.comparison_words import heading, headings, level_note

    if not comparisons:
        console.print("No response and factor is judged by more than one sweep.", highlight=False)
    for comparison in comparisons:
        for effect in dict.fromkeys(finding.effect for finding in comparison.findings):
            console.print(Text(f"\n{heading(comparison)}; {effect}".translate(ASCII)))
            findings = [finding for finding in comparison.findings if finding.effect == effect]
            console.print(_table(findings, headings(comparison)))
        notes = [level_note(comparison), footnote([finding.verdict for finding in comparison.findings])]
        _print_lines([note for note in notes if note], console)


def _table(findings: "Sequence[Finding]", headings: Sequence[str]) -> "Table":
    """Of one effect, which the heading names, so that a table fits into 80 columns."""
    from rich.table import Table
    from rich.text import Text

    from gapctl.report.comparison_words import finding_cells

    table = Table(box=None, pad_edge=False)
    for index, name in enumerate([headings[0], *headings[2:]]):
        table.add_column(name, overflow="fold", no_wrap=index > 0, justify="right" if index > 1 else "left")
    for finding in findings:
        sweep, _, _, *numbers = (cell.translate(ASCII) for cell in finding_cells(finding))
        word = finding.verdict.verdict + signs(finding.verdict)
        table.add_row(Text(sweep), Text(word, style=STYLES[finding.verdict.verdict]), *numbers)
    return table


def _print_lines(lines: Sequence[str], console: "Console") -> None:
    from rich.text import Text

    for line in lines:
        said = textwrap.fill(line, max(console.width, NARROWEST), subsequent_indent="  ")
        console.print(Text(said))
