"""The verdicts on a terminal: a table to compare them by, then each claim with its effect and its reason."""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gapctl.analysis.compare import Combined, Comparison, Judged, SweepVerdict
    from gapctl.analysis.preregistration import Declared
    from gapctl.analysis.results import Analysis, FirstQuestion, Outcome, Verdict
    from gapctl.ledger import Ledger
    from gapctl.ledger.search_record import SearchRecord


STYLES: Final[dict["Outcome", str]] = {"supported": "green", "refuted": "red", "inconclusive": "yellow"}
ASCII: Final = str.maketrans({"−": "-", "–": "-", "τ": "tau"})
SIGNS: Final = {"exploratory": "*", "redesigned": "^", "not learned": "!"}
"""Marks in a column that has no room for words."""
HASH_DIGITS = 12
NARROWEST = 20
GAP: Final = "  "


def print_verdicts(analysis: "Analysis", console: "Console") -> None:
    """Prints question, verdicts, reasons, and whether the hypotheses were declared in time."""
    from rich.text import Text

    from gapctl.report.text import redesign_lines

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
    from gapctl.report.text import confidence

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

    from gapctl.report.text import effect_name, in_brackets, mark_lines, settling

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
    from gapctl.report.text import aligned, p_value

    estimate, low, high = aligned([verdict.estimate, *verdict.ci])
    interval = f"{low} to {high}" if math.isfinite(verdict.ci.low) else low
    return [text.translate(ASCII) for text in (estimate, interval, p_value(verdict.p))]


def print_sweep(judged: "Judged", ledger: "Ledger", console: "Console") -> None:
    """A sweep's verdicts and what was run for them."""
    from rich.table import Table
    from rich.text import Text

    from gapctl.report.page_parts import run_facts

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

    from gapctl.report.compare_page import difference_lines, shared_lines

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

    from gapctl.report.compare_page import heading, headings, level_note

    if not comparisons:
        console.print("No response and factor is judged by more than one sweep.", highlight=False)
    for comparison in comparisons:
        for effect in dict.fromkeys(finding.effect for finding in comparison.findings):
            console.print(Text(f"\n{heading(comparison)}; {effect}".translate(ASCII)))
            findings = [finding for finding in comparison.findings if finding.effect == effect]
            console.print(_table(findings, headings(comparison)))
        notes = [level_note(comparison), footnote([finding.verdict for finding in comparison.findings])]
        _print_lines([note for note in notes if note], console)


def _table(findings: "Sequence[SweepVerdict]", headings: Sequence[str]) -> "Table":
    """Of one effect, which the heading names, so that a table fits into 80 columns."""
    from rich.table import Table
    from rich.text import Text

    from gapctl.report.compare_page import finding_cells

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


def document(analysis: "Analysis", damaged: tuple[str, ...]) -> dict[str, Any]:
    """One sweep: the verdicts and what they rest on; what is no number is null."""
    hashes = ("spec_sha256", "hypotheses_sha256", "declared_sha256")
    fields = ("sweep", "question", "scale", "alpha", *hashes, "deviation")
    found = {
        "verdicts": [_verdict(verdict) for verdict in analysis.verdicts],
        **{name: getattr(analysis, name) for name in fields},
        "trials_done": len(analysis.trials),
        "trials_planned": analysis.planned,
        "damaged": damaged,
        "declared": None if analysis.declared is None else _declared(analysis.declared),
        "first_question": None if analysis.first_question is None else _first_question(analysis.first_question),
        "learning": [vars(check) for check in analysis.learning],
    }
    return {name: _plain(value) for name, value in found.items()}


def combined_document(combined: "Combined") -> dict[str, Any]:
    """Several sweeps: each one's own document with the trials that it misses, then what sets them side by side."""
    return {
        "sweeps": [_sweep(judged) for judged in combined.sweeps],
        "comparisons": [_comparison(found) for found in combined.comparisons if len(found.sweeps) > 1],
        "shared_trials": [{"sweeps": list(shared.sweeps), "trials": list(shared.trials)} for shared in combined.shared],
        "differences": [
            {"what": found.what, "values": {name: list(values) for name, values in found.values.items()}}
            for found in combined.differences
        ],
        "not_judged": list(combined.not_judged),
    }


def search_document(record: "SearchRecord") -> dict[str, Any]:
    """What a search drew and found; a value that is no number is null."""
    best = record.best
    drawn = [vars(one) for one in record.ranked]
    found = {**vars(record), "drawn": drawn, "best": None if best is None else vars(best)}
    return {name: _plain(value) for name, value in found.items()}


def _verdict(verdict: "Verdict") -> dict[str, Any]:
    not_learned = [vars(check) for check in verdict.not_learned]
    first = None if verdict.first_answer is None else verdict.first_answer._asdict()
    return {**vars(verdict), "marks": list(verdict.marks), "not_learned": not_learned, "first_answer": first}


def _first_question(first: "FirstQuestion") -> dict[str, Any]:
    return {**vars(first), "answers": [_verdict(one) for one in first.answers]}


def _declared(declared: "Declared") -> dict[str, Any]:
    return {**vars(declared), "changed": [change._asdict() for change in declared.changed]}


def _sweep(judged: "Judged") -> dict[str, Any]:
    missing = [{"id": trial.id, "label": trial.label} for trial in judged.missing]
    return {"name": judged.name, **document(judged.analysis, judged.damaged), "missing": missing}


def _comparison(found: "Comparison") -> dict[str, Any]:
    findings = [_finding(finding) for finding in found.findings]
    return {"response": found.response, "factor": found.factor, "findings": findings}


def _finding(finding: "SweepVerdict") -> dict[str, Any]:
    fields = ("id", "verdict", "estimate", "ci", "p", "p_direction", "replicates", "seeds", "exploratory", "marks")
    told = {name: _plain(getattr(finding.verdict, name)) for name in fields}
    return {"sweep": finding.sweep, "effect": finding.effect, "alpha": finding.alpha, **told}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
