"""What the frames of an analysis hold: finished trials, whole ones only, under the names that are agreed."""

import math
from pathlib import Path

import polars as pl
import pytest
from analysis_ledgers import ATTRIBUTES, RMG, falling, fill, finish, plan_of, sweep_file
from scipy import stats

from gapctl.analysis.analyze import analyze_finished_trials, compute_curves
from gapctl.analysis.tables import read_trial_tables
from gapctl.ledger import Ledger


def test_a_row_per_finished_trial_with_its_treatment_and_metrics(ledger: Ledger, tmp_path: Path) -> None:
    plan = plan_of(sweep_file(tmp_path))
    fill(ledger, plan, falling(0.05), trials=plan.trials[:7])
    tables = read_trial_tables(plan, ledger)

    bits = [name for name in tables.trials.columns if name.startswith("information/")]
    assert tables.trials.columns == ["trial", "label", "seed", ATTRIBUTES, RMG, *bits, "samples_seen", "seconds"]
    assert tables.trials.drop(bits).row(6) == (plan.trials[6].id, "attributes=0 seed=1", 1, 0, 0.5, 256, 2.0)
    assert len(tables.trials) == 7
    assert tables.damaged == ()


def test_a_row_per_evaluation_in_the_history(ledger: Ledger, tmp_path: Path) -> None:
    plan = plan_of(sweep_file(tmp_path))
    fill(ledger, plan, falling(0.05))
    history = read_trial_tables(plan, ledger).history

    assert history.columns == ["trial", "label", "seed", ATTRIBUTES, "samples_seen", RMG]
    assert history.filter(pl.col("trial") == plan.trials[1].id).select("samples_seen", RMG).rows() == [
        (0, pytest.approx(0.9)),
        (256, pytest.approx(0.45)),
    ]


def test_a_trial_that_is_still_being_trained_is_in_neither_frame(ledger: Ledger, tmp_path: Path) -> None:
    plan = plan_of(sweep_file(tmp_path))
    fill(ledger, plan, falling(0.05), trials=plan.trials[1:])
    ledger.trial(plan.trials[0].id).begin(plan.trials[0])
    ledger.trial(plan.trials[0].id).save_history([{"samples_seen": 0, RMG: 1.0}])
    tables = read_trial_tables(plan, ledger)

    assert plan.trials[0].id not in {*tables.trials["trial"], *tables.history["trial"]}


def test_an_empty_ledger_gives_empty_frames(ledger: Ledger, tmp_path: Path) -> None:
    tables = read_trial_tables(plan_of(sweep_file(tmp_path)), ledger)

    assert tables.trials.is_empty()
    assert tables.history.columns == ["trial", "label", "seed", ATTRIBUTES, "samples_seen"]


def test_metrics_that_only_some_trials_have_are_empty_for_the_others(ledger: Ledger, tmp_path: Path) -> None:
    plan = plan_of(sweep_file(tmp_path))
    finish(ledger, plan.trials[0], {RMG: 0.5})
    finish(ledger, plan.trials[1], {"gap/l2m": 0.4, RMG: math.nan})
    trials = read_trial_tables(plan, ledger).trials

    assert trials["gap/l2m"].to_list() == [None, 0.4]
    assert trials[RMG][0] == 0.5
    assert math.isnan(trials[RMG][1])


def test_a_trial_has_its_own_metrics_in_whatever_order_each_result_has_them(ledger: Ledger, tmp_path: Path) -> None:
    plan = plan_of(sweep_file(tmp_path))
    for trial in plan.trials:
        finish(ledger, trial, {RMG: 0.5 + trial.seed, "gap/l2m": -math.inf, "bias/moad_text": 0.1 * trial.seed})
    trials = read_trial_tables(plan, ledger).trials

    assert [name for name in trials.columns if "/" in name and "information" not in name] == [
        "bias/moad_text",
        "gap/l2m",
        RMG,
        "gap/samples_to_small_l2m",  # of the histories
    ]
    assert trials[RMG].to_list() == [0.5 + seed for seed in trials["seed"]]
    assert trials["bias/moad_text"].to_list() == [0.1 * seed for seed in trials["seed"]]


def test_factors_keep_their_kind(ledger: Ledger, tmp_path: Path) -> None:
    vary = {"train.lr": [1, 0.5], "temperature.mode": ["learned", "fixed"], "model.embed_dim": [8, 16]}
    plan = plan_of(sweep_file(tmp_path, vary=vary, seeds=1))
    fill(ledger, plan, lambda trial: {RMG: 0.5})
    trials = read_trial_tables(plan, ledger).trials

    assert [trials.schema[path] for path in vary] == [pl.Float64, pl.String, pl.Int64]
    assert trials.row(0)[3:6] == (1.0, "learned", 8)


@pytest.mark.parametrize("content", [b"", b"{", b'{"trial": "someone else\'s"}'])
def test_a_damaged_result_is_left_out_and_named(ledger: Ledger, tmp_path: Path, content: bytes) -> None:
    plan = plan_of(sweep_file(tmp_path))
    fill(ledger, plan, falling(0.05))
    (tmp_path / "runs" / plan.trials[3].id / "result.json").write_bytes(content)
    tables = read_trial_tables(plan, ledger)

    assert len(tables.trials) == 17
    assert len(tables.damaged) == 1
    assert f"{plan.trials[3].id}/result.json: damaged" in tables.damaged[0]


