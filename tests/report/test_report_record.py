"""A report says what was run, what is missing and why, and links to runs where it knows them."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from analysis_examples import ATTRIBUTES, CONDITIONAL, REFUTED, SUPPORTED, analysis

from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.cli.report_contents import _build_verdict_metrics, read_run_record_with_pages
from gapctl.config.load import load_sweep
from gapctl.ledger import Ledger, Result
from gapctl.plan.plan import Plan, Trial, make_plan
from gapctl.report.html import RunPages
from gapctl.report.page_parts import RunRecord
from gapctl.report.sweep_page import render_report
from gapctl.tracking.mlflow_sync import read_run_links, save_run_links
from page_reading import PageReader

SWEEP = """\
name: small
question: Does it?
base: {train: {samples: 256, batch_size: 256}}
vary: {data.captions.attributes: [0, 5]}
seeds: 2
hypotheses:
  - {id: falls, claim: It falls., source: "a paper, claim 1", test: contrast, response: gap/rmg, between: [0, 5],
     factor: data.captions.attributes, direction: decreasing, smallest_effect: 0.05}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    file = tmp_path / "small.yaml"
    file.write_text(SWEEP)
    return make_plan(load_sweep(file, None, ["base.train.lr=0.002"]), lambda data: "fingerprint")


@pytest.fixture
def ledger(tmp_path: Path, plan: Plan) -> Ledger:
    """Three of four trials are done, of which two kept their mean embeddings; the fourth failed."""
    ledger = Ledger(str(tmp_path / "runs"))
    ledger.declare_plan(plan)
    for number, trial in enumerate(plan.trials[:3]):
        finish(ledger, trial, 0.5 - 0.05 * number)
    for trial in plan.trials[:2]:
        ledger.trial(trial.id).save_dimensions([0.5, 0.0, -0.25], [0.0, 0.0, 0.25])
    ledger.trial(plan.trials[3].id).begin(plan.trials[3])
    ledger.trial(plan.trials[3].id).fail("Traceback: no memory")
    return ledger


def finish(ledger: Ledger, trial: Trial, rmg: float) -> None:
    folder = ledger.trial(trial.id)
    folder.begin(trial)
    versions, hardware = {"torch": "2.9"}, {"device": "cpu", "name": "a chip", "cores": 2, "threads": 1}
    folder.finish(Result(trial.id, {"gap/rmg": rmg}, 256, 2.0, versions, dict(hardware)), weights=b"")


def read(plan: Plan, ledger: Ledger) -> PageReader:
    return PageReader(render_report(analyze_finished_trials(plan, ledger), read_run_record_with_pages(plan, ledger)))


def test_it_tells_versions_hardware_and_where_a_claim_comes_from(plan: Plan, ledger: Ledger) -> None:
    words = read(plan, ledger).words

    assert "hardware cpu, a chip, 2 cores, 1 thread" in words
    assert "versions torch 2.9" in words
    assert "source of the claim a paper, claim 1" in words
    assert "levels compared 5 against 0" in words


def test_commands_are_those_of_this_file_with_its_changes_and_its_ledger(plan: Plan, ledger: Ledger) -> None:
    commands = read_run_record_with_pages(plan, ledger).commands

    assert commands is not None
    assert commands.sweep == f"gapctl sweep {plan.sweep.path} --set base.train.lr=0.002 --runs {ledger.root}"
    assert commands.train.endswith("--trial TRIAL")


def test_missing_trainings_are_named_with_the_reason_and_the_command_that_finishes_them(
    plan: Plan, ledger: Ledger
) -> None:
    words = read(plan, ledger).words

    assert (
        f"INCOMPLETE: 1 of 4 trainings have not finished; verdicts use those that have. {plan.trials[3].label} (failed)"
        in words
    )
    assert "This finishes them: gapctl sweep" in words


def test_the_gap_by_dimension_is_sorted_and_names_the_trainings_that_lack_it(plan: Plan, ledger: Ledger) -> None:
    page = read(plan, ledger)
    rows = [row for row in page.charts()["dimensions-carried"]["datasets"]["dimension"] if row["seed"] == 0]

    assert [row["dimension"] for row in rows] == [0, 2, 1, 0, 2, 1]
    assert [row["carried"] for row in rows[:3]] == pytest.approx([0.5, 1.0, 1.0])
    assert [row["squared"] for row in rows[:3]] == pytest.approx([0.25, 0.25, 0.0])
    assert f"Not kept by {plan.trials[2].label}." in page.words


def test_too_many_dimensions_are_drawn_as_the_mean_of_each_level() -> None:
    shown = analysis({ATTRIBUTES: [0, 5]}, seeds=3)
    size = 2000
    rows = [
        pl.DataFrame({"trial": trial, "dimension": range(size), "image_mean": 1.0, "text_mean": 0.0})
        for trial in shown.trials["trial"]
    ]
    page = PageReader(render_report(shown, RunRecord(dimensions=pl.concat(rows), recipe=3)))
    drawn = page.charts()["dimensions-carried"]["datasets"]["dimension"]

    assert "One line per level, the mean of its trainings." in page.words
    assert len(drawn) < size
    assert [row["carried"] for row in drawn if row["rank"] == size] == pytest.approx([1.0, 1.0])


def test_where_no_training_kept_its_means_the_page_says_so() -> None:
    assert (
        "None of these trainings kept its mean embeddings"
        in PageReader(render_report(analysis(), RunRecord(recipe=2))).words
    )


