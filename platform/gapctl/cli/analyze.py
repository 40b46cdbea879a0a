"""`gapctl analyze`: the verdicts of a sweep from its ledger, and its report; trains nothing."""

import json
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapctl.cli.options import DEFAULT_RUNS, JsonOption, RunsOption, ScaleOption, SetOption, SweepFileArgument
from gapctl.cli.page_file import write_page
from gapctl.errors import InputError, WorkError

if TYPE_CHECKING:
    from gapctl.analysis.results import Analysis


def analyze_command(
    file: SweepFileArgument,
    scale: ScaleOption = None,
    overrides: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    as_json: JsonOption = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write the report: one HTML file that needs no network.")
    ] = None,
) -> None:
    """Judge a sweep's hypotheses by the trials that are done."""
    from gapctl.cli.context import plan_for
    from gapctl.ledger import Ledger

    plan, ledger = plan_for(file, scale, overrides), Ledger(runs)
    # The statistics take a second to import, and a wrong file should not wait for them.
    from gapctl.analysis.analyze import analysis_of
    from gapctl.analysis.table import read_tables

    declaration = ledger.declaration(plan.sweep.spec.name)
    tables = read_tables(plan, ledger)
    if tables.trials.is_empty():
        raise _nothing(_sweep_command(file, scale, overrides, runs), runs, tables.damaged)
    analysis = analysis_of(plan, tables, declaration, runs)
    if out is not None:
        _write_report(analysis, out)
    if as_json:
        typer.echo(json.dumps(document(analysis, tables.damaged), indent=1, allow_nan=False))
    else:
        _print(analysis, out)
    for problem in tables.damaged:
        typer.echo(f"gapctl: {problem}", err=True)
    if tables.damaged:
        raise typer.Exit(1)


def document(analysis: "Analysis", damaged: tuple[str, ...]) -> dict[str, Any]:
    """What `--json` prints: the verdicts and what they rest on; what is no number is null."""
    hashes = ("spec_sha256", "hypotheses_sha256", "declared_sha256")
    fields = ("sweep", "question", "scale", "alpha", *hashes, "deviation")
    found = {
        "verdicts": [vars(verdict) for verdict in analysis.verdicts],
        **{name: getattr(analysis, name) for name in fields},
        "trials_done": len(analysis.trials),
        "trials_planned": analysis.planned,
        "damaged": damaged,
    }
    return {name: _plain(value) for name, value in found.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print(analysis: "Analysis", out: Path | None) -> None:
    from rich.console import Console

    from gapctl.cli.verdict_table import print_verdicts

    console = Console()
    print_verdicts(analysis, console)
    if out is not None:
        console.print(f"report: {out}", highlight=False, markup=False, soft_wrap=True)


def _write_report(analysis: "Analysis", out: Path) -> None:
    from gapctl.report.page import render_report

    write_page("--out", out, render_report(analysis))


def _nothing(command: str, runs: str, damaged: tuple[str, ...]) -> Exception:
    if damaged:
        return WorkError("\n".join(damaged))
    return InputError(f"{runs}: no finished trial of this sweep, so there is nothing to judge; run `{command}` first")


def _sweep_command(file: Path, scale: str | None, overrides: list[str] | None, runs: str) -> str:
    options = [["--scale", scale]] if scale is not None else []
    options += [["--set", text] for text in overrides or ()]
    options += [["--runs", runs]] if runs != DEFAULT_RUNS else []
    return shlex.join(["gapctl", "sweep", str(file), *(word for option in options for word in option)])
