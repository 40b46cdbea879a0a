"""Where recipes are the replicates, verdicts are over recipes, with an interval for the next one beside them."""

import json
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from analysis_ledgers import ATTRIBUTES, CONTRAST, RMG, fill, sweep_file

from command_line import gapctl
from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.estimates import compute_prediction_interval
from gapctl.analysis.results import AnalysisResults
from gapctl.cli.options import load_plan
from gapctl.config.information import find_bayes_loss, find_caption_bits
from gapctl.ledger import Ledger
from gapctl.plan.plan import Trial
from gapctl.tracking.run_contents import build_treatment_columns

EFFECTS = (-0.10, -0.14, -0.22, -0.30)


def measure(trial: Trial) -> dict[str, float]:
    """A difference that is each recipe's own."""
    return {RMG: 0.5 + float(trial.factors[ATTRIBUTES]) / 5 * EFFECTS[trial.seed]}


LEARNING_RATES = {"train.lr": {"log": [3e-4, 3e-3]}}


def drawn(folder: Path, draws: int = 4, space: Mapping[str, Any] = LEARNING_RATES) -> Path:
    """A sweep over recipes, finished in `folder/runs`; returns its file."""
    path = sweep_file(folder, CONTRAST, vary={ATTRIBUTES: [0, 5]}, seeds=1)
    replicates = {"over": "recipes", "draws": draws, "space": space}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"replicates": replicates}, indent=1))
    return path


def judged(folder: Path) -> AnalysisResults:
    plan = load_plan(drawn(folder), None, None)
    fill(Ledger(str(folder / "runs")), plan, measure)
    return analyze_finished_trials(plan, Ledger(str(folder / "runs")))


def test_the_interval_is_over_recipes_and_one_for_the_next_recipe_is_wider(tmp_path: Path) -> None:
    (verdict,) = judged(tmp_path).verdicts
    half = 3.182446 * np.std(EFFECTS, ddof=1)

    assert (verdict.verdict, verdict.replicate_noun, verdict.seeds, verdict.trials) == ("inconclusive", "recipe", 4, 8)
    assert verdict.ci == pytest.approx((-0.19 - half / 2, -0.19 + half / 2), abs=1e-6)
    assert verdict.prediction == pytest.approx(
        (-0.19 - half * math.sqrt(1.25), -0.19 + half * math.sqrt(1.25)), abs=1e-6
    )
    assert verdict.reason.startswith("All 4 recipes fall by 0.100 to 0.300; ")
    assert verdict.marks == ()


def test_seeds_have_no_interval_for_a_new_recipe(tmp_path: Path) -> None:
    plan = load_plan(sweep_file(tmp_path, CONTRAST, seeds=3), None, None)
    fill(Ledger(str(tmp_path / "runs")), plan, measure)

    (verdict,) = analyze_finished_trials(plan, Ledger(str(tmp_path / "runs"))).verdicts

    assert all(map(math.isnan, verdict.prediction))


@pytest.mark.parametrize("recipes", [4, 24])
def test_a_95_percent_prediction_interval_holds_the_next_effect_that_often(recipes: int) -> None:
    random_effects = np.random.default_rng(3).normal(1.0, 2.0, size=(2_000, recipes + 1))
    held = 0
    for *known, following in random_effects:
        low, high = compute_prediction_interval(np.array(known), 0.05)
        held += low <= following <= high

    assert 0.935 < held / 2_000 < 0.965


