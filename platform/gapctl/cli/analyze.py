"""`gapctl analyze`: judge sweeps from their ledger, side by side where there are several; it trains nothing.

1. `analyze_command` checks the options, finds the plans, from files (`_load_plans`) or from the ledger's declarations
   (`rebuild_plans`), and judges each by itself (`judge_plans`).
2. It prints or exports the results, and exits with 1 where anything is damaged.
3. `_write_report` writes the report that `--out` or `--format` asks for.
"""

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gapctl.analysis.json_output import build_analysis_json, build_comparison_json, build_search_json
from gapctl.analysis.service import judge_plans, rebuild_plans
from gapctl.cli.completion import complete_sweeps
from gapctl.cli.console import SafeConsole
from gapctl.cli.options import (
    DEFAULT_RUNS,
    JsonOption,
    RunsOption,
    ScaleOption,
    SetOption,
    load_plan_or_drawn_points,
    read_search_record,
)
from gapctl.cli.output import (
    build_write_error,
    check_table_file,
    exit_on_problems,
    print_json_or_text,
    write_page,
    write_table,
)
from gapctl.cli.verdict_table import describe_declaration, print_comparison, print_sweep_analysis
from gapctl.errors import GapctlError, InputError, MissingDataError, WorkError
from gapctl.imports import import_without_garbage_collection
from gapctl.ledger import Ledger, LedgerSnapshot
from gapctl.ledger.preregistration import rebuild_declared_plan, rebuild_plan
from gapctl.plan.command_line import build_ledger_arguments
from gapctl.plan.plan import Plan

if TYPE_CHECKING:
    from gapctl.analysis.compare import SweepAnalysis, SweepComparison


class ReportFormat(StrEnum):
    """The formats of a report."""

    HTML = "html"
    MARKDOWN = "md"
    LATEX = "latex"


_REPORT_SUFFIXES: Final = {ReportFormat.HTML: ".html", ReportFormat.MARKDOWN: ".md", ReportFormat.LATEX: ".tex"}
_MODELS_FORMATS: Final = (ReportFormat.HTML, ReportFormat.LATEX)
"""Formats of a cohort's table of models, besides those of any table."""


def analyze_command(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Sweeps: files, or names such as imbalance.",
            show_default=False,
            metavar="[FILE]...",
            autocompletion=complete_sweeps,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every sweep that the ledger keeps, without its files.")] = False,
    declared: Annotated[
        bool, typer.Option("--declared", help="Judge sweeps as they stood before their first trials began.")
    ] = False,
    scale: ScaleOption = None,
    overrides: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    as_json: JsonOption = False,
    form: Annotated[
        ReportFormat | None, typer.Option("--format", help="Of the report; `latex` is the verdict table alone.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the report: one HTML file that needs no network, or what its ending says."),
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write a row per trial.", metavar="FILE.parquet|FILE.csv")
    ] = None,
    export_history: Annotated[
        Path | None,
        typer.Option("--export-history", help="Write a row per evaluation.", metavar="FILE.parquet|FILE.csv"),
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(
            "--models",
            help="Write a row per model of a cohort; .html sorts, .tex is for a paper.",
            metavar="FILE.parquet|FILE.csv|FILE.html|FILE.tex",
        ),
    ] = None,
) -> None:
    """Judge sweeps' hypotheses by the trials that are done; several are compared, each with its own verdicts."""
    _check_arguments(files, scale, overrides, every=every, declared=declared)
    form = choose_report_format(form, out)
    tables = {"--export": export, "--export-history": export_history}
    for option, path in tables.items():
        if path is not None:
            check_table_file(option, path)
    if models is not None:
        check_table_file(
            "--models", models, (_REPORT_SUFFIXES[ReportFormat.HTML], _REPORT_SUFFIXES[ReportFormat.LATEX])
        )
    ledger = LedgerSnapshot(runs)
    problems: list[GapctlError] = []
    if files:
        plans = load_plans(files, scale, overrides, ledger, declared=declared)
    else:
        names = ledger.list_sweeps()
        if not names:
            raise InputError(
                f"--all: {ledger.root} keeps no sweep; expected files that end in .sweep.json, as `gapctl sweep FILE` "
                "writes them. Name the ledger with --runs"
            )
        plans = rebuild_plans(ledger, names, rebuild_declared_plan if declared else rebuild_plan, problems)
    # Histories are most of a ledger, and of all pages only that of a single sweep shows how trainings went.
    shown = form is ReportFormat.MARKDOWN or (form is ReportFormat.HTML and len(plans) == 1 and not problems)
    many = shown and export_history is None and any(map(_has_too_many_histories, plans))
    with_history = (shown and not many) or export_history is not None
    import_without_garbage_collection("gapctl.analysis.compare")  # all that judges: statistics and tables
    sweeps = judge_plans(plans, ledger, problems, with_history=with_history)
    if not sweeps:
        kind = WorkError if any(isinstance(problem, WorkError) for problem in problems) else InputError
        raise kind("\n".join(map(str, problems)))
    from gapctl.analysis.compare import build_history_table, build_trials_table, compare_sweeps

    if many:
        sweeps = [_add_drawn_histories(judged, ledger) for judged in sweeps]
    found = compare_sweeps(sweeps, list(map(str, problems)))
    written = [] if form is None else [f"report: {write_report(form, out, found, ledger)}"]
    for (option, path), build_table in zip(tables.items(), (build_trials_table, build_history_table), strict=True):
        if path is not None:
            table = build_table(found.sweeps)
            write_table(option, path, table)
            written.append(f"{len(table):,} rows: {path}")
    if models is not None:
        written.append(_write_models(models, found))
    several = every or len(files or ()) > 1
    print_json_or_text(
        build_comparison_json(found) if several else _build_document(found.sweeps[0], ledger),
        lambda: _print_analysis(found, ledger, written),
        as_json,
        allow_nan=False,
    )
    damaged = (line for judged in found.sweeps for line in judged.damaged)
    exit_on_problems(dict.fromkeys([*damaged, *found.not_judged]))


