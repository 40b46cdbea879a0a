"""What a report tells beside the analysis: the ledger's record of the run, and where MLflow shows it."""

import json
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gapctl.analysis.results import Analysis
    from gapctl.ledger import Ledger
    from gapctl.ledger.search_record import SearchRecord
    from gapctl.plan.plan import Plan
    from gapctl.report.page_parts import RunPages, RunRecord
    from gapctl.tracking.views import Findings


LOCAL_MLFLOW = "http://127.0.0.1:5000"
"""Where `gapctl ui` serves a database, unless it is told otherwise or the port is taken."""


def background_of(plan: "Plan", ledger: "Ledger") -> "RunRecord":
    """Reads the record of a plan's trials."""
    from gapctl.report.page_parts import read_record

    return read_record(plan, ledger, run_pages(plan, ledger))


def run_pages(plan: "Plan", ledger: "Ledger") -> "RunPages | None":
    """Where MLflow shows a plan's trials, as the ledger notes it; None where it does not."""
    from gapctl.plan.command_line import for_ui
    from gapctl.report.page_parts import RunPages
    from gapctl.tracking.mlflow_sync import shown_in
    from gapctl.tracking.store import is_server

    shown = shown_in(ledger, plan.sweep.spec.name)
    if shown is None:
        return None
    if is_server(shown.uri):
        return RunPages(shown.uri.rstrip("/"), None, shown.pages)
    served = shlex.join(["gapctl", "ui", *for_ui(plan.sweep)])
    return RunPages(LOCAL_MLFLOW, served, shown.pages)


REPORT = "report.html"


def artifacts_of(analysis: "Analysis", record: "RunRecord") -> dict[str, bytes]:
    """The files by name; equal arguments give equal bytes."""
    from gapctl.cli.verdict_table import document
    from gapctl.report.figures import figure_files
    from gapctl.report.sweep_page import render_report

    figures = {f"figures/{name}": content for name, content in figure_files(analysis, record).items()}
    verdicts = json.dumps(document(analysis, ()), indent=1, allow_nan=False)
    return {REPORT: render_report(analysis, record).encode(), "verdicts.json": verdicts.encode(), **figures}


def findings_of(analysis: "Analysis", record: "RunRecord") -> "Findings":
    """What MLflow shows in a sweep's own run."""
    from gapctl.report.markdown import in_few_words, verdict_markdown
    from gapctl.tracking.views import Findings

    marked = (f"{verdict.id}: {', '.join(verdict.marks)}" for verdict in analysis.verdicts if verdict.marks)
    files = artifacts_of(analysis, record)
    return Findings(in_few_words(analysis), verdict_markdown(analysis), files, marks="; ".join(marked))


def search_page(plan: "Plan", record: "SearchRecord", ledger: "Ledger") -> str:
    """The page on a search; equal ledgers give the same text."""
    from gapctl.plan.plan import search_of
    from gapctl.report.page_parts import commands_of
    from gapctl.report.search_page import render_search

    return render_search(plan, search_of(plan.sweep), record, commands_of(plan, ledger), run_pages(plan, ledger))


def search_findings(plan: "Plan", record: "SearchRecord", ledger: "Ledger") -> "Findings":
    """What MLflow shows in the run of a search: the best point, its page and its figures."""
    from gapctl.plan.plan import search_of
    from gapctl.report.search_page import as_options, as_yaml, search_files, search_markdown, standing
    from gapctl.tracking.views import Findings

    figures = {f"figures/{name}": content for name, content in search_files(search_of(plan.sweep), record).items()}
    best = {"best.yaml": f"{as_yaml(record.best)}\n".encode()} if record.best else {}
    files = {REPORT: search_page(plan, record, ledger).encode(), **best, **figures}
    verdict = (
        f"best {record.metric} {record.best.value:.4g}: {as_options(record.best)}" if record.best else standing(record)
    )
    return Findings(verdict, search_markdown(record), files)
