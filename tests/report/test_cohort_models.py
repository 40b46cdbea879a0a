"""A cohort's page: a table of models that sorts, a scatter of each correlation, and a line per model of an ablation."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from cohort_ledgers import ACCURACY, GAP, PUBLISHED, fill_cohort, list_models, plan_cohort
from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.ledger import Ledger
from gapctl.report.cohort_models import build_models_table, count_removed, fit_lines, map_models_to_pages
from gapctl.report.page_parts import read_run_record
from gapctl.report.sweep_page import render_report
from page_reading import PageReader

NAMES = [str(row["name"]) for row in list_models()]
PAGE = "https://huggingface.co/laion/a"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> PageReader:
    """The page of 30 models but one, of which one has a page of its weights."""
    folder = tmp_path_factory.mktemp("cohort")
    plan, ledger = plan_cohort(folder), Ledger(str(folder / "runs"))
    fill_cohort(ledger, plan, without=NAMES[:1])
    record = replace(read_run_record(plan, ledger), model_pages={NAMES[1]: PAGE})
    return PageReader(render_report(analyze_finished_trials(plan, ledger), record))


def test_a_correlation_is_a_scatter_with_a_point_per_model_and_a_line_per_stratum(page: PageReader) -> None:
    spec = page.charts()["models-within"]
    points, lines = spec["datasets"]["model"], spec["datasets"]["stratum"]

    assert [point["model"] for point in points] == NAMES[1:]
    assert [point["link"] for point in points] == [PAGE, *[None] * 28]
    assert len(lines) == 2 * len({point["series"] for point in points}) == 10
    assert "A mark for each of 29 models with intervention none; colour: 5 strata." in page.words
    assert "Kendall's τ within strata: 0.91" in page.words


def test_lines_follow_their_own_stratum_alone() -> None:
    points = pl.DataFrame(
        {"against": [1.0, 2.0, 3.0, 1.0, 9.0], "response": [2.0, 4.0, 6.0, 0.0, 0.0], "series": list("aaabb")}
    )

    assert fit_lines(points)["response"].to_list() == pytest.approx([2.0, 6.0])
    assert fit_lines(points)["series"].to_list() == ["a", "a"]


def test_an_ablation_is_a_line_per_model_over_the_removed_dimensions(page: PageReader) -> None:
    rows = page.charts()["ablation-gap-rmg"]["datasets"]["model"]

    assert len({row["model"] for row in rows}) == 29
    assert sorted({row["removed"] for row in rows}) == [0, 1, 3, 10, 30]
    assert count_removed("centre") is None


def test_the_table_has_models_with_published_and_measured_numbers(page: PageReader) -> None:
    assert "Table of models" in page.words
    assert "Columns that begin with published/ are numbers that others measured: a made-up table." in page.words
    assert "130,000,000" in page.words
    assert PAGE in [link.get("href") for link in page.attributes("a")]
    assert not page.unclosed


def test_the_exported_table_has_a_row_per_model_as_it_is(tmp_path: Path) -> None:
    plan, ledger = plan_cohort(tmp_path), Ledger(str(tmp_path / "runs"))
    fill_cohort(ledger, plan)
    table = build_models_table(analyze_finished_trials(plan, ledger), {NAMES[1]: PAGE})

    assert table["model"].to_list() == NAMES
    assert table.columns[:5] == ["model", "stratum", "lineage", "parameters", "tower"]
    assert {GAP, ACCURACY, PUBLISHED, "page"} <= set(table.columns)
    assert table["page"][1] == PAGE
    assert table[GAP].min() > 0.3  # type: ignore[operator]


def test_a_model_without_weights_from_a_hub_has_no_page(tmp_path: Path) -> None:
    assert map_models_to_pages(plan_cohort(tmp_path)) == {}