def _has_too_many_histories(plan: Plan) -> bool:
    from gapctl.report.many_trainings import has_too_many_histories

    return has_too_many_histories(plan)


def _add_drawn_histories(judged: "SweepAnalysis", ledger: Ledger) -> "SweepAnalysis":
    """Read the histories that the sweep's page draws, and name damaged ones with what else is damaged."""
    from gapctl.report.figures import add_drawn_histories

    shown = add_drawn_histories(judged.analysis, judged.plan, ledger)
    return replace(judged, analysis=shown.analysis, damaged=(*judged.damaged, *shown.damaged))


def _write_models(path: Path, found: "SweepComparison") -> str:
    """Write the models of every cohort, each with its sweep; raise InputError where no model is measured."""
    import polars as pl

    from gapctl.report.cohort_models import build_models_table, map_models_to_pages
    from gapctl.report.models_page import build_cohort_tables, render_models_latex, render_models_page

    tables = build_cohort_tables(found.sweeps)
    if not tables:
        names = ", ".join(judged.name for judged in found.sweeps)
        raise InputError(
            f"--models {path}: found no measured model in {names}; expected a sweep with cohort and finished trials"
        )
    for form, render in zip(_MODELS_FORMATS, (render_models_page, render_models_latex), strict=True):
        if path.suffix == _REPORT_SUFFIXES[form]:
            write_page("--models", path, render(tables))
            return f"{sum(len(table.leaderboard.models) for table in tables):,} models: {path}"
    listed = {table.sweep for table in tables}
    parts = [
        build_models_table(judged.analysis, map_models_to_pages(judged.plan)).select(
            pl.lit(judged.name).alias("sweep"), pl.all()
        )
        for judged in found.sweeps
        if judged.name in listed
    ]
    table = pl.concat(parts, how="diagonal_relaxed")
    write_table("--models", path, table)
    return f"{len(table):,} models: {path}"


def _check_arguments(
    files: list[Path] | None, scale: str | None, overrides: list[str] | None, *, every: bool, declared: bool
) -> None:
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


def choose_report_format(form: ReportFormat | None, out: Path | None) -> ReportFormat | None:
    """Return the requested report's format; raise InputError where the file's ending contradicts it."""
    if out is None:
        return form
    if not out.parent.is_dir():
        raise build_write_error("--out", out, f"there is no folder {out.parent}")
    by_name = {ending: known for known, ending in _REPORT_SUFFIXES.items()}.get(out.suffix)
    if by_name is None or form not in (None, by_name):
        expected = (
            ", ".join(_REPORT_SUFFIXES.values()) if form is None else f"{_REPORT_SUFFIXES[form]}, for --format {form}"
        )
        raise InputError(f"--out {out}: found a name that ends in {out.suffix or 'nothing'}; expected {expected}")
    return by_name


