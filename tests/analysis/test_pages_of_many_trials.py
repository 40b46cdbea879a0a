"""A page of more trials than it can show one by one asks a store for the files that it draws, and for no others."""

from pathlib import Path

import pytest
from analysis_ledgers import ATTRIBUTES, TREND, fill, sweep_file

from command_line import gapctl
from counting_store import CountingStore
from gapctl.cli.options import load_plan
from gapctl.ledger import Ledger
from gapctl.plan.plan import Plan
from gapctl.report import many_trainings
from page_reading import PageReader

RUNS = "counted://bucket/many"


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A finished sweep in a store, with more trainings than a page shows one by one: thirteen seeds of two levels."""
    plan = load_plan(sweep_file(tmp_path, TREND, vary={ATTRIBUTES: [0, 5]}, seeds=13), None, None)
    here = Ledger(str(tmp_path / "runs"))
    fill(here, plan, lambda trial: {"gap/rmg": 0.5 + 0.01 * trial.seed, "gap/l2m": 0.5 - 0.01 * trial.seed})
    CountingStore.store.clear()
    for trial in plan.trials:
        here.trial(trial.id).save_dimensions([0.5, 0.0], [0.0, 0.1])
    for path in (tmp_path / "runs").rglob("*"):
        if path.is_file():
            CountingStore().pipe_file(f"{RUNS}/{path.relative_to(tmp_path / 'runs')}", path.read_bytes())
    monkeypatch.setattr(many_trainings, "MOST_TRAININGS", 20)
    monkeypatch.setattr(many_trainings, "MARKS_EACH", 5)
    CountingStore.forget()
    return plan


def test_a_page_reads_the_histories_and_mean_embeddings_that_it_draws_and_no_others(far: Plan, tmp_path: Path) -> None:
    page = tmp_path / "page.html"

    assert gapctl("analyze", str(far.sweep.path), "--runs", RUNS, "--out", str(page)).exit_code == 0

    seeds = {f"/bucket/many/{trial.id}/history.parquet": trial.seed for trial in far.trials}
    assert sorted(seeds[path] for path in CountingStore.reads("history.parquet")) == [0, 0, 6, 6, 12, 12]
    assert len(CountingStore.reads("dimensions.parquet")) == 2 * 5
    words = PageReader(page.read_text(encoding="utf-8")).words
    assert "The trainings of each level that ended lowest, in the middle and highest" in words
    assert "the mean of at most 5 of its trainings, from the smallest gap to the largest." in words
    assert "Not kept by" not in words


def test_a_damaged_history_that_is_drawn_is_named(far: Plan, tmp_path: Path) -> None:
    lowest = next(trial for trial in far.trials if trial.seed == 0)
    CountingStore().pipe_file(f"{RUNS}/{lowest.id}/history.parquet", b"nonsense")

    told = gapctl("analyze", str(far.sweep.path), "--runs", RUNS, "--out", str(tmp_path / "page.html"))

    assert told.exit_code == 1
    assert f"{lowest.id}/history.parquet: damaged" in told.err


def test_where_few_trainings_of_many_are_done_the_page_shows_them_all(far: Plan, tmp_path: Path) -> None:
    for trial in far.trials[6:]:
        CountingStore.store.pop(f"/bucket/many/{trial.id}/result.json")

    told = gapctl("analyze", str(far.sweep.path), "--runs", RUNS, "--out", str(tmp_path / "page.html"))

    assert told.exit_code == 0
    assert len(CountingStore.reads("history.parquet")) == 6
    words = PageReader((tmp_path / "page.html").read_text(encoding="utf-8")).words
    assert "One line per training; colour: " in words
