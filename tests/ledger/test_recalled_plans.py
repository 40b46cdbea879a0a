"""A declaration keeps what its plan is made from, so that a ledger can be judged without the sweep's files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gapctl.errors import InputError, WorkError
from gapctl.ledger import Declaration, Ledger
from gapctl.ledger.preregistration import rebuild_declared_plan, rebuild_plan
from gapctl.plan.plan import Plan, make_plan
from sweep_texts import TINY, edited, loaded


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan(loaded(tmp_path, TINY, "quick", "seeds=2"), lambda data: "fingerprint")


@pytest.fixture
def declared(plan: Plan, tmp_path: Path) -> Declaration:
    return Ledger(str(tmp_path / "runs")).declare_plan(plan)


def test_the_plan_comes_back_whole_without_its_file(plan: Plan, declared: Declaration, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").unlink()
    kept = Ledger(str(tmp_path / "runs")).read_declaration("tiny")

    assert kept == declared
    assert rebuild_plan(declared, "quick", "P") == plan


def test_what_a_newer_recipe_would_train_is_not_taken_for_what_was_trained(declared: Declaration) -> None:
    asked = declared.asked["quick"]
    other = replace(declared, asked={"quick": replace(asked, recipe_version=asked.recipe_version + 1)})

    with pytest.raises(InputError, match="P: this gapctl makes 4 other trials of the sweep file kept for scale quick"):
        rebuild_plan(other, "quick", "P")


def test_an_older_declaration_is_read_and_says_what_it_lacks(declared: Declaration, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "tiny.sweep.json"
    document = json.loads(path.read_text())
    del document["asked"]
    path.write_text(json.dumps(document))
    older = Ledger(str(tmp_path / "runs")).read_declaration("tiny")

    assert older is not None
    assert older == replace(declared, asked={})
    with pytest.raises(InputError, match="keeps no sweep file for scale quick"):
        rebuild_plan(older, "quick", "P")


def test_a_kept_file_whose_data_have_no_fingerprint_is_damaged(declared: Declaration) -> None:
    broken = replace(declared, asked={"quick": replace(declared.asked["quick"], fingerprints={})})

    with pytest.raises(WorkError, match="P: damaged: its sweep file trains on bundled"):
        rebuild_plan(broken, "quick", "P")


def test_a_kept_file_that_cannot_be_read_is_damage_of_the_ledger_and_not_of_the_file(
    declared: Declaration, tmp_path: Path
) -> None:
    broken = replace(declared, asked={"quick": replace(declared.asked["quick"], text="name: [")})

    with pytest.raises(WorkError) as said:
        rebuild_plan(broken, "quick", "P")
    assert str(said.value).startswith("P: damaged: the sweep file kept there for scale quick cannot be read: ")
    assert f"{tmp_path / 'sweep.yaml'}:" in str(said.value), "where in the kept text"
    assert "Restore it from a backup" in str(said.value)


def test_what_was_declared_is_recalled_beside_what_was_asked_last(declared: Declaration, tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "runs"))
    begun = rebuild_plan(declared, "quick", "P").trials[0]
    ledger.trial(begun.id).begin(begun)
    text = edited(("claim: It closes.", "claim: It opens."))
    now = ledger.declare_plan(make_plan(loaded(tmp_path, text, "quick", "seeds=2"), lambda data: "fingerprint"))

    assert rebuild_plan(now, "quick", "P").sweep.text == text
    assert rebuild_declared_plan(now, "quick", "P").sweep.text == TINY


def test_what_was_not_declared_in_time_is_not_recalled_as_declared(plan: Plan, tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "runs"))
    ledger.trial(plan.trials[0].id).begin(plan.trials[0])
    late = ledger.declare_plan(plan)

    with pytest.raises(InputError, match="P: --declared: keeps no sweep file for scale quick whose hypotheses were"):
        rebuild_declared_plan(late, "quick", "P")


@pytest.mark.parametrize("password", ["hunter2", "p@ss/w0rd:x", "hun'ter2"])
def test_no_password_of_an_address_reaches_the_ledger(tmp_path: Path, password: str) -> None:
    text = f'{TINY}tracking: {{uri: "postgresql://me:{password}@host/runs"}} # or mysql://me:{password}@host\n'
    plan = make_plan(loaded(tmp_path, text, "quick"), lambda data: "fingerprint")
    declared = Ledger(str(tmp_path / "runs")).declare_plan(plan)

    kept = (tmp_path / "runs" / "tiny.sweep.json").read_text()
    assert password not in kept
    assert "postgresql://me:***@host/runs" in kept
    assert rebuild_plan(declared, "quick", "P").trials == plan.trials
