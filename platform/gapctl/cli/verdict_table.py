"""The verdicts on a terminal: a table to compare them by, then each claim with its reason."""

import math
import textwrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gapctl.analysis.results import Analysis, Finding, Verdict

STYLES: Final[dict["Finding", str]] = {"supported": "green", "refuted": "red", "inconclusive": "yellow"}
ASCII: Final = str.maketrans("−–", "--")
HASH_DIGITS = 12
NARROWEST = 20


def print_verdicts(analysis: "Analysis", console: "Console") -> None:
    """Prints question, verdicts, reasons, and whether the hypotheses were declared in time."""
    from rich.text import Text

    console.print(Text(f"{analysis.sweep}: {analysis.question}"))
    if analysis.verdicts:
        console.print(_table(analysis))
        for verdict in analysis.verdicts:
            console.print(_explained(verdict, console.width))
        console.print(Text(f"\n{declared_when(analysis)}"))
    else:
        console.print("The sweep file states no hypotheses, so there is nothing to judge.", highlight=False)
    console.print(Text(f"{len(analysis.trials)} of {analysis.planned} trainings done"))


def declared_when(analysis: "Analysis") -> str:
    """The hypotheses' hash, and whether verdicts on them confirm or explore."""
    declared, now = analysis.declared_sha256, analysis.hypotheses_sha256
    here = f"hypotheses sha256 {now[:HASH_DIGITS]}"
    if declared == now:
        late = f"; exploratory: {analysis.deviation}" if analysis.deviation else ""
        return f"{here}, declared before the first trial{late}"
    if declared is None:
        return f"{here}, exploratory: they were not declared before the first trial"
    return f"{here}, exploratory: those declared before the first trial were {declared[:HASH_DIGITS]}"


def _table(analysis: "Analysis") -> "Table":
    from rich.table import Table
    from rich.text import Text

    from gapctl.report.words import confidence

    table = Table(box=None, pad_edge=False)
    table.add_column("hypothesis", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for name in ("estimate", f"{confidence(analysis.alpha)} interval", "p (Holm)", "seeds"):
        table.add_column(name, no_wrap=True, justify="right")
    for verdict in analysis.verdicts:
        word = Text(verdict.verdict, style=STYLES[verdict.verdict])
        table.add_row(Text(verdict.id), word, *_numbers(verdict), str(verdict.seeds))
    return table


def _explained(verdict: "Verdict", width: int) -> "Text":
    from rich.text import Text

    lines = [verdict.claim, verdict.reason]
    if verdict.seeds_needed is not None:
        lines.append(f"About {verdict.seeds_needed} seeds would settle it, if estimate and spread stay as they are.")
    mark = " (exploratory)" if verdict.exploratory else ""
    said = "".join(f"\n{_indented(line, width)}" for line in lines)
    return Text.assemble("\n", verdict.id, ": ", (verdict.verdict, STYLES[verdict.verdict]), mark, said)


def _indented(line: str, width: int) -> str:
    return textwrap.fill(line, max(width, NARROWEST), initial_indent="  ", subsequent_indent="  ")


def _numbers(verdict: "Verdict") -> list[str]:
    """Estimate, interval and p, with the minus sign that a shell and the reasons know."""
    from gapctl.report.words import aligned, p_value

    estimate, low, high = aligned([verdict.estimate, *verdict.ci])
    interval = f"{low} to {high}" if math.isfinite(verdict.ci.low) else low
    return [text.translate(ASCII) for text in (estimate, interval, p_value(verdict.p_holm))]
