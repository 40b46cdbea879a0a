"""`gapctl track sync`: rebuilds what MLflow shows from the ledger."""

from typing import TYPE_CHECKING, Annotated

import typer

from gapctl.cli.options import DEFAULT_RUNS, RunsOption, ScaleOption, SetOption, SweepFileArgument

if TYPE_CHECKING:
    from rich.console import Console

    from gapctl.ledger import Ledger
    from gapctl.plan.plan import Plan
    from gapctl.tracking.mlflow_sync import Synced
    from gapctl.tracking.views import Findings

track_app = typer.Typer(name="track", help="MLflow as a view of the ledger.", no_args_is_help=True)


@track_app.callback()
def track() -> None:
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
    from gapctl.cli.console import SafeConsole
    from gapctl.cli.options import plan_in
    from gapctl.config.base import without_password
    from gapctl.ledger import Ledger
    from gapctl.tracking.mlflow_sync import sync

    ledger, console = Ledger(runs), SafeConsole()
    plan = plan_in(file, scale, overrides, ledger)
    store = uri or plan.sweep.spec.tracking.uri
    with console.status("reading the ledger, writing MLflow"):
        synced = sync(plan, ledger, store, lambda: tracking_findings(plan, ledger))
    _print(synced, f"{plan.sweep.spec.name} at {without_password(store)}", console)


def tracking_findings(plan: "Plan", ledger: "Ledger") -> "Findings | None":
    """The verdicts, or what a search found, and the report, as the sweep's own run shows them; None before a trial is
    done."""
    from gapctl.analysis.analyze import analyze
    from gapctl.cli.options import record_of
    from gapctl.cli.run_record import background_of, findings_of, search_findings
    from gapctl.ledger import AsRead

    as_read = AsRead(ledger.root)
    if plan.sweep.spec.search is not None:
        record = record_of(plan, as_read)
        return search_findings(plan, record, as_read) if record is not None else None
    analysis = analyze(plan, as_read)
    return findings_of(analysis, background_of(plan, as_read)) if len(analysis.trials) else None


def _print(synced: "Synced", what: str, console: "Console") -> None:
    shown = synced.created + synced.updated + synced.unchanged
    runs = "1 run" if shown == 1 else f"{shown} runs"
    counts = f"{synced.created} created, {synced.updated} updated, {synced.unchanged} unchanged"
    waiting = "1 trial has" if synced.missing == 1 else f"{synced.missing} trials have"
    missing = f"; {waiting} not begun" if synced.missing else ""
    console.print(f"{what}: {runs}: {counts}{missing}", highlight=False, markup=False, soft_wrap=True)