@pytest.mark.parametrize("damage", ["cut short", "without samples_seen", "with words for numbers"])
def test_a_damaged_history_costs_the_path_but_not_the_result(ledger: Ledger, tmp_path: Path, damage: str) -> None:
    plan = plan_of(sweep_file(tmp_path))
    fill(ledger, plan, falling(0.05))
    path = tmp_path / "runs" / plan.trials[3].id / "history.parquet"
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "without samples_seen":
        pl.DataFrame({RMG: [0.5]}).write_parquet(path)
    else:
        pl.DataFrame({"samples_seen": [0], RMG: ["much"]}).write_parquet(path)
    tables = read_trial_tables(plan, ledger)

    assert len(tables.trials) == 18
    assert plan.trials[3].id not in set(tables.history["trial"])
    assert len(tables.damaged) == 1
    assert f"{plan.trials[3].id}/history.parquet: damaged" in tables.damaged[0]
    assert "Move the" in tables.damaged[0]


def test_a_curve_is_the_mean_over_seeds_with_students_interval(ledger: Ledger, tmp_path: Path) -> None:
    plan = plan_of(sweep_file(tmp_path))
    fill(ledger, plan, falling(0.05, noise=0.02))
    analysis = analyze_finished_trials(plan, ledger)
    at_two = analysis.trials.filter(pl.col(ATTRIBUTES) == 2)[RMG].to_numpy()
    row = analysis.curves.row(by_predicate=pl.col("level") == "2", named=True)
    reference = stats.ttest_1samp(at_two, 0.0).confidence_interval(0.95)

    assert row["mean"] == pytest.approx(at_two.mean())
    assert (row["low"], row["high"]) == pytest.approx((reference.low, reference.high))
    assert (row["factor"], row["position"], row["metric"], row["seeds"]) == (ATTRIBUTES, 2, RMG, 3)


def test_curves_keep_the_files_order_of_levels(ledger: Ledger, tmp_path: Path) -> None:
    plan = plan_of(sweep_file(tmp_path, vary={ATTRIBUTES: [5, 0, 3]}))
    fill(ledger, plan, falling(0.05))

    assert analyze_finished_trials(plan, ledger).curves.select("level", "position").rows() == [
        ("5", 0),
        ("0", 1),
        ("3", 2),
    ]


def test_with_one_seed_a_curve_has_no_interval(ledger: Ledger, tmp_path: Path) -> None:
    plan = plan_of(sweep_file(tmp_path, seeds=1))
    fill(ledger, plan, falling(0.05))
    found = analyze_finished_trials(plan, ledger).curves

    assert found["mean"].to_list() == pytest.approx([0.5, 0.45, 0.4, 0.35, 0.3, 0.25])
    assert found["low"].null_count() == found["high"].null_count() == 6


def test_a_curve_averages_the_other_factors_within_a_seed_first(ledger: Ledger, tmp_path: Path) -> None:
    vary = {ATTRIBUTES: [0, 5], "temperature.mode": ["learned", "fixed"]}
    plan = plan_of(sweep_file(tmp_path, vary=vary, seeds=2))
    fill(ledger, plan, lambda trial: {RMG: trial.seed + (10.0 if trial.factors["temperature.mode"] == "fixed" else 0)})
    found = analyze_finished_trials(plan, ledger).curves.filter(pl.col("factor") == ATTRIBUTES)

    assert found["seeds"].to_list() == [2, 2]
    assert found["mean"].to_list() == pytest.approx([5.5, 5.5])
    # Two seeds at 5 and 6: the other factor's ten must not widen the interval.
    assert found["high"][0] - found["mean"][0] == pytest.approx(stats.t.ppf(0.975, 1) * 0.5)


def test_a_level_counts_only_seeds_that_have_all_its_arms(ledger: Ledger, tmp_path: Path) -> None:
    vary = {ATTRIBUTES: [0, 5], "temperature.mode": ["learned", "fixed"]}
    plan = plan_of(sweep_file(tmp_path, vary=vary, seeds=2))
    fill(ledger, plan, falling(0.05), trials=plan.trials[:-1])
    found = analyze_finished_trials(plan, ledger).curves.filter(pl.col("factor") == ATTRIBUTES)

    assert found["seeds"].to_list() == [2, 1]


def test_a_metric_that_is_no_number_has_no_curve(ledger: Ledger, tmp_path: Path) -> None:
    plan = plan_of(sweep_file(tmp_path, seeds=2))
    fill(ledger, plan, lambda trial: {RMG: 0.5, "temperature/bias": math.nan})

    assert set(analyze_finished_trials(plan, ledger).curves["metric"]) == {RMG}


def test_curves_of_nothing_have_the_agreed_columns(ledger: Ledger, tmp_path: Path) -> None:
    plan = plan_of(sweep_file(tmp_path))
    found = compute_curves(read_trial_tables(plan, ledger).trials, plan.sweep.spec.vary, 0.05)

    assert found.is_empty()
    assert found.columns == ["factor", "level", "position", "metric", "mean", "low", "high", "seeds"]
