"""What a report tells beside the analysis: the ledger's record of the run, and where MLflow shows it."""

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gapctl.ledger import Ledger
    from gapctl.plan.trials import Plan
    from gapctl.report.run_record import RunPages, RunRecord

LOCAL_MLFLOW = "http://127.0.0.1:5000"
"""Where `gapctl ui` serves a database, unless it is told otherwise or the port is taken."""


def background_of(plan: "Plan", ledger: "Ledger") -> "RunRecord":
    """Reads the record of a plan's trials."""
    from gapctl.report.run_record import read_record

    return read_record(plan, ledger, run_pages(plan, ledger))


def run_pages(plan: "Plan", ledger: "Ledger") -> "RunPages | None":
    """Where MLflow shows a plan's trials, as the ledger notes it; None where it does not."""
    from gapctl.plan.as_typed import for_ui
    from gapctl.report.run_record import RunPages
    from gapctl.tracking.shown import shown_in
    from gapctl.tracking.uri import is_server

    shown = shown_in(ledger, plan.sweep.spec.name)
    if shown is None:
        return None
    if is_server(shown.uri):
        return RunPages(shown.uri.rstrip("/"), None, shown.pages)
    served = shlex.join(["gapctl", "ui", *for_ui(plan.sweep)])
    return RunPages(LOCAL_MLFLOW, served, shown.pages)
