"""`gapctl analyze`: judge sweeps from their ledger, side by side where there are several; it trains nothing.

1. `analyze_command` checks the options, then prints or exports the results, and exits with 1 where anything is damaged.
2. `judge_sweeps` finds the plans, from files or from the ledger's declarations, and analyses each by itself.
3. `write_report` writes the report that `--out` or `--format` asks for.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple

import typer

from gapctl.cli.options import DEFAULT_RUNS, JsonOption, RunsOption, ScaleOption, SetOption
from gapctl.cli.output import check_table_file, write_page, write_table
from gapctl.cli.verdict_table import build_combined_document, build_search_document, build_sweep_document
from gapctl.errors import GapctlError, InputError, WorkError

if TYPE_CHECKING:
    from gapctl.analysis.compare import SweepAnalysis, SweepComparison
    from gapctl.ledger import Declaration, Ledger
    from gapctl.plan.plan import Plan


HistoryPolicy = Literal["never", "of one sweep", "always"]
"""When to read evaluations over training, which are most of a ledger."""


class AnalysisRequest(NamedTuple):
    """The sweeps to judge, as requested; no files mean all sweeps of the ledger.

    With `declared`, judge them as they stood before their first trials.
    """

    files: tuple[Path, ...]
    scale: str | None
    overrides: tuple[str, ...]
    histories: HistoryPolicy
    declared: bool = False


class JudgedSweeps(NamedTuple):
    """The judged sweeps, and why other requested ones are not among them."""

    sweeps: "tuple[SweepAnalysis, ...]"
    not_judged: tuple[str, ...]


class ReportFormat(StrEnum):
    """The formats of a report."""

    HTML = "html"
    MARKDOWN = "md"
    LATEX = "latex"


_REPORT_SUFFIXES: Final = {ReportFormat.HTML: ".html", ReportFormat.MARKDOWN: ".md", ReportFormat.LATEX: ".tex"}


class ReportTarget(NamedTuple):
    """A report to write: its format and its path; without a path, it goes beside the ledger's own report."""

    format: ReportFormat
    out: Path | None


FilesArgument = Annotated[
    list[Path] | None,
    typer.Argument(help="Sweeps: files, or names such as imbalance.", show_default=False, metavar="[FILE]..."),
]
AllOption = Annotated[bool, typer.Option("--all", help="Every sweep that the ledger keeps, without its files.")]


DeclaredOption = Annotated[
    bool, typer.Option("--declared", help="Judge sweeps as they stood before their first trials began.")
]


