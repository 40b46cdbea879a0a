"""Verdicts over a cohort on the terminal, on pages, in LaTeX and in Python: models are counted, and strata named."""

import io
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from analysis_ledgers import TREND, fill, plan_of, sweep_file
from cohorts import declare, make_models
from rich.console import Console

from gapctl.analysis.analyze import analyze_finished_trials, judge_hypotheses
from gapctl.analysis.results import AnalysisResults
from gapctl.analysis.tables import TrialTables
from gapctl.api.sweeps import Verdicts
from gapctl.cli.verdict_table import print_verdicts
from gapctl.config.cohort import Cohort
from gapctl.ledger import Ledger
from gapctl.report.markdown import render_verdict_markdown
from gapctl.report.sweep_page import render_report


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> AnalysisResults:
    """A sweep's analysis whose hypotheses and trials are a cohort's."""
    folder = tmp_path_factory.mktemp("ledger")
    plan = plan_of(sweep_file(folder, TREND))
    ledger = Ledger(str(folder / "runs"))
    fill(ledger, plan, lambda trial: {"gap/rmg": 0.5})
    models = make_models(within=1.0, between=-1.0).with_columns(
        trial=pl.col("label"), seed=pl.lit(0), samples_seen=pl.lit(0), seconds=pl.lit(1.0)
    )
    asked = [declare(), declare(id="weak", scope="overall", direction="weak", smallest_effect=0.2)]
    rows = [{"name": name} for name in models["label"]]
    models = models.rename({"label": "model"})
    spec = plan.sweep.spec.model_copy(update={"hypotheses": asked, "vary": {}, "cohort": Cohort(models=rows)})
    cohort = replace(plan, sweep=replace(plan.sweep, spec=spec))
    verdicts = judge_hypotheses(cohort, TrialTables(models, models.clear(), ()), exploratory=False)
    return replace(analyze_finished_trials(plan, ledger), verdicts=verdicts)


def test_the_verdict_is_reached_by_the_calls_of_every_sweep(analysis: AnalysisResults) -> None:
    within, weak = analysis.verdicts

    assert (within.verdict, weak.verdict) == ("supported", "inconclusive")
    assert within.marks == weak.marks == ()
    assert within.p == pytest.approx(2 * within.p_claim)
    assert (weak.direction, within.factor) == ("neither", "gap/rmg")
    assert within.seeds_needed is weak.seeds_needed is None


def test_the_terminal_counts_models_and_names_strata(analysis: AnalysisResults) -> None:
    console = Console(file=io.StringIO(), width=160)
    print_verdicts(analysis, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]

    assert text.splitlines()[1].split()[-1] == "models"
    assert "Over 24 models in 5 strata, 1 of one model, tau is 0." in " ".join(text.split())
    assert "within strata, Kendall's tau" in text
    assert "seeds" not in text


def test_the_page_has_the_strata_and_no_seeds_of_a_model(analysis: AnalysisResults) -> None:
    page = render_report(analysis)

    assert "models, one a lineage; all models" in page
    assert "5 (1 of one model)" in page
    assert "paired seeds; trainings" not in page


def test_markdown_and_python_head_the_count_with_models(analysis: AnalysisResults, tmp_path: Path) -> None:
    assert "| models |" in render_verdict_markdown(analysis)
    found = Verdicts(analysis.verdicts)
    assert "<th>models</th>" in found._repr_html_()
    assert found.frame()["seeds"].to_list() == [24, 24]
