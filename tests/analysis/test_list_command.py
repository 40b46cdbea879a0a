"""`gapctl list`: each sweep with its cost at each scale, and the verdicts that a ledger has of it."""

import json
from pathlib import Path

import pytest
from analysis_ledgers import TREND, asked_and_answered, falling, fill, plan_of, sweep_file

from command_line import gapctl
from gapctl.cli.options import load_plan
from gapctl.ledger import Ledger


def test_questions_lists_a_folder_with_costs_and_verdicts(tmp_path: Path) -> None:
    asked_and_answered(tmp_path, "arXiv 2404.07983, claim 2; disputed")
    sweep_file(tmp_path, TREND, name="not-run")

    told = gapctl("list", str(tmp_path), "--runs", str(tmp_path / "runs"))
    found = json.loads(gapctl("list", str(tmp_path), "--runs", str(tmp_path / "runs"), "--json").out)["questions"]

    assert told.exit_code == 0
    assert "18 of 18 done, 2 supported" in told.out
    assert "sources: arXiv 2404.07983, claim 2\n" in told.out
    assert [(one["name"], one["scales"]["base"]["trials"]) for one in found] == [("made-up", 18), ("not-run", 18)]
    assert [one["scales"]["base"]["trials_done"] for one in found] == [18, 0]
    assert found[0]["scales"]["base"]["verdicts"][0] == {
        "id": "slope",
        "verdict": "supported",
        "exploratory": False,
        "seeds": 3,
        "marks": [],
    }


def test_a_file_is_judged_as_it_stands_and_not_as_it_was_changed_when_it_ran(tmp_path: Path) -> None:
    path, runs = asked_and_answered(tmp_path), str(tmp_path / "runs")
    fill(Ledger(runs), load_plan(path, None, ["seeds=2", "base.train.lr=0.01"]), falling(-0.05, noise=0.005))
    before = gapctl("list", str(path), "--runs", runs).out
    path.write_text(path.read_text().replace('"smallest_effect": 0.05', '"smallest_effect": 0.6'))
    after = " ".join(gapctl("list", str(path), "--runs", runs).out.split())

    assert "18 of 18 done, 2 supported" in before
    assert "18 of 18 done, 1 supported, 1 refuted, exploratory" in after


def test_questions_needs_no_data_and_names_a_wrong_file(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, TREND, name="elsewhere")
    document = json.loads(path.read_text())
    document["base"]["data"] = {"dataset": "mad", "source": "nowhere"}
    path.write_text(json.dumps(document))
    (tmp_path / "wrong.yaml").write_text("name: wrong\n")

    answer = gapctl("list", str(tmp_path), "--runs", str(tmp_path / "runs"))

    assert answer.exit_code == 1
    assert "elsewhere: Does it?" in answer.out
    assert "wrong.yaml" in answer.err


def test_the_shipped_sweeps_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    found = json.loads(gapctl("list", "--json").out)["questions"]

    assert "imbalance" in [one["name"] for one in found]
    assert all(Path(one["file"]).is_absolute() for one in found)


def test_a_folder_without_sweeps_is_refused(tmp_path: Path) -> None:
    answer = gapctl("list", str(tmp_path))

    assert answer.exit_code == 2
    assert "no sweep file in" in answer.err


def test_plans_on_data_that_is_not_there_have_the_same_cost(tmp_path: Path) -> None:
    from gapctl.plan.estimate import estimate_sweep_costs, estimate_training_cost

    path = sweep_file(tmp_path, TREND)

    assert estimate_sweep_costs(path, 1).costs[None] == estimate_training_cost(plan_of(path).trainings, 1)
