"""What a sweep's own run keeps in MLflow beside its trials: the report, the verdicts and the figures."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gapctl.analysis.results import Analysis
    from gapctl.ledger import Ledger
    from gapctl.ledger.search_record import SearchRecord
    from gapctl.plan.trials import Plan
    from gapctl.report.run_record import RunRecord
    from gapctl.tracking.findings import Findings

REPORT = "report.html"


def artifacts_of(analysis: "Analysis", record: "RunRecord") -> dict[str, bytes]:
    """The files by name; equal arguments give equal bytes."""
    from gapctl.cli.analysis_document import document
    from gapctl.report.figures import figure_files
    from gapctl.report.page import render_report

    figures = {f"figures/{name}": content for name, content in figure_files(analysis, record).items()}
    verdicts = json.dumps(document(analysis, ()), indent=1, allow_nan=False)
    return {REPORT: render_report(analysis, record).encode(), "verdicts.json": verdicts.encode(), **figures}


def findings_of(analysis: "Analysis", record: "RunRecord") -> "Findings":
    """What MLflow shows in a sweep's own run."""
    from gapctl.report.verdict_note import in_few_words, verdict_markdown
    from gapctl.tracking.findings import Findings

    marked = (f"{verdict.id}: {', '.join(verdict.marks)}" for verdict in analysis.verdicts if verdict.marks)
    files = artifacts_of(analysis, record)
    return Findings(in_few_words(analysis), verdict_markdown(analysis), files, marks="; ".join(marked))


def search_page(plan: "Plan", record: "SearchRecord", ledger: "Ledger") -> str:
    """The page on a search; equal ledgers give the same text."""
    from gapctl.cli.background import run_pages
    from gapctl.plan.search import search_of
    from gapctl.report.commands import commands_of
    from gapctl.report.search.page import render_search

    return render_search(plan, search_of(plan.sweep), record, commands_of(plan, ledger), run_pages(plan, ledger))


def search_findings(plan: "Plan", record: "SearchRecord", ledger: "Ledger") -> "Findings":
    """What MLflow shows in the run of a search: the best point, its page and its figures."""
    from gapctl.plan.search import search_of
    from gapctl.report.search.figures import search_files
    from gapctl.report.search.words import as_options, as_yaml, search_markdown, standing
    from gapctl.tracking.findings import Findings

    figures = {f"figures/{name}": content for name, content in search_files(search_of(plan.sweep), record).items()}
    best = {"best.yaml": f"{as_yaml(record.best)}\n".encode()} if record.best else {}
    files = {REPORT: search_page(plan, record, ledger).encode(), **best, **figures}
    verdict = (
        f"best {record.metric} {record.best.value:.4g}: {as_options(record.best)}" if record.best else standing(record)
    )
    return Findings(verdict, search_markdown(record), files)
