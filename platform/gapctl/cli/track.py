"""`gapctl track sync`: rebuild what MLflow shows from the ledger."""

from typing import Annotated

import typer

from gapctl.cli.console import SafeConsole
from gapctl.cli.options import (
    DEFAULT_RUNS,
    RunsOption,
    ScaleOption,
    SetOption,
    SweepFileArgument,
    load_plan_or_drawn_points,
    read_search_record,
)
from gapctl.cli.report_contents import (
    analyze_for_report,
    read_run_record_with_pages,
    summarise_run,
    summarise_search,
)
from gapctl.io.passwords import hide_password
from gapctl.ledger import Ledger, LedgerSnapshot
from gapctl.plan.plan import Plan
from gapctl.tracking.mlflow_sync import sync_sweep
from gapctl.tracking.views import SweepFindings

track_app = typer.Typer(
    name="track",
    help="MLflow as a view of the ledger.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)


@track_app.callback()
def group_track_verbs() -> None:
    """MLflow as a view of the ledger."""


@track_app.command("sync")
def sync_command(
    file: SweepFileArgument,
    scale: ScaleOption = None,
    overrides: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    uri: Annotated[
        str | None, typer.Option("--uri", help="The store, instead of the sweep file's tracking.uri.")
    ] = None,
) -> None:
    """Rebuild a sweep's runs in MLflow from the ledger; what is there already stays."""
    ledger, console = Ledger(runs), SafeConsole()
    plan = load_plan_or_drawn_points(file, scale, overrides, ledger)
    store = uri or plan.sweep.spec.tracking.uri
    with console.status("reading the ledger, writing MLflow"):
        synced = sync_sweep(plan, ledger, store, lambda: _summarise_findings(plan, ledger))
    shown = synced.created + synced.updated + synced.unchanged
    counts = f"{synced.created} created, {synced.updated} updated, {synced.unchanged} unchanged"
    waiting = "1 trial has" if synced.missing == 1 else f"{synced.missing} trials have"
    missing = f"; {waiting} not begun" if synced.missing else ""
    where = f"{plan.sweep.spec.name} at {hide_password(store)}"
    console.print(f"{where}: {'1 run' if shown == 1 else f'{shown} runs'}: {counts}{missing}", soft_wrap=True)


def _summarise_findings(plan: Plan, ledger: Ledger) -> SweepFindings | None:
    """Summarise a sweep or search for its own run in MLflow: verdicts or best point, and the report.

    Return None before a trial is done.
    """
    snapshot = LedgerSnapshot(ledger.root)
    if plan.sweep.spec.search is not None:
        record = read_search_record(plan, snapshot)
        return summarise_search(plan, record, snapshot) if record is not None else None
    analysis = analyze_for_report(plan, snapshot)
    return summarise_run(analysis, read_run_record_with_pages(plan, snapshot)) if len(analysis.trials) else None