def load_plans(
    files: Sequence[Path], scale: str | None, overrides: Sequence[str] | None, ledger: Ledger, *, declared: bool
) -> list[Plan]:
    """Load the files' plans; with `declared`, as they stood before their first trials."""
    try:
        plans = [load_plan_or_drawn_points(file, scale, overrides, ledger) for file in files]
    except MissingDataError as error:
        if not ledger.list_sweeps():
            raise
        command = shlex.join(["gapctl", "analyze", "--all", *build_ledger_arguments(ledger.root)])
        text = str(error).rstrip(".")
        raise InputError(f"{text}. `{command}` judges all that the ledger keeps, without its data") from error
    first: dict[str, Path] = {}
    for plan in plans:
        name, path = plan.sweep.spec.name, plan.sweep.path
        if name in first:
            raise InputError(
                f"{path}: its sweep is named {name}, as that of {first[name]} is; expected a name for each, since the "
                "ledger keeps what was declared by name. Name one of the files, or change a name and run that sweep: "
                "trials that are done are kept"
            )
        first[name] = path
    return [_rebuild_declared_plan(plan, ledger) for plan in plans] if declared else plans


def _rebuild_declared_plan(plan: Plan, ledger: Ledger) -> Plan:
    name = plan.sweep.spec.name
    declaration = ledger.read_declaration(name)
    if declaration is None:
        raise InputError(
            f"--declared: {ledger.root} has no declaration of {name}; expected {ledger.locate_declaration(name)}, as "
            "`gapctl sweep` writes it. Name the ledger with --runs"
        )
    return rebuild_declared_plan(declaration, plan.sweep.scale_name_or_base, ledger.locate_declaration(name))


def _build_document(judged: "SweepAnalysis", ledger: Ledger) -> dict[str, object]:
    document = build_analysis_json(judged.analysis, judged.damaged, judged.lacking)
    is_search = judged.plan.sweep.spec.search is not None
    if is_search and (record := read_search_record(judged.plan, ledger)) is not None:
        document["search"] = build_search_json(record)
    return document


def _print_analysis(found: "SweepComparison", ledger: Ledger, written: list[str]) -> None:
    console, plan = SafeConsole(), found.sweeps[0].plan
    if len(found.sweeps) > 1:
        print_comparison(found, ledger, console)
    elif plan.sweep.spec.search is None:
        print_sweep_analysis(found.sweeps[0], ledger, console)
    elif (record := read_search_record(plan, ledger)) is not None:
        from gapctl.cli.search import print_search_points

        print_search_points(plan, record)
    for line in (*(line for judged in found.sweeps for line in judged.lacking), *written):
        console.print(line, soft_wrap=True)


def write_report(form: ReportFormat, out: Path | None, found: "SweepComparison", ledger: Ledger) -> str:
    """Write the report and its figures, by default beside the ledger's own report; return where it lies."""
    stem = found.sweeps[0].file_name if len(found.sweeps) == 1 else "comparison"
    name = f"{stem}.report{_REPORT_SUFFIXES[form]}" if out is None else out.name
    files = _render_report_files(form, found, ledger, name)
    if out is None:
        return [ledger.keep(path, content) for path, content in files.items()][-1]
    for path, content in files.items():
        target = out.parent / path
        with suppress(OSError):  # write_page raises the better error
            target.parent.mkdir(parents=True, exist_ok=True)
        write_page("--out", target, content)
    return str(out)


def _render_report_files(form: ReportFormat, found: "SweepComparison", ledger: Ledger, name: str) -> dict[str, bytes]:
    """Render the files by their path, the report last: once it exists, so does everything that it shows."""
    alone = len(found.sweeps) == 1 and not found.not_judged
    if form is ReportFormat.HTML:
        return {name: _render_analysis_page(found, ledger, alone=alone).encode()}
    declared = [describe_declaration(judged.analysis) for judged in found.sweeps]
    if form is ReportFormat.LATEX:
        from gapctl.report.latex import render_latex

        return {name: render_latex(found.sweeps, declared).encode()}
    from gapctl.report.markdown import render_comparison_markdown, render_sweep_markdown

    folder = f"{Path(name).stem}-figures"
    if alone:
        pages = render_sweep_markdown(found.sweeps[0], ledger, folder, declared[0])
    else:
        pages = render_comparison_markdown(found, ledger, folder, declared)
    return {**pages.figures, name: pages.text.encode()}


def _render_analysis_page(found: "SweepComparison", ledger: Ledger, *, alone: bool) -> str:
    from gapctl.cli.report_contents import read_run_record_with_pages, render_search_page
    from gapctl.report.compare_page import render_comparison_page
    from gapctl.report.sweep_page import render_report

    if not alone:
        return render_comparison_page(found, ledger)
    judged = found.sweeps[0]
    is_search = judged.plan.sweep.spec.search is not None
    if is_search and (record := read_search_record(judged.plan, ledger)) is not None:
        return render_search_page(judged.plan, record, ledger)
    return render_report(judged.analysis, read_run_record_with_pages(judged.plan, ledger))