def test_the_prediction_stands_wherever_the_verdict_does(tmp_path: Path) -> None:
    judged(tmp_path)
    path, runs = str(tmp_path / "made-up.yaml"), str(tmp_path / "runs")
    pages = [tmp_path / f"report.{ending}" for ending in ("html", "md", "tex")]
    for page in pages:
        assert gapctl("analyze", path, "--runs", runs, "--out", str(page)).exit_code == 0
    document = json.loads(gapctl("analyze", path, "--runs", runs, "--json").out)["verdicts"][0]
    told = gapctl("analyze", path, "--runs", runs).out

    for text in (told, *(page.read_text() for page in pages)):
        said = " ".join(text.split()).replace("\\", "").replace("$-$", "-").replace("−", "-")
        assert "With a new recipe of these ranges the effect lies between -0.506 and 0.126" in said
    assert document["prediction"] == pytest.approx([-0.506, 0.126], abs=1e-3)
    assert document["replicate_noun"] == "recipe"


def test_the_table_of_trials_and_mlflow_have_a_column_of_recipes_and_what_was_drawn(tmp_path: Path) -> None:
    found = judged(tmp_path)
    plan = load_plan(tmp_path / "made-up.yaml", None, None)

    assert found.trials["recipe"].to_list() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert found.trials["train.lr"].to_list() == [trial.config.train.lr for trial in plan.trials]
    assert build_treatment_columns(plan, plan.trials[3]) == {"attributes": "5", "recipe": "1"}


def test_an_export_has_what_was_drawn(tmp_path: Path) -> None:
    judged(tmp_path)
    plan, out = load_plan(tmp_path / "made-up.yaml", None, None), tmp_path / "trials.csv"

    gapctl("analyze", str(tmp_path / "made-up.yaml"), "--runs", str(tmp_path / "runs"), "--export", str(out))

    rates = [trial.config.train.lr for trial in plan.trials]
    assert pl.read_csv(out)["train.lr"].to_list() == pytest.approx(rates)


def test_another_number_of_recipes_than_declared_only_explores(tmp_path: Path) -> None:
    judged(tmp_path)
    fewer = load_plan(drawn(tmp_path, draws=3), None, None)

    found = analyze_finished_trials(fewer, Ledger(str(tmp_path / "runs")))

    assert found.deviation == "3 of the 4 declared recipes are judged"
    assert found.verdicts[0].exploratory


def test_a_recipe_whose_training_is_missing_is_named(tmp_path: Path) -> None:
    plan = load_plan(drawn(tmp_path), None, None)
    fill(Ledger(str(tmp_path / "runs")), plan, measure, random.Random(1).sample(plan.trials[:7], 7))

    (verdict,) = analyze_finished_trials(plan, Ledger(str(tmp_path / "runs"))).verdicts

    assert "recipe 3 is left out as 7 of 8 trainings are done" in verdict.reason


def test_an_arm_s_bayes_loss_and_bits_are_means_over_its_recipes(tmp_path: Path) -> None:
    space = {"train.batch_size": {"choice": [16, 64]}, "data.captions.noise": {"uniform": [0.0, 0.5]}}
    path, runs = drawn(tmp_path, space=space), tmp_path / "runs"
    plan = load_plan(path, None, None)

    def measure_loss(trial: Trial) -> dict[str, float]:
        return measure(trial) | {"train/loss": 2.0, "train/loss_bayes": find_bayes_loss(trial.config) or 0.0}

    fill(Ledger(str(runs)), plan, measure_loss)
    document = json.loads(gapctl("analyze", str(path), "--runs", str(runs), "--json").out)
    checks = [check for check in document["learning"] if check["check"] == "train/loss"]

    assert len(checks) == len(document["information"]) == 2
    for check, bits in zip(checks, document["information"], strict=True):
        configs = [trial.config for trial in plan.trials if dict(trial.factors) == check["levels"] == bits["levels"]]
        least = [find_bayes_loss(config) for config in configs]
        unsaid = [found.image_given_caption for config in configs if (found := find_caption_bits(config)) is not None]
        assert len(set(least)) == len(set(unsaid)) == 4
        assert check["loss_bayes"] == bits["train/loss_bayes"] == pytest.approx(np.mean(least))
        assert bits["information/image_given_caption"] == pytest.approx(np.mean(unsaid))
