"""A training's excess over the loss' optimum is looked up from the tables of its ledger."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from analysis_ledgers import ATTRIBUTES, finish, plan_of, sweep_file

from gapctl.analysis.tables import TrialTables, read_trial_tables
from gapctl.ledger import Ledger
from gapctl.ledger.trial import CONFIGURATION
from gapctl.plan.plan import Plan
from sweep_texts import complaints, document

ASKED: Mapping[str, Any] = {
    "id": "excess",
    "claim": "There is more gap than the loss asks for.",
    "test": "threshold",
    "response": "gap/l2m_excess",
    "value": 0.0,
    "direction": "increasing",
    "smallest_effect": 0.05,
}
ENCODERS = {ATTRIBUTES: [0, 5], "temperature.mode": ["learned", "fixed"]}
TABLES = {**ENCODERS, "model.preset": ["table"], "init.gap": [0.0, 1.0], "data.captions.order": ["canonical"]}


def planned(folder: Path, name: str, vary: Mapping[str, Any], **changes: Any) -> Plan:
    return plan_of(sweep_file(folder, {**ASKED, "response": "gap/l2m"}, vary=vary, name=name, **changes))


def judged(folder: Path, ledger: Ledger, *responses: str) -> TrialTables:
    asked = [{**ASKED, "id": f"ask-{index}", "response": name} for index, name in enumerate(responses)]
    return read_trial_tables(plan_of(sweep_file(folder, *asked, vary=ENCODERS, name="encoders")), ledger)


def filled(folder: Path, tables: Mapping[str, Any] = TABLES) -> Ledger:
    ledger = Ledger(str(folder / "runs"))
    for trial in planned(folder, "encoders", ENCODERS).trials:
        finish(ledger, trial, {"gap/l2m": 0.5 + 0.01 * trial.seed, "gap/rmg": 0.6})
    for trial in planned(folder, "tables", tables).trials:
        begun = 0.7 if trial.factors["init.gap"] else 0.0
        fixed = 0.1 if trial.factors["temperature.mode"] == "fixed" else 0.0
        told = 0.02 * float(trial.factors[ATTRIBUTES])
        finish(ledger, trial, {"gap/l2m": begun + fixed + told + 0.01 * (trial.seed - 1), "gap/rmg": 0.2})
    return ledger


def test_an_excess_is_over_the_mean_of_tables_of_the_same_captions_and_temperature_that_began_without_a_gap(
    tmp_path: Path,
) -> None:
    found = judged(tmp_path, filled(tmp_path), "gap/l2m_excess", "gap/rmg_excess")

    assert found.damaged == ()
    assert found.trials["gap/rmg_excess"].to_list() == pytest.approx([0.4] * 12)
    optimum = 0.02 * pl.col(ATTRIBUTES) + 0.1 * (pl.col("temperature.mode") == "fixed")
    wrong = found.trials.filter((pl.col("gap/l2m_excess") - (pl.col("gap/l2m") - optimum)).abs() > 1e-9)
    assert wrong.is_empty()


def test_a_training_without_such_a_table_has_no_excess_and_the_ledger_is_said_to_lack_it(tmp_path: Path) -> None:
    found = judged(tmp_path, filled(tmp_path, {**TABLES, ATTRIBUTES: [0]}), "gap/l2m_excess")

    assert found.trials.filter(pl.col("gap/l2m_excess").is_null())[ATTRIBUTES].unique().to_list() == [5]
    (message,) = found.damaged
    assert "for 6 of 12 trainings" in message
    assert "sweeps/optimum.yaml trains such tables" in message


def test_a_damaged_configuration_of_a_table_costs_that_table_alone(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    first = planned(tmp_path, "tables", TABLES).trials[0]
    (tmp_path / "runs" / first.id / CONFIGURATION).write_text("config: {model: {\npreset: table")

    found = judged(tmp_path, ledger, "gap/l2m_excess")

    assert found.trials["gap/l2m_excess"].null_count() == 0
    (message,) = found.damaged
    assert f"{first.id}/{CONFIGURATION}" in message


def test_an_excess_is_not_asked_of_pairs(tmp_path: Path) -> None:
    text = document()
    pairs = {"data": {"dataset": "image_text"}, "model": {"preset": "pairs-small"}}
    text |= {"base": {**text["base"], **pairs}, "vary": {"data.captions.keep": ["full", "half"]}, "hypotheses": [ASKED]}

    assert any("it is less the optimum of MAD's captions" in line for line in complaints(tmp_path, text))
