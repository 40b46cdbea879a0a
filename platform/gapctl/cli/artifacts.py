"""What a sweep's own run keeps in MLflow beside its trials: the report, the verdicts and the figures."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gapctl.analysis.results import Analysis
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

    return Findings(in_few_words(analysis), verdict_markdown(analysis), artifacts_of(analysis, record))
