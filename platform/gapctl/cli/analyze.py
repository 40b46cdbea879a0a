"""`gapctl analyze`: the verdicts of sweeps from their ledger, side by side where there are several; trains nothing."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gapctl.cli.analysis_document import combined_document, document, search_document
from gapctl.cli.judging import Histories, Wanted, judge
from gapctl.cli.options import DEFAULT_RUNS, JsonOption, RunsOption, ScaleOption, SetOption
from gapctl.cli.report_file import Format, Report, report_asked, write_report
from gapctl.cli.table_file import check_table_file, write_table
from gapctl.errors import InputError

if TYPE_CHECKING:
    from gapctl.analysis.combined import Combined
    from gapctl.ledger import Ledger
    from gapctl.plan.trials import Plan

FilesArgument = Annotated[
    list[Path] | None,
    typer.Argument(help="Sweeps: files, or names such as imbalance.", show_default=False, metavar="[FILE]..."),
]
AllOption = Annotated[bool, typer.Option("--all", help="Every sweep that the ledger keeps, without its files.")]
DeclaredOption = Annotated[
    bool, typer.Option("--declared", help="Judge sweeps as they stood before their first trials began.")
]
FormatOption = Annotated[
    Format | None, typer.Option("--format", help="Of the report; `latex` is the verdict table alone.")
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Write the report: one HTML file that needs no network, or what its ending says."),
]
ExportOption = Annotated[
    Path | None, typer.Option("--export", help="Write a row per trial.", metavar="FILE.parquet|FILE.csv")
]
ExportHistoryOption = Annotated[
    Path | None, typer.Option("--export-history", help="Write a row per evaluation.", metavar="FILE.parquet|FILE.csv")
]


def analyze_command(
    files: FilesArgument = None,
    every: AllOption = False,
    declared: DeclaredOption = False,
    scale: ScaleOption = None,
    overrides: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    as_json: JsonOption = False,
    form: FormatOption = None,
    out: OutOption = None,
    export: ExportOption = None,
    export_history: ExportHistoryOption = None,
) -> None:
    """Judge sweeps' hypotheses by the trials that are done; several are compared, each with its own verdicts."""
    _check(files, scale, overrides, every=every, declared=declared)
    report = report_asked(form, out)
    tables = {"--export": export, "--export-history": export_history}
    for option, path in tables.items():
        if path is not None:
            check_table_file(option, path)
    from gapctl.ledger import AsRead

    ledger, histories = AsRead(runs), _histories(report, export_history)
    judged = judge(Wanted(tuple(files or ()), scale, tuple(overrides or ()), histories, declared), ledger)
    from gapctl.analysis.combined import combine

    found = combine(*judged)
    written = [] if report is None else [f"report: {write_report(report, found, ledger)}"]
    written += [_export(option, path, found) for option, path in tables.items() if path is not None]
    several = every or len(files or ()) > 1
    if as_json:
        typer.echo(json.dumps(_document(found, ledger, several=several), indent=1, allow_nan=False))
    else:
        _print(found, ledger, written)
    _conclude(found)


def _check(
    files: list[Path] | None, scale: str | None, overrides: list[str] | None, *, every: bool, declared: bool
) -> None:
    """The arguments that contradict each other, or are missing."""
    given = [*map(str, files or ()), *(["--scale"] if scale else []), *(["--set"] if overrides else [])]
    if every and given:
        raise InputError(
            f"--all: found {', '.join(given)} beside it; expected it alone, as it judges every sweep and scale as the "
            "ledger keeps them. Leave either out"
        )
    if declared and overrides:
        raise InputError(
            f"--declared: found --set {overrides[0]} beside it; expected it without, as what was declared has the "
            "options of then. Leave either out"
        )
    if not every and not files:
        raise InputError("gapctl analyze: found no sweep file; expected one or more, or --all for the whole ledger")


def _histories(report: Report | None, export: Path | None) -> Histories:
    """The page of several sweeps shows verdicts alone, that of one also how trainings went."""
    if export is not None or (report is not None and report.format is Format.MARKDOWN):
        return "always"
    return "never" if report is None or report.format is Format.LATEX else "of one sweep"


def _document(found: "Combined", ledger: "Ledger", *, several: bool) -> dict[str, object]:
    if several:
        return combined_document(found)
    judged = found.sweeps[0]
    told = document(judged.analysis, judged.damaged)
    if judged.plan.sweep.spec.search is None:
        return told
    from gapctl.cli.drawn import record_of

    record = record_of(judged.plan, ledger)
    return told | ({"search": search_document(record)} if record is not None else {})


def _export(option: str, path: Path, found: "Combined") -> str:
    from gapctl.analysis.export import history_table, trials_table

    table = (trials_table if option == "--export" else history_table)(found.sweeps)
    write_table(option, path, table)
    return f"{len(table):,} rows: {path}"


def _print(found: "Combined", ledger: "Ledger", written: list[str]) -> None:
    from gapctl.cli.comparison_table import print_comparison, print_sweep
    from gapctl.cli.safe_console import SafeConsole

    console = SafeConsole()
    if len(found.sweeps) == 1 and found.sweeps[0].plan.sweep.spec.search is not None:
        _print_search(found.sweeps[0].plan, ledger)
    elif len(found.sweeps) == 1:
        print_sweep(found.sweeps[0], ledger, console)
    else:
        print_comparison(found, ledger, console)
    for line in written:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _print_search(plan: "Plan", ledger: "Ledger") -> None:
    from gapctl.cli.drawn import record_of
    from gapctl.cli.search_table import print_search

    if (record := record_of(plan, ledger)) is not None:
        print_search(plan, record)


def _conclude(found: "Combined") -> None:
    """What is damaged or could not be judged is said last, where nobody overlooks it."""
    problems = [*(line for judged in found.sweeps for line in judged.damaged), *found.not_judged]
    for problem in dict.fromkeys(problems):
        typer.echo(f"gapctl: {problem}", err=True)
    if problems:
        raise typer.Exit(1)
