"""What a report shows beside the analysis: the ledger's record of the run, and its pages in MLflow."""

import json
import math
import shlex
from typing import TYPE_CHECKING

from gapctl.analysis.json_output import build_analysis_json
from gapctl.ledger import Ledger
from gapctl.ledger.search_record import SearchRecord
from gapctl.plan.command_line import build_ui_arguments
from gapctl.plan.plan import Plan, get_search
from gapctl.tracking.mlflow_sync import read_run_links
from gapctl.tracking.store import is_server_address
from gapctl.tracking.views import SweepFindings

if TYPE_CHECKING:
    from gapctl.analysis.results import AnalysisResults
    from gapctl.report.html import RunPages
    from gapctl.report.page_parts import RunRecord


REPORT_FILE = "report.html"
LOCAL_MLFLOW = "http://127.0.0.1:5000"
"""Where `gapctl ui` serves a database by default, if the port is free."""


def read_run_record_with_pages(plan: Plan, ledger: Ledger) -> "RunRecord":
    """Read the run record of a plan's trials."""
    from gapctl.report.page_parts import read_run_record

    return read_run_record(plan, ledger, find_run_pages(plan, ledger))


def find_run_pages(plan: Plan, ledger: Ledger) -> "RunPages | None":
    """Return where MLflow shows a plan's trials, by the ledger's note; None without one."""
    from gapctl.report.html import RunPages

    shown = read_run_links(ledger, plan.sweep.spec.name)
    if shown is None:
        return None
    if is_server_address(shown.uri):
        return RunPages(shown.uri.rstrip("/"), None, shown.pages)
    served = shlex.join(["gapctl", "ui", *build_ui_arguments(plan.sweep)])
    return RunPages(LOCAL_MLFLOW, served, shown.pages)


def analyze_for_report(plan: Plan, ledger: Ledger) -> "AnalysisResults":
    """Judge a plan by its finished trials, and read the histories that a report draws."""
    from gapctl.analysis.analyze import analyze_finished_trials
    from gapctl.report.figures import add_drawn_histories
    from gapctl.report.many_trainings import has_too_many_histories

    if not has_too_many_histories(plan):
        return analyze_finished_trials(plan, ledger)
    return add_drawn_histories(analyze_finished_trials(plan, ledger, with_history=False), plan, ledger).analysis


def render_artifacts(analysis: "AnalysisResults", record: "RunRecord") -> dict[str, bytes]:
    """Render the files of a run by name; equal arguments give equal bytes."""
    from gapctl.report.figures import render_figure_files
    from gapctl.report.sweep_page import render_report

    figures = {f"figures/{name}": content for name, content in render_figure_files(analysis, record).items()}
    verdicts = json.dumps(build_analysis_json(analysis, ()), indent=1, allow_nan=False)
    return {REPORT_FILE: render_report(analysis, record).encode(), "verdicts.json": verdicts.encode(), **figures}


def summarise_run(analysis: "AnalysisResults", record: "RunRecord") -> SweepFindings:
    """Summarise an analysis for the sweep's own run in MLflow."""
    from gapctl.report.markdown import format_verdict_counts, render_verdict_markdown

    marked = (f"{verdict.id}: {', '.join(verdict.marks)}" for verdict in analysis.verdicts if verdict.marks)
    return SweepFindings(
        format_verdict_counts(analysis),
        render_verdict_markdown(analysis),
        render_artifacts(analysis, record),
        marks="; ".join(marked),
        metrics=_build_verdict_metrics(analysis),
    )


def _build_verdict_metrics(analysis: "AnalysisResults") -> dict[str, float]:
    """Return the estimate, interval and deciding p of each verdict, so far as it has them."""
    numbers = {
        f"verdict/{verdict.id}/{key}": value
        for verdict in analysis.verdicts
        for key, value in {
            "estimate": verdict.estimate,
            "low": verdict.ci.low,
            "high": verdict.ci.high,
            "p": verdict.p,
        }.items()
    }
    return {key: value for key, value in numbers.items() if math.isfinite(value)}


def render_search_page(plan: Plan, record: SearchRecord, ledger: Ledger) -> str:
    """Render the page of a search; equal ledgers give the same text."""
    from gapctl.report.page_parts import build_commands
    from gapctl.report.search_page import render_search_document

    return render_search_document(
        plan, get_search(plan.sweep), record, build_commands(plan, ledger), find_run_pages(plan, ledger)
    )


def summarise_search(plan: Plan, record: SearchRecord, ledger: Ledger) -> SweepFindings:
    """Summarise a search for its run in MLflow: the best point, the page and the figures."""
    from gapctl.report.search_page import (
        format_base_yaml,
        format_set_options,
        render_search_figure_files,
        render_search_markdown,
        summarise_search,
    )

    figures = {
        f"figures/{name}": content
        for name, content in render_search_figure_files(get_search(plan.sweep), record).items()
    }
    best = {"best.yaml": f"{format_base_yaml(record.best)}\n".encode()} if record.best else {}
    files = {REPORT_FILE: render_search_page(plan, record, ledger).encode(), **best, **figures}
    verdict = (
        f"best {record.metric} {record.best.value:.4g}: {format_set_options(record.best)}"
        if record.best
        else summarise_search(record)
    )
    return SweepFindings(verdict, render_search_markdown(record), files)
