"""`gapctl intervene`: closes the gap of given embeddings after the fact, and says whether that helps."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from gapctl.cli.inputs import Asked, Inputs, load_inputs, takes_inputs
from gapctl.cli.options import JsonOption
from gapctl.cli.output import check_page, write_page
from gapctl.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gapctl.interventions.fit import Candidate
    from gapctl.interventions.judge import ClosingAnswer, Judged, Judgement, Verdict


Number = TypeVar("Number", int, float)

CalibrationOption = Annotated[
    float, typer.Option("--calibration", help="Share of the images that interventions are fitted on.", metavar="SHARE")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Decides the split and the resamples.", min=0)]
LambdasOption = Annotated[
    str | None,
    typer.Option(
        "--lambdas",
        help="How far to shift along the mean difference: 0 is nothing, 1 closes it. "
        "If left out: -0.5, 0, 0.25, 0.5, 0.75, 1, 1.25, 1.5 and 2.",
        metavar="L,L,...",
    ),
]
RemoveOption = Annotated[
    str | None,
    typer.Option(
        "--remove",
        help="How many of the dimensions that carry the gap to remove. "
        "If left out: 1, 3, 10 and 30, as far as that is at most half of them.",
        metavar="K,K,...",
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option("--report", help="Also write a report: one HTML file that needs no network.", metavar="FILE.html"),
]


@takes_inputs
def intervene_command(
    asked: Asked,
    calibration: CalibrationOption = 0.5,
    seed: SeedOption = 0,
    lambdas: LambdasOption = None,
    remove: RemoveOption = None,
    as_json: JsonOption = False,
    report: ReportOption = None,
) -> None:
    """Does closing the gap help here? Interventions on the same inputs that `gapctl measure` takes.

    Each intervention is fitted on one part of the images and judged on the others, against doing nothing: shifts
    along the difference of the means, centring and standardising each modality, removing the dimensions that carry
    the gap, and removing its direction. Every change has a 95 % interval from paired resampling that holds for all
    interventions at once, and a verdict: helps, harms, no difference that counts, or inconclusive.
    """
    from gapctl.cli.output import plain_console

    shifts, removals = _numbers("--lambdas", lambdas, float), _numbers("--remove", remove, int)
    check_page("--report", report)
    inputs = load_inputs(asked)
    tried = _tried(inputs, shifts, removals)
    from gapctl.interventions.judge import does_closing_help, judge

    with plain_console(stderr=True).status("fitting and judging"):
        judgement = judge(inputs.embeddings, inputs.zero_shot, tried, calibration, seed)
    answer = does_closing_help(judgement)
    if report is not None:
        _write_report(report, judgement, answer, inputs)
    if as_json:
        typer.echo(json.dumps(_document(judgement, answer, inputs, calibration), indent=1, allow_nan=False))
    else:
        _print(judgement, answer, inputs, report)


def _numbers(option: str, written: str | None, kind: Callable[[str], Number]) -> tuple[Number, ...] | None:
    """Comma-separated numbers; None where the option was left out."""
    if written is None:
        return None
    try:
        return tuple(kind(part) for part in written.split(","))
    except ValueError as error:
        expected = "whole numbers such as 1,3,10" if kind is int else "numbers such as 0,0.5,1"
        raise InputError(f"{option} {written}: expected {expected}, with commas between them") from error


def _tried(
    inputs: Inputs, shifts: tuple[float, ...] | None, removals: tuple[int, ...] | None
) -> "tuple[Candidate, ...]":
    from gapctl.interventions.fit import LAMBDAS, candidates, usual_removals

    width = inputs.embeddings.image_ND.shape[1]
    return candidates(LAMBDAS if shifts is None else shifts, usual_removals(width) if removals is None else removals)


def _print(judgement: "Judgement", answer: "ClosingAnswer", inputs: Inputs, report: Path | None) -> None:
    from gapctl.cli.output import plain_console

    print_judgement(judgement, answer, inputs.title)
    for line in (*inputs.notes, *([f"report: {report}"] if report is not None else [])):
        plain_console().print(line)


def _write_report(out: Path, judgement: "Judgement", answer: "ClosingAnswer", inputs: Inputs) -> None:
    from gapctl.interventions.bootstrap import LEVEL, RESAMPLES
    from gapctl.interventions.judge import main_qualities
    from gapctl.report.intervene_page import render_closing, split_words

    record = {name: str(value) for name, value in inputs.facts.items() if isinstance(value, str | int)}
    record |= {"split": split_words(judgement), "intervals": f"{LEVEL:.0%} from {RESAMPLES:,} paired resamples"}
    page = render_closing(judgement, answer, main_qualities(judgement), inputs.title, record)
    write_page("--report", out, page)


def _document(judgement: "Judgement", answer: "ClosingAnswer", inputs: Inputs, calibration: float) -> dict[str, Any]:
    """What `--json` prints."""
    from gapctl.interventions.bootstrap import LEVEL, RESAMPLES
    from gapctl.interventions.judge import smallest_effect
    from gapctl.report.intervene_page import sentence

    return {
        "answer": {
            "answer": answer.answer,
            "sentence": sentence(answer, judgement),
            "closing": answer.closing,
            "measures": {
                measure.key: {"found": measure.found, "helping": measure.helping, "harming": measure.harming}
                for measure in answer.measures
            },
        },
        "before": judgement.before,
        "interventions": [
            {
                "name": each.name,
                "family": each.family,
                "amount": each.amount,
                "changes": {key: change._asdict() for key, change in each.changes.items()},
                "impossible": each.impossible or None,
            }
            for each in judgement.judged
        ],
        "split": {
            "calibration": calibration,
            "calibration_images": judgement.calibration_images,
            "held_out_images": judgement.held_out_images,
            "held_out_captions": judgement.held_out_captions or None,
            "dealt": judgement.dealt,
            "seed": judgement.seed,
        },
        "intervals": {"level": LEVEL, "resamples": RESAMPLES, "simultaneous_over": "the interventions of a measure"},
        "smallest_effects": {key: smallest_effect(key) for key in judgement.before},
        "inputs": inputs.facts,
    }


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
    from gapctl.cli.console import SafeConsole
    from gapctl.cli.output import plain_console
    from gapctl.report.intervene_page import QUESTION, measure_line, sentence, split_words

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
    from gapctl.interventions.judge import main_qualities
    from gapctl.report.intervene_page import in_points

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

    from gapctl.report.intervene_page import heading

    table = Table("", box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in map(heading, (*GAPS, *keys)):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _cell(judged: "Judged", key: str) -> "Text":
    from rich.text import Text

    from gapctl.report.intervene_page import in_points, signed

    change = judged.changes[key]
    mark = MARKS[change.verdict]
    return Text(f"{signed(in_points(key, change.change))} {mark}", style=STYLES.get(mark, ""))
