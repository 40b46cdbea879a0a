"""`gapctl intervene`: close the gap of given embeddings after the fact, and judge whether that helps.

`intervene_command` loads the inputs, fits and judges every candidate (`gapctl.interventions`), and prints the answer,
writes the page or prints JSON.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer
from rich.table import Table
from rich.text import Text

from gapctl.cli.console import SafeConsole, make_plain_console
from gapctl.cli.inputs import InputOptions, Inputs, ReportOption, add_input_options, load_requested_embeddings
from gapctl.cli.options import JsonOption
from gapctl.cli.output import check_page_file_name, print_json_or_text, write_page
from gapctl.errors import InputError

if TYPE_CHECKING:
    from gapctl.interventions.judge import ChangeVerdict, ClosingAnswer, InterventionReport, InterventionResult


Number = TypeVar("Number", int, float)


@add_input_options
def intervene_command(
    asked: InputOptions,
    calibration: Annotated[
        float,
        typer.Option("--calibration", help="Share of the images that interventions are fitted on.", metavar="SHARE"),
    ] = 0.5,
    seed: Annotated[int, typer.Option("--seed", help="Decides the split and the resamples.", min=0)] = 0,
    lambdas: Annotated[
        str | None,
        typer.Option(
            "--lambdas",
            help="How far to shift along the mean difference: 0 is nothing, 1 closes it. "
            "If left out: -0.5, 0, 0.25, 0.5, 0.75, 1, 1.25, 1.5 and 2.",
            metavar="L,L,...",
        ),
    ] = None,
    remove: Annotated[
        str | None,
        typer.Option(
            "--remove",
            help="How many of the dimensions that carry the gap to remove. "
            "If left out: 1, 3, 10 and 30, as far as that is at most half of them.",
            metavar="K,K,...",
        ),
    ] = None,
    ideal_words: Annotated[
        bool,
        typer.Option(
            "--ideal-words",
            help="Also replace texts by sums of ideal words: a trial on MAD, an evaluation set of kind composition, or "
            "labelled texts. Pairs of object and attribute are then judged too, and the object bias of texts.",
        ),
    ] = False,
    as_json: JsonOption = False,
    report: ReportOption = None,
) -> None:
    """Does closing the gap help here? Interventions on the same inputs that `gapctl measure` takes.

    Each intervention is fitted on one part of the images and judged on the others, against doing nothing: shifts
    along the difference of the means, centring and standardising each modality, removing the dimensions that carry
    the gap, removing its direction, and with --ideal-words replacing texts. Every change has a 95 % interval from
    paired resampling that holds for all interventions at once, and a verdict: helps, harms, no difference that counts,
    or inconclusive.
    """
    shifts, removals = _parse_numbers("--lambdas", lambdas, float), _parse_numbers("--remove", remove, int)
    check_page_file_name("--report", report)
    inputs = load_requested_embeddings(asked, pairs=ideal_words)
    from gapctl.interventions.fit import SHIFT_LAMBDAS, list_candidates, list_default_removal_counts
    from gapctl.interventions.judge import judge_closing, judge_interventions

    tried = list_candidates(
        SHIFT_LAMBDAS if shifts is None else shifts,
        list_default_removal_counts(inputs.embeddings.image_ND.shape[1]) if removals is None else removals,
        ideal_words=ideal_words,
    )
    with make_plain_console(stderr=True).status("fitting and judging"):
        judgement = judge_interventions(inputs.embeddings, inputs.zero_shot, tried, calibration, seed)
    answer = judge_closing(judgement)
    if report is not None:
        _write_report(report, judgement, answer, inputs)
    print_json_or_text(
        _build_judgement_document(judgement, answer, inputs, calibration),
        lambda: _print_judgement(judgement, answer, inputs, report),
        as_json,
        allow_nan=False,
    )


def _parse_numbers(option: str, written: str | None, kind: Callable[[str], Number]) -> tuple[Number, ...] | None:
    """Parse comma-separated numbers; return None where the option was left out."""
    if written is None:
        return None
    try:
        return tuple(kind(part) for part in written.split(","))
    except ValueError as error:
        expected = "whole numbers such as 1,3,10" if kind is int else "numbers such as 0,0.5,1"
        raise InputError(f"{option} {written}: expected {expected}, with commas between them") from error


def _write_report(out: Path, judgement: "InterventionReport", answer: "ClosingAnswer", inputs: Inputs) -> None:
    from gapctl.interventions.bootstrap import CONFIDENCE_LEVEL, RESAMPLES
    from gapctl.interventions.judge import list_main_qualities
    from gapctl.report.intervene_page import describe_split, render_intervene_page

    record = {name: str(value) for name, value in inputs.facts.items() if isinstance(value, str | int)}
    record |= {
        "split": describe_split(judgement),
        "intervals": f"{CONFIDENCE_LEVEL:.0%} from {RESAMPLES:,} paired resamples",
    }
    page = render_intervene_page(judgement, answer, list_main_qualities(judgement), inputs.title, record)
    write_page("--report", out, page)


def _build_judgement_document(
    judgement: "InterventionReport", answer: "ClosingAnswer", inputs: Inputs, calibration: float
) -> dict[str, object]:
    from gapctl.interventions.bootstrap import CONFIDENCE_LEVEL, RESAMPLES
    from gapctl.interventions.judge import get_smallest_effect
    from gapctl.report.intervene_page import summarise_answer

    return {
        "answer": {
            "answer": answer.answer,
            "sentence": summarise_answer(answer, judgement),
            "closing": answer.closing,
            "measures": {
                measure.key: {"found": measure.found, "helping": measure.helping, "harming": measure.harming}
                for measure in answer.measures
            },
        },
        "before": judgement.before,
        "above_chance": judgement.is_above_chance,
        "chances": judgement.chances,
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
        "intervals": {
            "level": CONFIDENCE_LEVEL,
            "resamples": RESAMPLES,
            "simultaneous_over": "the interventions of a measure",
        },
        "smallest_effects": {key: get_smallest_effect(key) for key in judgement.before},
        "inputs": inputs.facts,
    }


VERDICT_MARKS: Final[dict["ChangeVerdict", str]] = {
    "helps": "^",
    "harms": "v",
    "no difference that counts": "=",
    "inconclusive": "?",
}
MARK_STYLES: Final[dict[str, str]] = {"^": "green", "v": "red"}
GAP_METRICS: Final = ("gap/l2m", "gap/rmg")
TABLE_QUALITIES: Final = 7
"""Qualities beside the gaps in a table that fits into 80 columns; others stand in a second one."""
LEGEND: Final = (
    "Change against nothing, in points (hundredths):\n^ helps, v harms, = no difference that counts, ? inconclusive"
)


def _print_judgement(
    judgement: "InterventionReport", answer: "ClosingAnswer", inputs: Inputs, report: Path | None
) -> None:
    from gapctl.interventions.judge import list_main_qualities
    from gapctl.report.intervene_page import (
        QUESTION,
        describe_ideal_words,
        describe_measure_answer,
        describe_split,
        summarise_answer,
    )

    plain = make_plain_console()
    plain.print(f"{QUESTION} {summarise_answer(answer, judgement)}")
    if words := describe_ideal_words(judgement):
        plain.print(words)
    plain.print(f"{inputs.title}; {describe_split(judgement)}\n")
    keys = list_main_qualities(judgement)
    SafeConsole().print(_build_change_table(judgement, (*GAP_METRICS, *keys[:TABLE_QUALITIES])))
    if keys[TABLE_QUALITIES:]:
        SafeConsole().print(_build_change_table(judgement, keys[TABLE_QUALITIES:]))
    plain.print(LEGEND)
    if answer.closing:
        plain.print(f"\nThe gap is at most half as wide after {', '.join(answer.closing)}:")
    for measure in answer.measures:
        plain.print(f"  {describe_measure_answer(measure)}")
    for judged in judgement.judged:
        if judged.impossible:
            plain.print(f"{judged.name}: not applied: {judged.impossible}")
    for line in (*inputs.notes, *([f"report: {report}"] if report is not None else [])):
        plain.print(line)


def _build_change_table(judgement: "InterventionReport", keys: Sequence[str]) -> Table:
    """Return the table of these measures: gaps as they are, all others as changes in points."""
    from gapctl.report.intervene_page import convert_to_percentage_points, label_measure

    table = Table("", box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in map(label_measure, keys):
        table.add_column(name, justify="right", no_wrap=True)
    before = (
        f"{judgement.before[key]:.3f}"
        if key in GAP_METRICS
        else f"{convert_to_percentage_points(key, judgement.before[key]):.1f}  "
        for key in keys
    )
    table.add_row("nothing", *before)
    for judged in judgement.judged:
        if judged.changes:
            table.add_row(judged.name, *(_format_cell(judged, key) for key in keys))
    return table


def _format_cell(judged: "InterventionResult", key: str) -> Text:
    from gapctl.report.intervene_page import convert_to_percentage_points, format_signed

    change = judged.changes[key]
    if key in GAP_METRICS:
        return Text(f"{change.value:.3f}")
    mark = VERDICT_MARKS[change.verdict]
    return Text(
        f"{format_signed(convert_to_percentage_points(key, change.change))} {mark}", style=MARK_STYLES.get(mark, "")
    )