def test_a_metric_that_is_no_number_is_named_with_its_trainings() -> None:
    whole = analysis()
    broken = pl.when(pl.col("trial") == "000000000002").then(math.nan).otherwise("gap/l2m").alias("gap/l2m")
    words = PageReader(render_report(analysis(trials=whole.trials.with_columns(broken)))).words

    assert "NOT A NUMBER: gap/l2m in attributes=2 seed=0. Charts and verdicts leave these values out." in words
    assert "NOT A NUMBER" not in PageReader(render_report(whole)).words


def test_one_seed_is_announced() -> None:
    assert "ONE SEED" in PageReader(render_report(analysis(seeds=1))).words
    assert "ONE SEED" not in PageReader(render_report(analysis(seeds=2))).words


def test_ids_link_to_runs_and_nothing_is_a_link_where_runs_are_not_known() -> None:
    pages = RunPages(
        "http://127.0.0.1:5000", "gapctl ui sweeps/imbalance.yaml", {"000000000001": "#/experiments/1/runs/f"}
    )
    linked = PageReader(render_report(analysis(), RunRecord(run_pages=pages)))
    known = [item for item in linked.attributes("a") if "data-trial" in item]

    assert [item["href"] for item in known] == ["http://127.0.0.1:5000/#/experiments/1/runs/f"]
    assert "open the run in MLflow at http://127.0.0.1:5000 while gapctl ui sweeps/imbalance.yaml runs." in linked.words
    assert [item for item in PageReader(render_report(analysis())).attributes("a") if "data-trial" in item] == []


def test_what_mlflow_shows_is_noted_beside_the_ledger_and_forgotten_with_its_database(
    plan: Plan, ledger: Ledger, tmp_path: Path
) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"")
    save_run_links(ledger, "small", f"sqlite:///{database}", "7", {plan.trials[0].id: "aaa"})
    save_run_links(ledger, "small", f"sqlite:///{database}", "7", {plan.trials[1].id: "bbb"})
    shown = read_run_links(ledger, "small")

    assert shown is not None
    assert shown.pages[plan.trials[0].id] == "#/experiments/7/runs/aaa?workflowType=machine_learning"
    assert set(shown.runs.values()) == {"aaa", "bbb"}
    pages = read_run_record_with_pages(plan, ledger).run_pages
    assert pages is not None
    assert pages.started_by == f"gapctl ui {plan.sweep.path}"

    database.unlink()
    assert read_run_record_with_pages(plan, ledger).run_pages is None


def test_a_server_is_linked_to_as_it_is(plan: Plan, ledger: Ledger) -> None:
    save_run_links(ledger, "small", "https://me:secret@mlflow.example/", "7", {plan.trials[0].id: "aaa"})
    pages = read_run_record_with_pages(plan, ledger).run_pages

    assert pages is not None
    assert pages.started_by is None
    assert "secret" not in pages.address


def test_claims_are_drawn_as_declared() -> None:
    spec = PageReader(render_report(analysis(verdicts=[SUPPORTED]))).charts()["rmg-by-attributes"]
    small, begins = spec["datasets"]["too small to count"], spec["datasets"]["claimed effect begins"]
    start = next(row["value"] for row in spec["datasets"]["mean"] if row["place"] == 0.0)

    assert [row["small_high"] - row["small_low"] for row in small] == pytest.approx(
        [0.04 * level for level in range(6)]
    )
    assert [row["claimed"] for row in begins] == pytest.approx([start - 0.02 * level for level in range(6)])


def test_a_claim_about_some_trainings_is_named_and_not_drawn_on_the_curve_of_all() -> None:
    alone = PageReader(render_report(analysis(verdicts=[CONDITIONAL])))
    both = PageReader(render_report(analysis(verdicts=[CONDITIONAL, SUPPORTED])))
    held = f"Claims not drawn: {CONDITIONAL.id} (where order of the caption is canonical and tied is true)."

    assert "too small to count" not in alone.charts()["rmg-by-attributes"]["datasets"]
    assert held in alone.words
    assert {row["hypothesis"] for row in drawn_small(both)} == {SUPPORTED.id}
    assert f"dashed: the claimed effect lies below this line ({SUPPORTED.id}). {held}" in both.words


def test_of_several_claims_about_one_curve_the_first_is_drawn_and_the_others_are_named() -> None:
    second = replace(SUPPORTED, id="second", test="contrast", between=(0, 5))
    read = PageReader(render_report(analysis(verdicts=[SUPPORTED, second])))

    assert {row["hypothesis"] for row in drawn_small(read)} == {SUPPORTED.id}
    assert f"({SUPPORTED.id}). Claims not drawn: second." in read.words


def test_a_contrast_is_drawn_between_its_own_levels() -> None:
    inner = replace(REFUTED, response="gap/rmg", between=(1, 3))
    read = PageReader(render_report(analysis(verdicts=[inner])))

    assert [(row["level"], row["says"]) for row in drawn_small(read)] == [
        ("1", "± 0"),
        ("2", "± 0.025"),
        ("3", "± 0.05"),
    ]


def drawn_small(read: PageReader) -> list[dict[str, Any]]:
    return list(read.charts()["rmg-by-attributes"]["datasets"]["too small to count"])


def test_a_sweeps_run_gets_the_estimate_interval_and_deciding_p_of_each_verdict() -> None:
    verdicts = analysis().verdicts
    metrics = _build_verdict_metrics(analysis())

    assert len(verdicts) > 1
    for verdict in verdicts:
        numbers = {"estimate": verdict.estimate, "low": verdict.ci.low, "high": verdict.ci.high, "p": verdict.p}
        found = {key: metrics.get(f"verdict/{verdict.id}/{key}") for key in numbers}
        assert found == {key: value if math.isfinite(value) else None for key, value in numbers.items()}
    assert any(key.endswith("/p") for key in metrics)