FormatOption = Annotated[
    ReportFormat | None, typer.Option("--format", help="Of the report; `latex` is the verdict table alone.")
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
    _check_arguments(files, scale, overrides, every=every, declared=declared)
    report = parse_report_options(form, out)
    tables = {"--export": export, "--export-history": export_history}
    for option, path in tables.items():
        if path is not None:
            check_table_file(option, path)
    from gapctl.ledger import LedgerSnapshot

    ledger, histories = LedgerSnapshot(runs), _choose_histories(report, export_history)
    judged = judge_sweeps(
        AnalysisRequest(tuple(files or ()), scale, tuple(overrides or ()), histories, declared), ledger
    )
    from gapctl.analysis.compare import compare_sweeps

    found = compare_sweeps(*judged)
    written = [] if report is None else [f"report: {write_report(report, found, ledger)}"]
    written += [_export_table(option, path, found) for option, path in tables.items() if path is not None]
    several = every or len(files or ()) > 1
    if as_json:
        typer.echo(json.dumps(_build_analysis_document(found, ledger, several=several), indent=1, allow_nan=False))
    else:
        _print_analysis(found, ledger, written)
    _exit_on_problems(found)


def _check_arguments(
    files: list[Path] | None, scale: str | None, overrides: list[str] | None, *, every: bool, declared: bool
) -> None:
    """Raise InputError for arguments that contradict each other, or are missing."""
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


def _choose_histories(report: ReportTarget | None, export: Path | None) -> HistoryPolicy:
    """Choose when to read histories: only the page of a single sweep shows how trainings went."""
    if export is not None or (report is not None and report.format is ReportFormat.MARKDOWN):
        return "always"
    return "never" if report is None or report.format is ReportFormat.LATEX else "of one sweep"


def _build_analysis_document(found: "SweepComparison", ledger: "Ledger", *, several: bool) -> dict[str, object]:
    if several:
        return build_combined_document(found)
    judged = found.sweeps[0]
    document: dict[str, object] = build_sweep_document(judged.analysis, judged.damaged)
    if judged.plan.sweep.spec.search is None:
        return document
    from gapctl.cli.options import read_search_record

    record = read_search_record(judged.plan, ledger)
    return document | ({"search": build_search_document(record)} if record is not None else {})


def _export_table(option: str, path: Path, found: "SweepComparison") -> str:
    from gapctl.analysis.compare import build_history_table, build_trials_table

    table = (build_trials_table if option == "--export" else build_history_table)(found.sweeps)
    write_table(option, path, table)
    return f"{len(table):,} rows: {path}"


def _print_analysis(found: "SweepComparison", ledger: "Ledger", written: list[str]) -> None:
    from gapctl.cli.console import SafeConsole
    from gapctl.cli.verdict_table import print_comparison, print_sweep

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
    from gapctl.cli.options import read_search_record
    from gapctl.cli.search import print_search

    if (record := read_search_record(plan, ledger)) is not None:
        print_search(plan, record)


def _exit_on_problems(found: "SweepComparison") -> None:
    """Print last what is damaged or could not be judged, where nobody overlooks it, and exit with 1."""
    problems = [*(line for judged in found.sweeps for line in judged.damaged), *found.not_judged]
    for problem in dict.fromkeys(problems):
        typer.echo(f"gapctl: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def judge_sweeps(wanted: AnalysisRequest, ledger: "Ledger") -> JudgedSweeps:
    """Judge each sweep by itself; raise InputError or WorkError where none can be judged."""
    plans, problems = _load_plans(wanted, ledger) if wanted.files else _rebuild_ledger_plans(wanted, ledger)
    sweeps = _judge_each_plan(plans, ledger, wanted.histories, problems)
    if not sweeps:
        kind = WorkError if any(isinstance(problem, WorkError) for problem in problems) else InputError
        raise kind("\n".join(map(str, problems)))
    return JudgedSweeps(tuple(sweeps), tuple(map(str, problems)))


def require_sweeps(ledger: "Ledger") -> None:
    """Raise InputError for a named ledger without any sweep: most often the name is mistyped."""
    if ledger.root != DEFAULT_RUNS and not ledger.list_sweeps():
        expected = "expected a folder that `gapctl sweep FILE --runs` filled"
        raise InputError(f"--runs {ledger.root}: keeps no sweep; {expected}")


def judge_ledger(ledger: "Ledger", histories: HistoryPolicy, names: Sequence[str] | None = None) -> JudgedSweeps:
    """Judge every scale of the ledger's sweeps, or of the named ones, that has finished a training.

    Return no sweeps where there are none.
    """
    from gapctl.ledger.preregistration import rebuild_plan

    known = ledger.list_sweeps()
    plans, problems = _rebuild_plans(
        ledger, known if names is None else [name for name in names if name in known], rebuild_plan
    )
    begun = [plan for plan in plans if ledger.finished([trial.id for trial in plan.trials])]
    return JudgedSweeps(tuple(_judge_each_plan(begun, ledger, histories, problems)), tuple(map(str, problems)))


def _judge_each_plan(
    plans: "Sequence[Plan]", ledger: "Ledger", histories: HistoryPolicy, problems: list[GapctlError]
) -> "list[SweepAnalysis]":
    """Judge the plans one by one; append the errors of those that cannot be judged to `problems`."""
    alone = len(plans) == 1 and not problems
    with_history = histories == "always" or (histories == "of one sweep" and alone)
    sweeps: list[SweepAnalysis] = []
    for plan in plans:
        try:
            sweeps.append(_judge_plan(plan, ledger, with_history=with_history))
        except GapctlError as error:
            problems.append(error)
    return sweeps


def _load_plans(wanted: AnalysisRequest, ledger: "Ledger") -> "tuple[list[Plan], list[GapctlError]]":
    from gapctl.cli.options import load_ledger_plan

    plans = [load_ledger_plan(file, wanted.scale, wanted.overrides, ledger) for file in wanted.files]
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
    return ([_rebuild_declared_plan(plan, ledger) for plan in plans] if wanted.declared else plans), []


def _rebuild_declared_plan(plan: "Plan", ledger: "Ledger") -> "Plan":
    from gapctl.ledger.preregistration import rebuild_declared_plan

    name = plan.sweep.spec.name
    declaration = ledger.read_declaration(name)
    if declaration is None:
        raise InputError(
            f"--declared: {ledger.root} has no declaration of {name}; expected {ledger.locate_declaration(name)}, as "
            "`gapctl sweep` writes it. Name the ledger with --runs"
        )
    return rebuild_declared_plan(declaration, plan.sweep.scale_name, ledger.locate_declaration(name))


def _rebuild_ledger_plans(wanted: AnalysisRequest, ledger: "Ledger") -> "tuple[list[Plan], list[GapctlError]]":
    from gapctl.ledger.preregistration import rebuild_declared_plan, rebuild_plan

    recall = rebuild_declared_plan if wanted.declared else rebuild_plan
    names = ledger.list_sweeps()
    if not names:
        raise InputError(
            f"--all: {ledger.root} keeps no sweep; expected files that end in .sweep.json, as `gapctl sweep FILE` "
            "writes them. Name the ledger with --runs"
        )
    return _rebuild_plans(ledger, names, recall)


def _rebuild_plans(
    ledger: "Ledger", names: Sequence[str], recall: "Callable[[Declaration, str, str], Plan]"
) -> "tuple[list[Plan], list[GapctlError]]":
    """Rebuild the plans of all scales of these sweeps from the ledger."""
    plans: list[Plan] = []
    problems: list[GapctlError] = []
    for name in names:
        for declaration, scale in _list_scales(ledger, name, problems):
            try:
                plans.append(recall(declaration, scale, ledger.locate_declaration(name)))
            except GapctlError as error:
                problems.append(error)
    return plans, problems


def _list_scales(ledger: "Ledger", name: str, problems: "list[GapctlError]") -> "list[tuple[Declaration, str]]":
    """List every scale that a sweep was run at; append the error of a damaged declaration to `problems`."""
    try:
        declaration = ledger.read_declaration(name)
    except GapctlError as error:
        problems.append(error)
        return []
    return [(declaration, scale) for scale in declaration.trials] if declaration else []


def _judge_plan(plan: "Plan", ledger: "Ledger", *, with_history: bool) -> "SweepAnalysis":
    # Importing the statistics takes a second, and the error about a wrong file should not wait for it.
    from gapctl.analysis.analyze import analyze_tables
    from gapctl.analysis.compare import SweepAnalysis
    from gapctl.analysis.tables import read_tables

    tables = read_tables(plan, ledger, with_history=with_history)
    if tables.trials.is_empty():
        raise _build_no_trials_error(plan, ledger, tables.damaged)
    return SweepAnalysis(plan, analyze_tables(plan, tables, ledger), tables.damaged)


def _build_no_trials_error(plan: "Plan", ledger: "Ledger", damaged: Sequence[str]) -> GapctlError:
    from gapctl.report.page_parts import build_commands

    if damaged:
        return WorkError("\n".join(damaged))
    return InputError(
        f"{ledger.root}: no finished trial of {plan.sweep.spec.name}, so there is nothing to judge; run "
        f"`{build_commands(plan, ledger).sweep}` first"
    )


def parse_report_options(form: ReportFormat | None, out: Path | None) -> ReportTarget | None:
    """Return the requested report; raise InputError where the name's ending contradicts the format."""
    if out is None:
        return None if form is None else ReportTarget(form, None)
    if not out.parent.is_dir():
        raise InputError(
            f"--out {out}: cannot be written: there is no folder {out.parent}; expected a file in a folder that exists "
            "and may be written to"
        )
    by_name = {ending: known for known, ending in _REPORT_SUFFIXES.items()}.get(out.suffix)
    if by_name is None or form not in (None, by_name):
        expected = (
            ", ".join(_REPORT_SUFFIXES.values()) if form is None else f"{_REPORT_SUFFIXES[form]}, for --format {form}"
        )
        raise InputError(f"--out {out}: found a name that ends in {out.suffix or 'nothing'}; expected {expected}")
    return ReportTarget(by_name, out)


def write_report(report: ReportTarget, found: "SweepComparison", ledger: "Ledger") -> str:
    """Write the report and its figures; return where it lies."""
    stem = found.sweeps[0].file_name if len(found.sweeps) == 1 else "comparison"
    name = f"{stem}.report{_REPORT_SUFFIXES[report.format]}" if report.out is None else report.out.name
    files = _render_report_files(report.format, found, ledger, name)
    if report.out is None:
        return [ledger.keep(path, content) for path, content in files.items()][-1]
    for path, content in files.items():
        target = report.out.parent / path
        with suppress(OSError):  # write_page raises the better error
            target.parent.mkdir(parents=True, exist_ok=True)
        write_page("--out", target, content)
    return str(report.out)


def _render_report_files(form: ReportFormat, found: "SweepComparison", ledger: "Ledger", name: str) -> dict[str, bytes]:
    """Render the files by their path, the report last: once it exists, so does everything that it shows."""
    if form is ReportFormat.MARKDOWN:
        return _render_markdown_files(found, ledger, name)
    if form is ReportFormat.LATEX:
        from gapctl.report.latex import render_latex

        return {name: render_latex(found.sweeps, _describe_declarations(found)).encode()}
    return {name: _render_html_page(found, ledger).encode()}


def _render_html_page(found: "SweepComparison", ledger: "Ledger") -> str:
    if len(found.sweeps) == 1 and not found.not_judged:
        from gapctl.cli.options import read_search_record
        from gapctl.cli.run_record import read_run_record, render_search_page
        from gapctl.report.sweep_page import render_report

        (judged,) = found.sweeps
        if (
            judged.plan.sweep.spec.search is not None
            and (record := read_search_record(judged.plan, ledger)) is not None
        ):
            return render_search_page(judged.plan, record, ledger)
        return render_report(judged.analysis, read_run_record(judged.plan, ledger))
    from gapctl.report.compare_page import render_comparison_page

    return render_comparison_page(found, ledger)


def _render_markdown_files(found: "SweepComparison", ledger: "Ledger", name: str) -> dict[str, bytes]:
    from gapctl.report.markdown import render_comparison_markdown, render_markdown

    folder, declared = f"{Path(name).stem}-figures", _describe_declarations(found)
    if len(found.sweeps) == 1 and not found.not_judged:
        pages = render_markdown(found.sweeps[0], ledger, folder, declared[0])
    else:
        pages = render_comparison_markdown(found, ledger, folder, declared)
    return {**pages.figures, name: pages.text.encode()}


def _describe_declarations(found: "SweepComparison") -> list[str]:
    from gapctl.cli.verdict_table import describe_declaration

    return [describe_declaration(judged.analysis) for judged in found.sweeps]
