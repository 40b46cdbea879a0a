"""`gapctl analyze` as it is typed: verdicts, one JSON document, a report, and what it answers when it cannot."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from analysis_ledgers import CONTRAST, TREND, by_seed, falling, fill, sweep_file
from click.testing import Result
from typer.testing import CliRunner

from gapctl.cli.analyze import analyze_command
from gapctl.cli.options import load_plan
from gapctl.errors import InputError, WorkError
from gapctl.ledger import Ledger
from gapctl.plan.plan import Plan

APP = typer.Typer()
APP.command()(analyze_command)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return sweep_file(tmp_path, TREND, CONTRAST)


@pytest.fixture
def plan(file: Path) -> Plan:
    return load_plan(file, None, None)


def analyzed(file: Path, *options: str) -> Result:
    return CliRunner().invoke(APP, [str(file), "--runs", str(file.parent / "runs"), *options])


def filled(file: Path, plan: Plan) -> None:
    fill(Ledger(str(file.parent / "runs")), plan, falling(0.05, noise=0.005))


def test_it_prints_the_verdicts(file: Path, plan: Plan) -> None:
    filled(file, plan)
    done = analyzed(file)

    assert done.exit_code == 0
    assert "slope: supported" in done.stdout
    assert "18 of 18 trainings done" in done.stdout


def test_json_is_one_document_with_the_agreed_keys(file: Path, plan: Plan) -> None:
    filled(file, plan)
    done = analyzed(file, "--json")
    document = json.loads(done.stdout)
    first = document["verdicts"][0]

    assert done.exit_code == 0
    assert set(document) == {
        *("verdicts", "sweep", "question", "scale", "alpha", "spec_sha256", "hypotheses_sha256", "declared_sha256"),
        *(
            "deviation",
            "trials_done",
            "trials_planned",
            "damaged",
            "lacking",
            "declared",
            "learning",
            "information",
            "first_question",
        ),
    }
    assert {
        "id",
        "verdict",
        "estimate",
        "ci",
        "p",
        "p_direction",
        "replicates",
        "seeds",
        "trials",
        "marks",
        "exploratory",
    } <= set(first)
    assert (first["id"], first["verdict"], first["seeds"], first["exploratory"]) == ("slope", "supported", 3, False)
    assert (first["replicates"], first["marks"], first["not_learned"], first["refuted_as"]) == (3, [], [], None)
    assert first["p"] == pytest.approx(2 * first["p_claim"]), "two hypotheses: the p that decides is after Holm"
    assert "p_holm" not in first
    assert first["ci"][0] < first["estimate"] < first["ci"][1] < -0.02
    assert (document["trials_done"], document["trials_planned"], document["damaged"]) == (18, 18, [])
    assert document["hypotheses_sha256"] == document["declared_sha256"] == plan.sweep.hypotheses_sha256


def test_what_is_no_number_is_null_in_json(tmp_path: Path) -> None:
    file = sweep_file(tmp_path, {**CONTRAST, "response": "gap/l2m"})
    fill(Ledger(str(tmp_path / "runs")), load_plan(file, None, None), by_seed(gap__l2m=[math.nan] * 3))
    verdict = json.loads(analyzed(file, "--json").stdout, parse_constant=pytest.fail)["verdicts"][0]

    assert (verdict["estimate"], verdict["ci"], verdict["p"], verdict["seeds"]) == (None, [None, None], None, 0)


def test_the_report_is_written_where_asked(file: Path, plan: Plan, tmp_path: Path) -> None:
    filled(file, plan)
    done = analyzed(file, "--out", str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")

    assert done.exit_code == 0
    assert "report: " in done.stdout
    assert "report.html" in done.stdout
    assert "<html" in page
    assert plan.sweep.hypotheses_sha256[:12] in page


def test_json_stays_alone_on_standard_output_when_a_report_is_written(file: Path, plan: Plan, tmp_path: Path) -> None:
    filled(file, plan)

    assert json.loads(analyzed(file, "--json", "--out", str(tmp_path / "r.html")).stdout)["sweep"] == "made-up"
    assert (tmp_path / "r.html").exists()


@pytest.mark.parametrize("place", ["missing/report.html", "folder.html"])
def test_a_report_that_cannot_be_written_is_wrong_input(file: Path, plan: Plan, tmp_path: Path, place: str) -> None:
    filled(file, plan)
    (tmp_path / "folder.html").mkdir()
    done = analyzed(file, "--out", str(tmp_path / place))

    assert isinstance(done.exception, InputError)
    assert "cannot be written" in str(done.exception)
    assert "expected a file in a folder that exists" in str(done.exception)


def test_without_a_finished_trial_it_says_which_command_to_run(file: Path) -> None:
    done = analyzed(file, "--set", "seeds=2")

    assert isinstance(done.exception, InputError)
    assert "no finished trial" in str(done.exception)
    assert f"`gapctl sweep {file} --set seeds=2 --runs {file.parent / 'runs'}`" in str(done.exception)


def test_a_damaged_trial_is_named_after_the_verdicts_of_the_others(file: Path, plan: Plan) -> None:
    filled(file, plan)
    (file.parent / "runs" / plan.trials[0].id / "result.json").write_text("{")
    done, as_json = analyzed(file), analyzed(file, "--json")

    assert done.exit_code == as_json.exit_code == 1
    assert "17 of 18 trainings done" in done.stdout
    assert "slope: supported" in done.stdout
    assert f"{plan.trials[0].id}/result.json: damaged" in done.stderr
    assert f"{plan.trials[0].id}/result.json: damaged" in json.loads(as_json.stdout)["damaged"][0]


def test_nothing_but_damage_is_no_verdict(file: Path, plan: Plan) -> None:
    fill(Ledger(str(file.parent / "runs")), plan, falling(0.05), trials=plan.trials[:2])
    for trial in plan.trials[:2]:
        (file.parent / "runs" / trial.id / "result.json").write_text("{")
    done = analyzed(file)

    assert isinstance(done.exception, WorkError)
    assert all(trial.id in str(done.exception) for trial in plan.trials[:2])


def test_a_scale_and_overrides_choose_the_trials(file: Path, plan: Plan) -> None:
    filled(file, plan)
    document = json.loads(analyzed(file, "--json", "--set", "seeds=2").stdout)

    assert document["trials_planned"] == 12
    assert document["verdicts"][0]["seeds"] == 2


def test_parsing_loads_no_tables_and_analysing_loads_no_training() -> None:
    """`gapctl --help` imports every verb's module, and an analysis may run where torch is not installed."""
    code = (
        "import sys, gapctl.cli.analyze, gapctl.cli.verdict_table; before = set(sys.modules);"
        "import gapctl.analysis.analyze; after = set(sys.modules);"
        "print(*({'polars', 'scipy', 'altair'} & before | {'torch', 'ray', 'mlflow', 'pandas', 'statsmodels'} & after))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []
