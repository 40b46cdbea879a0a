"""Where models are the replicates, verdicts, pages and MLflow count and name models; no seed is spoken of."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from cohort_ledgers import REMOVED, WITHIN, fill_cohort, list_models, plan_cohort
from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.learning import run_learning_checks
from gapctl.analysis.results import AnalysisResults
from gapctl.cli.verdict_table import print_verdicts
from gapctl.ledger import Ledger
from gapctl.report.figures import plot_all_figures
from gapctl.report.markdown import render_verdict_markdown
from gapctl.report.page_parts import read_run_record
from gapctl.report.sweep_page import render_report
from gapctl.tracking.views import build_view_tags
from gapctl_charts.look import FILE_LOOK
from page_reading import PageReader

FIRST = str(list_models()[0]["name"])


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> AnalysisResults:
    """30 models but one, with and without their largest dimensions."""
    folder = tmp_path_factory.mktemp("cohort")
    plan, ledger = plan_cohort(folder), Ledger(str(folder / "runs"))
    fill_cohort(ledger, plan, without=[FIRST])
    return analyze_finished_trials(plan, ledger)


def test_a_contrast_counts_models_and_names_the_one_that_is_missing(analysis: AnalysisResults) -> None:
    _, removed = analysis.verdicts

    assert (removed.verdict, removed.seeds, removed.replicate_name) == ("supported", 29, "models")
    assert removed.reason.startswith("All 29 models fall by ")
    assert f"1 model ({FIRST}) is left out as 58 of 60 trainings are done" in removed.reason


def test_no_more_models_are_asked_for_where_a_contrast_is_open(tmp_path: Path) -> None:
    asked = {**REMOVED, "between": ["remove_1", "none"]}
    plan, ledger = plan_cohort(tmp_path, asked), Ledger(str(tmp_path))
    fill_cohort(ledger, plan)
    (found,) = analyze_finished_trials(plan, ledger).verdicts

    assert (found.verdict, found.seeds_needed) == ("refuted", None)


@pytest.mark.parametrize("show", ["terminal", "page", "markdown", "captions", "tooltips"])
def test_nothing_that_people_read_speaks_of_seeds(analysis: AnalysisResults, show: str) -> None:
    text = {
        "terminal": _print,
        "page": lambda shown: PageReader(render_report(shown)).words,
        "markdown": render_verdict_markdown,
        "captions": lambda shown: " ".join(one.caption for one in plot_all_figures(shown, FILE_LOOK)),
        "tooltips": _list_tooltips,
    }[show](analysis)

    assert "model" in text
    assert "seed" not in text


def _list_tooltips(analysis: AnalysisResults) -> str:
    layers = [layer for figure in plot_all_figures(analysis, FILE_LOOK) for layer in figure.spec.get("layer", ())]
    told = [entry for layer in layers for entry in layer["encoding"].get("tooltip", ())]
    return " ".join(entry.get("title", entry["field"]) for entry in told)


def _print(analysis: AnalysisResults) -> str:
    console = Console(file=io.StringIO(), width=100)
    print_verdicts(analysis, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_checks_of_learning_name_models(tmp_path: Path) -> None:
    plan = plan_cohort(tmp_path, WITHIN, interventions=["none", "centre"])
    guessing = {trial.id: {"train/loss": 4.2} for trial in plan.trainings}
    checks = [one.reason for one in run_learning_checks(plan, guessing) if one.failed]

    assert len(checks) == 2
    assert all("in all 30 models" in reason for reason in checks)


def test_views_of_mlflow_have_a_column_of_models(tmp_path: Path) -> None:
    views = " ".join(build_view_tags(plan_cohort(tmp_path)).values())

    assert "params.`model`" in views
    assert "params.`seed`" not in views


def test_the_run_record_counts_models(tmp_path: Path) -> None:
    plan, ledger = plan_cohort(tmp_path), Ledger(str(tmp_path / "runs"))
    fill_cohort(ledger, plan)
    page = PageReader(render_report(analyze_finished_trials(plan, ledger), read_run_record(plan, ledger))).words

    assert "models 30" in " ".join(page.split())
