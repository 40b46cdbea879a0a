"""A ledger in an object store is asked for each file once, and for many files at once."""

from pathlib import Path

import pytest
from two_sweeps import TwoSweeps, two_sweeps

from command_line import gapctl
from counting_store import CountingStore
from gapctl.cli.options import load_plan
from gapctl.ledger import Ledger

RUNS = "counted://bucket/runs"
AT_ONCE = 8
"""Fewer than are asked for at once, as threads take their time to start."""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> TwoSweeps:
    """Two sweeps that share six trials, in the store; one of the last sweep's trials is missing."""
    made = two_sweeps(tmp_path_factory.mktemp("far"))
    for trial in made.levels.trials:
        Ledger(made.runs).trial(trial.id).save_dimensions([0.5, 0.0], [0.0, 0.1])
    CountingStore.store.clear()
    for path in Path(made.runs).rglob("*"):
        if path.is_file():
            CountingStore().pipe_file(f"{RUNS}/{path.relative_to(made.runs)}", path.read_bytes())
    return made


@pytest.fixture
def made(filled: TwoSweeps) -> TwoSweeps:
    CountingStore.forget()
    return filled


def trials_of(made: TwoSweeps) -> set[str]:
    return {trial.id for plan in (made.levels, made.rates) for trial in plan.trials}


def results(ids: set[str]) -> set[str]:
    return {f"/bucket/runs/{trial_id}/result.json" for trial_id in ids}


def test_verdicts_of_a_whole_ledger_read_each_result_once_and_side_by_side(made: TwoSweeps) -> None:
    assert gapctl("analyze", "--all", "--json", "--runs", RUNS).exit_code == 0

    assert set(CountingStore.reads("result.json")) == results(trials_of(made))
    assert set(CountingStore.reads().values()) == {1}
    assert len(CountingStore.reads()) == len(trials_of(made)) + 2, "and two declarations"
    assert CountingStore.most >= AT_ONCE


def test_the_page_of_several_sweeps_reads_no_more_than_it_shows(made: TwoSweeps, tmp_path: Path) -> None:
    assert gapctl("analyze", "--all", "--runs", RUNS, "--out", str(tmp_path / "page.html")).exit_code == 0

    assert set(CountingStore.reads().values()) == {1}
    assert not CountingStore.reads(".parquet")


@pytest.mark.parametrize("ending", ["html", "md"])
def test_a_report_reads_no_file_twice(made: TwoSweeps, tmp_path: Path, ending: str) -> None:
    arguments = ("analyze", made.files[0], "--runs", RUNS, "--out", str(tmp_path / f"page.{ending}"))
    assert gapctl(*arguments).exit_code == 0

    assert set(CountingStore.reads().values()) == {1}
    for name in ("result.json", "history.parquet", "dimensions.parquet"):
        assert len(CountingStore.reads(name)) == len(made.levels.trials)


def test_a_page_of_one_sweep_that_the_ledger_kept_shows_how_trainings_went(made: TwoSweeps, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    kept = CountingStore.store.pop("/bucket/runs/rates.sweep.json")
    try:
        assert gapctl("analyze", "--all", "--runs", RUNS, "--out", str(page)).exit_code == 0
    finally:
        CountingStore.store["/bucket/runs/rates.sweep.json"] = kept

    assert len(CountingStore.reads("history.parquet")) == len(made.levels.trials)
    assert "While training" in page.read_text(encoding="utf-8")


def test_a_status_reads_of_each_trial_what_tells_its_state_once(made: TwoSweeps) -> None:
    assert gapctl("status", made.files[1], "--runs", RUNS).exit_code == 0

    asked = results({trial.id for trial in made.rates.trials})
    missing = made.rates.trials[-1].id
    states = {f"/bucket/runs/{missing}/{name}" for name in ("failure.txt", "lease.json")}
    assert CountingStore.reads() == dict.fromkeys(asked | states, 1)
    assert CountingStore.most >= AT_ONCE


def test_a_plan_lists_the_ledger_once_and_reads_nothing(made: TwoSweeps) -> None:
    said = gapctl("plan", made.files[1], "--runs", RUNS).out

    assert "11 of them finished in counted://bucket/runs; 1 left" in said
    assert not CountingStore.reads()
    assert CountingStore.count("list") == 1
    assert CountingStore.most >= AT_ONCE


def test_to_declare_a_sweep_costs_the_same_however_many_trials_it_has(made: TwoSweeps) -> None:
    plan = load_plan(Path(made.files[0]), None, ["seeds=100", "first_seed=1000", "name=new"])
    Ledger(RUNS).declare_plan(plan)

    assert len(plan.trials) == 600
    assert sum(CountingStore.asked.values()) == 2, "what was declared, which trials lie there"
