"""Bits of captions and samples until a small gap are columns of the table of trials, and metrics of hypotheses."""

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from analysis_ledgers import ATTRIBUTES, CONTRAST, RMG, falling, fill, finish, plan_of, sweep_file

from command_line import gapctl
from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.results import AnalysisResults
from gapctl.analysis.tables import compute_bits, find_samples_to_small_gap, read_trial_tables
from gapctl.cli.options import load_plan
from gapctl.config.trial import FACTOR_VALUES
from gapctl.ledger import Ledger
from gapctl.report.sweep_page import list_main_metrics

BITS = ("information/image_given_caption", "information/caption_given_image", "information/shared")
FOLLOWS: dict[str, Any] = {
    "id": "follows",
    "claim": "The gap follows what captions leave unsaid.",
    "test": "correlation",
    "response": RMG,
    "against": BITS[0],
    "direction": "increasing",
    "smallest_effect": 0.2,
}


def judged(folder: Path, *hypotheses: Any, **options: Any) -> AnalysisResults:
    ledger = Ledger(str(folder / "runs"))
    plan = plan_of(sweep_file(folder, *hypotheses, **options))
    fill(ledger, plan, falling(0.05, noise=0.002))
    return analyze_finished_trials(plan, ledger)


def test_the_table_of_trials_has_the_bits_of_each_arm(tmp_path: Path) -> None:
    trials = judged(tmp_path, CONTRAST).trials.filter(pl.col("seed") == 0)

    assert trials[BITS[0]].to_list() == pytest.approx([7.392, 5.914, 4.435, 2.957, 1.478, 0.0], abs=1e-3)
    assert trials[BITS[1]][0] == 0
    assert (trials[BITS[0]] + trials[BITS[2]]).to_list() == pytest.approx([math.log2(1680)] * 6)


def test_a_hypothesis_may_ask_of_bits_and_hold_them(tmp_path: Path) -> None:
    held = {**FOLLOWS, "id": "held", "against": BITS[1], "given": [BITS[2]], "direction": "either"}
    follows, with_held = judged(tmp_path, FOLLOWS, held, seeds=5).verdicts

    assert (follows.verdict, follows.estimate) == ("inconclusive", pytest.approx(1.0))  # doses have two orders
    assert math.isfinite(with_held.estimate)


def test_a_gap_that_follows_the_bits_of_named_arms_is_supported(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "runs"))
    path = sweep_file(tmp_path, FOLLOWS, vary={"data.main_factor": list(FACTOR_VALUES)})
    document = json.loads(path.read_text())
    document["base"]["data"] = {"captions": {"attributes": 0}}
    path.write_text(json.dumps(document))
    plan = plan_of(path)
    bits = compute_bits(plan.trials)[BITS[0]]
    fill(ledger, plan, lambda trial: {RMG: bits[trial.id] / 20})
    (follows,) = analyze_finished_trials(plan, ledger).verdicts

    assert (follows.verdict, follows.estimate) == ("supported", pytest.approx(1.0))


def test_reports_show_bits_where_captions_differ_and_leave_them_out_where_they_do_not(tmp_path: Path) -> None:
    (one := tmp_path / "one").mkdir()
    (other := tmp_path / "other").mkdir()

    assert set(BITS) <= set(list_main_metrics(judged(one, CONTRAST)))
    by_width = {**CONTRAST, "factor": "model.embed_dim", "between": [16, 64]}
    ledger, plan = Ledger(str(other / "runs")), plan_of(sweep_file(other, by_width, vary={"model.embed_dim": [16, 64]}))
    fill(ledger, plan, lambda trial: {RMG: 0.5})
    assert not set(BITS) & set(list_main_metrics(analyze_finished_trials(plan, ledger)))


def test_json_has_the_bits_of_plans_and_of_what_was_analysed(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, CONTRAST, vary={ATTRIBUTES: [0, 5]})
    fill(Ledger(str(tmp_path / "runs")), load_plan(path, None, None), falling(0.05))
    planned = json.loads(gapctl("plan", str(path), "--json").out)["trials"][0]
    analysed = json.loads(gapctl("analyze", str(path), "--runs", str(tmp_path / "runs"), "--json").out)

    assert planned["bits"] == pytest.approx(
        {"image_given_caption": 7.392, "caption_given_image": 0, "shared": 3.322}, abs=1e-3
    )
    assert planned["loss_bayes"] == pytest.approx(3.25, abs=0.05)
    assert [each["levels"] for each in analysed["information"]] == [{ATTRIBUTES: 0}, {ATTRIBUTES: 5}]
    assert analysed["information"][1][BITS[1]] == pytest.approx(math.log2(720))


def history(*rows: tuple[str, int, float | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["trial", "samples_seen", "gap/l2m"], orient="row")


def test_the_first_evaluation_with_near_means_counts_or_all_samples() -> None:
    rows = history(
        ("closes", 0, 1.0),
        ("closes", 10, 0.2),
        ("closes", 20, 0.19),
        ("closes", 30, 0.4),
        ("stays", 0, 1.0),
        ("stays", 40, 0.3),
    )

    assert find_samples_to_small_gap(rows) == {"closes": 20.0, "stays": 40.0}
    assert find_samples_to_small_gap(history(("unmeasured", 0, None))) == {}
    assert find_samples_to_small_gap(rows.drop("gap/l2m")) == {}


def test_samples_to_a_small_gap_are_read_where_a_hypothesis_asks_or_histories_are(tmp_path: Path) -> None:
    asks = {**CONTRAST, "response": "gap/samples_to_small_l2m", "smallest_effect": 50}
    ledger, plan = Ledger(str(tmp_path / "runs")), plan_of(sweep_file(tmp_path, asks, vary={ATTRIBUTES: [0, 5]}))
    ledger.declare_plan(plan)
    for trial in plan.trials:  # the first evaluation is twice the last one
        finish(ledger, trial, {RMG: 0.5, "gap/l2m": 0.3 if trial.factors[ATTRIBUTES] == 0 else 0.05})
    tables = read_trial_tables(plan, ledger, with_history=False)
    plain = plan_of(sweep_file(tmp_path, CONTRAST, vary={ATTRIBUTES: [0, 5]}))

    assert tables.trials.group_by(ATTRIBUTES).agg(pl.col(asks["response"]).mean()).sort(ATTRIBUTES).rows() == [
        (0, 256.0),
        (5, 0.0),
    ]
    assert tables.history.is_empty()
    assert asks["response"] not in read_trial_tables(plain, ledger, with_history=False).trials.columns
    assert asks["response"] in read_trial_tables(plain, ledger).trials.columns


def test_a_search_cannot_look_for_what_no_training_logs(tmp_path: Path) -> None:
    search = {
        "metric": "information/shared",
        "direction": "maximize",
        "trials": 2,
        "space": {"train.lr": {"log": [1e-4, 1e-2]}},
    }
    document = {"name": "s", "question": "?", "base": {"train": {"samples": 512, "batch_size": 64}}, "search": search}
    (path := tmp_path / "s.yaml").write_text(json.dumps(document))
    refused = gapctl("plan", str(path))

    assert "which the analysis computes; expected a metric that each training logs" in refused.err
    assert refused.exit_code == 2
