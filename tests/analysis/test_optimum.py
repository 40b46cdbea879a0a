"""A training's excess over the loss' optimum is looked up from the tables of its ledger."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from analysis_ledgers import ATTRIBUTES, finish, plan_of, sweep_file

from command_line import gapctl
from gapctl.analysis.analyze import analyze_tables
from gapctl.analysis.optimum import list_missing_optima
from gapctl.analysis.tables import TrialTables, read_trial_tables
from gapctl.cli.options import load_plan
from gapctl.ledger import Ledger
from gapctl.ledger.trial import CONFIGURATION
from gapctl.plan.plan import Plan, Trial
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


def planned(
    folder: Path, name: str, vary: Mapping[str, Any], make: Callable[[Path], Plan] = plan_of, **changes: Any
) -> Plan:
    return make(sweep_file(folder, {**ASKED, "response": "gap/l2m"}, vary=vary, name=name, **changes))


def planned_as_commands_do(file: Path) -> Plan:
    return load_plan(file, None, None)


def judged(folder: Path, ledger: Ledger, *responses: str) -> TrialTables:
    asked = [{**ASKED, "id": f"ask-{index}", "response": name} for index, name in enumerate(responses)]
    return read_trial_tables(plan_of(sweep_file(folder, *asked, vary=ENCODERS, name="encoders")), ledger)


def filled(
    folder: Path,
    tables: Mapping[str, Any] = TABLES,
    converged: Callable[[Trial], float] = lambda trial: 1.0,
    make: Callable[[Path], Plan] = plan_of,
) -> Ledger:
    ledger = Ledger(str(folder / "runs"))
    for trial in planned(folder, "encoders", ENCODERS, make).trials:
        finish(ledger, trial, {"gap/l2m": 0.5 + 0.01 * trial.seed, "gap/rmg": 0.6})
    for trial in planned(folder, "tables", tables, make).trials:
        begun = 0.7 if trial.factors["init.gap"] else 0.0
        fixed = 0.1 if trial.factors["temperature.mode"] == "fixed" else 0.0
        told = 0.02 * float(trial.factors[ATTRIBUTES])
        measured = {"gap/l2m": begun + fixed + told + 0.01 * (trial.seed - 1), "gap/rmg": 0.2}
        finish(ledger, trial, {**measured, "train/converged": converged(trial)})
    return ledger


def test_an_excess_is_over_the_mean_of_tables_of_the_same_captions_and_temperature_that_began_without_a_gap(
    tmp_path: Path,
) -> None:
    found = judged(tmp_path, filled(tmp_path), "gap/l2m_excess", "gap/rmg_excess")

    assert (found.damaged, found.lacking) == ((), ())
    assert found.trials["gap/rmg_excess"].to_list() == pytest.approx([0.4] * 12)
    optimum = 0.02 * pl.col(ATTRIBUTES) + 0.1 * (pl.col("temperature.mode") == "fixed")
    wrong = found.trials.filter((pl.col("gap/l2m_excess") - (pl.col("gap/l2m") - optimum)).abs() > 1e-9)
    assert wrong.is_empty()


def test_a_training_without_such_a_table_has_no_excess_and_the_ledger_is_said_to_lack_it(tmp_path: Path) -> None:
    found = judged(tmp_path, filled(tmp_path, {**TABLES, ATTRIBUTES: [0]}), "gap/l2m_excess")

    assert found.trials.filter(pl.col("gap/l2m_excess").is_null())[ATTRIBUTES].unique().to_list() == [5]
    (message,) = found.lacking
    assert found.damaged == ()
    assert "for 6 of 12 trainings (attributes=5 mode=learned seed=0)" in message
    assert "has no table" in message
    assert "width and batch: none with data.captions.attributes 5; `gapctl sweep optimum --runs " in message
    assert f"--runs {tmp_path / 'runs'}` trains such tables" in message


def test_the_settings_are_named_that_no_table_has_together(tmp_path: Path) -> None:
    ledger = filled(tmp_path, {**TABLES, ATTRIBUTES: [0], "temperature.mode": ["learned"]})
    for trial in planned(tmp_path, "others", {**TABLES, ATTRIBUTES: [5], "temperature.mode": ["fixed"]}).trials:
        finish(ledger, trial, {"gap/l2m": 0.0, "train/converged": 1.0})

    found = judged(tmp_path, ledger, "gap/l2m_excess")

    assert len(found.lacking) == 2
    assert "for 3 of 12 trainings (attributes=0 mode=fixed seed=0)" in found.lacking[0]
    assert "none with data.captions.attributes 0 and all else alike" in found.lacking[0]


def test_a_list_of_attributes_is_named_that_no_table_has(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    asked = {**ASKED, "id": "listed"}
    levels = {"data.captions.fixed": ["scale, colour", "scale, fracture"], ATTRIBUTES: [2]}
    plan = plan_of(sweep_file(tmp_path, asked, vary=levels, name="listed"))
    finish(ledger, plan.trials[0], {"gap/l2m": 0.1})

    (message,) = read_trial_tables(plan, ledger).lacking

    assert "none with data.captions.attributes 2 and data.captions.fixed scale, colour; `gapctl sweep" in message


def test_only_tables_that_converged_are_the_optimum(tmp_path: Path) -> None:
    found = judged(tmp_path, filled(tmp_path, converged=lambda trial: float(trial.seed == 2)), "gap/l2m_excess")

    assert found.damaged == ()
    optimum = 0.01 + 0.02 * pl.col(ATTRIBUTES) + 0.1 * (pl.col("temperature.mode") == "fixed")
    wrong = found.trials.filter((pl.col("gap/l2m_excess") - (pl.col("gap/l2m") - optimum)).abs() > 1e-9)
    assert wrong.is_empty()


@pytest.mark.parametrize(
    "moved",
    [{"evaluate": {"intervention": "shift"}}, {"train": {"mismatched": 0.5}}, {"init_from": {"train.samples": 512}}],
)
def test_a_table_that_was_moved_or_began_elsewhere_is_no_optimum(moved: dict[str, Any], tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    file = sweep_file(tmp_path, {**ASKED, "response": "gap/l2m"}, vary={**TABLES, "init.gap": [0.0]}, name="moved")
    text = json.loads(file.read_text())
    base = {name: {**text["base"].get(name, {}), **changes} for name, changes in moved.items()}
    file.write_text(json.dumps({**text, "base": {**text["base"], **base}}))
    others = plan_of(file).trials
    for trial in others:
        finish(ledger, trial, {"gap/l2m": 0.9, "train/converged": 1.0})

    found = judged(tmp_path, ledger, "gap/l2m_excess")

    optimum = 0.02 * pl.col(ATTRIBUTES) + 0.1 * (pl.col("temperature.mode") == "fixed")
    wrong = found.trials.filter((pl.col("gap/l2m_excess") - (pl.col("gap/l2m") - optimum)).abs() > 1e-9)
    assert others
    assert wrong.is_empty()


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ({"evaluate": {"intervention": "shift"}}, "evaluate.intervention shift moves its embeddings"),
        (
            {"temperature": {"mode": "frozen"}, "init_from": {"temperature.mode": "learned"}},
            "temperature.mode frozen keeps the temperature of earlier weights",
        ),
    ],
)
def test_a_training_that_no_table_can_be_like_has_no_excess_and_none_is_advised(
    base: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    ledger = filled(tmp_path)
    file = sweep_file(tmp_path, ASKED, vary={ATTRIBUTES: [0]}, name="unlike")
    text = json.loads(file.read_text())
    own = {name: {**text["base"].get(name, {}), **changes} for name, changes in base.items()}
    file.write_text(json.dumps({**text, "base": {**text["base"], **own}}))
    plan = plan_of(file)
    finish(ledger, plan.trials[0], {"gap/l2m": 0.1})

    tables = read_trial_tables(plan, ledger)

    (message,) = tables.lacking
    assert expected in message
    assert "gapctl sweep optimum" not in message
    assert tables.trials.get_column("gap/l2m_excess", default=pl.Series([None]))[0] is None


def test_a_training_whose_bayes_loss_is_not_known_has_no_excess_beside_one_that_has(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    file = sweep_file(tmp_path, ASKED, vary={ATTRIBUTES: [0], "loss.uniformity": [0.0, 1.0]}, name="terms")
    plan = plan_of(file)
    for trial in plan.trials:
        finish(ledger, trial, {"gap/l2m": 0.5})

    tables = read_trial_tables(plan, ledger)

    (message,) = tables.lacking
    assert "for 3 of 6 trainings (attributes=0 uniformity=1.0 seed=0)" in message
    assert "the least that its loss can be is not known" in message


def test_tables_of_posterior_targets_count_before_those_of_drawn_ones(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    less_noisy = {**TABLES, "init.gap": [0.0], "loss.targets": ["posterior"]}
    for trial in planned(tmp_path, "posterior", less_noisy).trials:
        finish(ledger, trial, {"gap/l2m": 0.125, "train/converged": 1.0})

    found = judged(tmp_path, ledger, "gap/l2m_excess").trials

    assert found["gap/l2m_excess"].to_list() == pytest.approx([each - 0.125 for each in found["gap/l2m"]])


@pytest.mark.parametrize("recorded", [{}, {"gap/rmg": float("nan")}])
def test_each_optimum_is_of_the_best_tables_that_have_its_metric(recorded: Mapping[str, float], tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    less_noisy = {**TABLES, "init.gap": [0.0], "loss.targets": ["posterior"]}
    for trial in planned(tmp_path, "posterior", less_noisy).trials:
        finish(ledger, trial, {"gap/l2m": 0.125, **recorded, "train/converged": 1.0})

    found = judged(tmp_path, ledger, "gap/l2m_excess", "gap/rmg_excess")

    assert found.lacking == ()
    assert found.trials["gap/rmg_excess"].to_list() == pytest.approx([0.4] * 12)
    assert found.trials["gap/l2m_excess"].to_list() == pytest.approx([x - 0.125 for x in found.trials["gap/l2m"]])


def test_a_metric_that_no_table_recorded_costs_its_own_excess_alone(tmp_path: Path) -> None:
    found = judged(tmp_path, filled(tmp_path), "gap/l2m_excess", "bias/moad_image_excess")

    (message,) = found.lacking
    assert message.startswith("bias/moad_image_excess: for 12 of 12 trainings (attributes=0 mode=learned seed=0), ")
    assert "converged, but recorded no finite bias/moad_image" in message
    assert found.trials["gap/l2m_excess"].null_count() == 0


def test_a_training_that_no_hypothesis_compares_lacks_no_table(tmp_path: Path) -> None:
    ledger = filled(tmp_path, {**TABLES, ATTRIBUTES: [0]})
    held = {"where": {ATTRIBUTES: 0}}
    other = {**ASKED, "id": "other", "response": "gap/rmg_excess"}
    some = plan_of(sweep_file(tmp_path, {**ASKED, **held}, vary=ENCODERS, name="some"))
    both = plan_of(sweep_file(tmp_path, {**ASKED, **held}, other, vary=ENCODERS, name="both"))

    assert list_missing_optima(some, ledger) == []
    assert read_trial_tables(some, ledger).lacking == ()
    for (message,) in (list_missing_optima(both, ledger), read_trial_tables(both, ledger).lacking):
        assert message.startswith("gap/rmg_excess: for 6 of 12 trainings (attributes=5 mode=learned seed=0), ")


def test_a_level_between_those_that_are_compared_needs_no_table(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    contrast = {**ASKED, "id": "told", "test": "contrast", "factor": ATTRIBUTES, "between": [0, 5]}
    del contrast["value"]
    plan = plan_of(sweep_file(tmp_path, contrast, vary={**ENCODERS, ATTRIBUTES: [0, 3, 5]}, name="three"))
    for trial in plan.trials:
        finish(ledger, trial, {"gap/l2m": 0.5})

    assert list_missing_optima(plan, ledger) == []
    assert read_trial_tables(plan, ledger).lacking == ()


def test_a_plan_counts_only_compared_trainings(tmp_path: Path) -> None:
    held = {**ASKED, "where": {ATTRIBUTES: 0}}

    (message,) = list_missing_optima(
        plan_of(sweep_file(tmp_path, held, vary=ENCODERS, name="some")), Ledger(str(tmp_path / "empty"))
    )

    assert message.startswith("gap/l2m_excess: for 6 of 6 trainings (attributes=0 mode=learned seed=0), ")


def test_tables_that_did_not_converge_are_counted_where_no_other_is_left(tmp_path: Path) -> None:
    ended = filled(tmp_path, converged=lambda trial: float(trial.factors["temperature.mode"] == "learned"))

    found = judged(tmp_path, ended, "gap/l2m_excess")

    lacking = found.trials.filter(pl.col("gap/l2m_excess").is_null())
    assert lacking["temperature.mode"].unique().to_list() == ["fixed"]
    (message,) = found.lacking
    assert "for 6 of 12 trainings" in message
    assert "3 tables of these captions" in message
    assert "did not converge" in message


@pytest.mark.parametrize("wording", [{"order": "canonical"}, {"synonyms": 3}, {"synonyms": 2, "synonym_draw": "once"}])
def test_an_optimum_is_of_captions_however_they_are_worded(wording: Mapping[str, Any], tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    vary = {ATTRIBUTES: [0, 5], **{f"data.captions.{name}": [value] for name, value in wording.items()}}
    plan = plan_of(sweep_file(tmp_path, ASKED, vary=vary, name="worded"))
    finish(ledger, plan.trials[0], {"gap/l2m": 0.5})

    found = read_trial_tables(plan, ledger)

    assert found.damaged == ()
    assert found.trials["gap/l2m_excess"].to_list() == pytest.approx([0.5])


def test_a_damaged_configuration_of_a_table_costs_that_table_alone(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    first = planned(tmp_path, "tables", TABLES).trials[0]
    (tmp_path / "runs" / first.id / CONFIGURATION).write_text("config: {model: {\npreset: table")

    found = judged(tmp_path, ledger, "gap/l2m_excess")

    assert found.trials["gap/l2m_excess"].null_count() == 0
    (message,) = found.damaged
    assert f"{first.id}/{CONFIGURATION}" in message


def test_a_verdict_says_as_the_analysis_does_which_table_is_lacking(tmp_path: Path) -> None:
    ledger = filled(tmp_path, {**TABLES, ATTRIBUTES: [0]})
    plan = plan_of(sweep_file(tmp_path, ASKED, vary=ENCODERS, name="encoders"))
    tables = read_trial_tables(plan, ledger)
    (message,) = tables.lacking

    (verdict,) = analyze_tables(plan, tables, ledger).verdicts

    sentence = message.split("seed=0), ")[1]
    assert sentence.startswith(f"{ledger.root} has no table")
    assert "gap/l2m_excess is not known in attributes=5 mode=fixed seed=0, " in verdict.reason
    assert f", as {sentence}." in verdict.reason
    assert "not recorded" not in verdict.reason


def test_a_lacking_table_is_no_damage_and_the_command_that_trains_it_is_printed(tmp_path: Path) -> None:
    ledger = filled(tmp_path, {**TABLES, ATTRIBUTES: [0]}, make=planned_as_commands_do)
    asked = str(sweep_file(tmp_path, ASKED, vary=ENCODERS, name="encoders"))

    printed = gapctl("analyze", asked, "--runs", ledger.root)
    document = json.loads(gapctl("analyze", asked, "--runs", ledger.root, "--json").out)

    assert printed.exit_code == 0
    assert document["damaged"] == []
    (message,) = document["lacking"]
    assert message in " ".join(printed.out.split())
    assert f"`gapctl sweep optimum --runs {ledger.root}` trains such tables" in message


def test_a_damaged_table_is_damage_where_another_is_lacking(tmp_path: Path) -> None:
    ledger = filled(tmp_path, {**TABLES, ATTRIBUTES: [0]}, make=planned_as_commands_do)
    first = planned(tmp_path, "tables", {**TABLES, ATTRIBUTES: [0]}, planned_as_commands_do).trials[0]
    (tmp_path / "runs" / first.id / CONFIGURATION).write_text("config: {model: {\npreset: table")

    found = gapctl("analyze", str(sweep_file(tmp_path, ASKED, vary=ENCODERS, name="encoders")), "--runs", ledger.root)

    assert found.exit_code == 1
    assert f"{first.id}/{CONFIGURATION}: damaged" in found.err
    assert "trains such tables" not in found.err


def test_a_plan_says_which_tables_its_ledger_lacks(tmp_path: Path) -> None:
    file = sweep_file(tmp_path, ASKED, vary=ENCODERS, name="asks")
    told = gapctl("plan", str(file), "--json", "--runs", str(tmp_path / "runs"))

    note = json.loads(told.out)["totals"]["notes"][-1]

    assert "gap/l2m_excess: for 12 of 12 trainings (attributes=0 mode=learned seed=0), " in note
    assert "has no table (model.preset table, init.gap 0)" in note


def test_a_plan_needs_no_table_that_the_ledger_holds_or_the_sweep_itself_trains(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    asks = plan_of(sweep_file(tmp_path, ASKED, vary=ENCODERS, name="asks"))
    both = {**ENCODERS, "model.preset": ["mad-tiny", "table"]}
    trains = plan_of(sweep_file(tmp_path, ASKED, vary=both, name="trains"))

    assert list_missing_optima(asks, ledger) == []
    assert list_missing_optima(trains, Ledger(str(tmp_path / "empty"))) == []
    assert len(list_missing_optima(asks, Ledger(str(tmp_path / "empty")))) == 1


def test_a_plan_does_not_count_on_its_own_tables_that_ended_without_converging(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "runs"))
    vary = {ATTRIBUTES: [5], "model.preset": ["mad-tiny", "table"]}
    plan = plan_of(sweep_file(tmp_path, ASKED, vary=vary, name="both"))
    for trial in plan.trials:
        if trial.factors["model.preset"] == "table":
            finish(ledger, trial, {"gap/l2m": 0.0, "train/converged": 0.0})

    (message,) = list_missing_optima(plan, ledger)

    assert "3 tables of these captions" in message
    assert "did not converge" in message


def test_an_excess_is_not_asked_of_pairs(tmp_path: Path) -> None:
    text = document()
    pairs = {"data": {"dataset": "image_text"}, "model": {"preset": "pairs-small"}}
    text |= {"base": {**text["base"], **pairs}, "vary": {"data.captions.keep": ["full", "half"]}, "hypotheses": [ASKED]}

    assert any("it is less the optimum of MAD's captions" in line for line in complaints(tmp_path, text))
