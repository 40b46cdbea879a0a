"""Interventions on a terminal: the answer first, then every intervention in a row, then how the answer came about."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gapctl.interventions.answer import ClosingAnswer
    from gapctl.interventions.judge import Judged, Judgement
    from gapctl.interventions.verdict import Verdict

MARKS: Final[dict["Verdict", str]] = {
    "helps": "^",
    "harms": "v",
    "no difference that counts": "=",
    "inconclusive": "?",
}
STYLES: Final[dict[str, str]] = {"^": "green", "v": "red"}
GAPS: Final = ("gap/l2m", "gap/rmg")
LEGEND: Final = (
    "Change against nothing, in points (hundredths):\n^ helps, v harms, = no difference that counts, ? inconclusive"
)


def print_judgement(judgement: "Judgement", answer: "ClosingAnswer", title: str) -> None:
    """Prints answer, table, intervals, and what could not be done."""
    from gapctl.cli.safe_console import SafeConsole
    from gapctl.cli.terminal import plain_console
    from gapctl.report.closing.words import QUESTION, measure_line, sentence, split_words

    plain = plain_console()
    plain.print(f"{QUESTION} {sentence(answer, judgement)}")
    plain.print(f"{title}; {split_words(judgement)}\n")
    _print_table(SafeConsole(), judgement)
    plain.print(LEGEND)
    if answer.closing:
        plain.print(f"\nThe gap is at most half as wide after {', '.join(answer.closing)}:")
    for measure in answer.measures:
        plain.print(f"  {measure_line(measure)}")
    for judged in judgement.judged:
        if judged.impossible:
            plain.print(f"{judged.name}: not applied: {judged.impossible}")


def _print_table(console: "Console", judgement: "Judgement") -> None:
    from gapctl.interventions.answer import main_qualities
    from gapctl.report.closing.words import in_points

    keys = main_qualities(judgement)
    table = _headed(keys)
    before = judgement.before
    values = (f"{in_points(key, before[key]):.1f}  " for key in keys)
    table.add_row("nothing", *(f"{before[key]:.3f}" for key in GAPS), *values)
    for judged in judgement.judged:
        if judged.changes:
            gaps = (f"{judged.changes[key].value:.3f}" for key in GAPS)
            table.add_row(judged.name, *gaps, *(_cell(judged, key) for key in keys))
    console.print(table)


def _headed(keys: Sequence[str]) -> "Table":
    from rich.table import Table

    from gapctl.report.closing.words import heading

    table = Table("", box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in map(heading, (*GAPS, *keys)):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _cell(judged: "Judged", key: str) -> "Text":
    from rich.text import Text

    from gapctl.report.closing.words import in_points, signed

    change = judged.changes[key]
    mark = MARKS[change.verdict]
    return Text(f"{signed(in_points(key, change.change))} {mark}", style=STYLES.get(mark, ""))
