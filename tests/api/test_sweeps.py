"""Sweeps from Python: the plan, the analysis and the tables are those of the verbs, and so are the errors."""

import json
from pathlib import Path
from typing import Any

import altair
import polars as pl
import pytest

import gapctl
from command_line import gapctl as run_verb


def test_a_shipped_sweep_is_planned_as_the_verb_plans_it() -> None:
    sweep = gapctl.load_sweep("imbalance", scale="smoke", set={"seeds": 2})
    planned = json.loads(run_verb("plan", "imbalance", "--scale", "smoke", "--set", "seeds=2", "--json").out)
    assert list(sweep.plan().ids) == [trial["id"] for trial in planned["trials"]]
    frame = sweep.plan().frame()
    assert frame["seed"].unique().sort().to_list() == [0, 1]
    assert frame["data.captions.attributes"].to_list() == [
        t["factors"]["data.captions.attributes"] for t in planned["trials"]
    ]
    assert "information" in repr(sweep)


def test_an_analysis_is_the_verbs(folder: Path) -> None:
    analysis = gapctl.analyze(gapctl.load_sweep(folder / "sweep.yaml", scale="quick"), runs=folder / "runs")
    printed = json.loads(
        run_verb(
            "analyze", str(folder / "sweep.yaml"), "--scale", "quick", "--runs", str(folder / "runs"), "--json"
        ).out
    )
    assert [verdict.id for verdict in analysis.verdicts] == [each["id"] for each in printed["verdicts"]]
    first = analysis.verdicts[0]
    assert analysis.verdicts[first.id].estimate == first.estimate == printed["verdicts"][0]["estimate"]
    assert {"trial", "label", "seed", "gap/rmg"} <= set(analysis.trials.columns)
    assert analysis.history["samples_seen"].max() == analysis.trials["samples_seen"].max()
    assert first.claim in analysis._repr_html_()
    assert analysis.verdicts.frame()["verdict"].to_list() == [each["verdict"] for each in printed["verdicts"]]


def test_a_ledger_is_three_tables(folder: Path) -> None:
    trials, verdicts = gapctl.trials(folder / "runs"), gapctl.verdicts(folder / "runs")
    assert isinstance(trials, pl.DataFrame)
    assert trials["trial"].n_unique() == len(gapctl.load_sweep(folder / "sweep.yaml", scale="quick").plan())
    assert len(gapctl.history(folder / "runs")) >= len(trials)
    assert set(verdicts["verdict"]) <= {"supported", "refuted", "inconclusive"}


def test_figures_and_reports_are_written(folder: Path, tmp_path: Path) -> None:
    analysis = gapctl.analyze(folder / "sweep.yaml", folder / "runs", scale="quick")
    chart = analysis.figure("dose_response", metric="gap/rmg")
    assert isinstance(chart, altair.TopLevelMixin)
    drawn = json.dumps(chart.to_dict())
    assert all(str(value) in drawn for value in analysis.trials["gap/rmg"])
    for name in ("report.html", "report.md", "report.tex"):
        assert analysis.report(tmp_path / name).stat().st_size > 500


WRONG = {
    "an unknown sweep": (lambda _: gapctl.load_sweep("imbalanc"), "did you mean imbalance"),
    "a number as sweep": (lambda _: gapctl.load_sweep(3), "load_sweep: found a int; expected a file or a name"),
    "an unknown scale": (lambda _: gapctl.load_sweep("imbalance", scale="huge"), "has no scale 'huge'"),
    "an unknown key": (lambda _: gapctl.load_sweep("imbalance", set={"sedes": 5}), "did you mean seeds"),
    "changes that are no mapping": (lambda _: gapctl.load_sweep("imbalance", set=["seeds=5"]), "`set`: found a list"),
    "a value that YAML lacks": (
        lambda _: gapctl.load_sweep("imbalance", set={"seeds": object()}),
        "`set`: seeds: found",
    ),
    "a ledger without trials": (
        lambda folder: gapctl.analyze("imbalance", folder / "no"),
        "no finished trial of imbalance",
    ),
    "tables of no ledger": (lambda folder: gapctl.trials(folder / "no"), "keeps no sweep"),
    "a scale twice": (
        lambda folder: gapctl.analyze(gapctl.load_sweep("imbalance"), folder / "runs", scale="smoke"),
        "`scale`: found it beside a loaded sweep",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_input_gets_one_message(wrong: str, folder: Path) -> None:
    call, message = WRONG[wrong]
    with pytest.raises(gapctl.InputError, match=message):
        call(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "pie"}, "`kind`: found 'pie'; expected 'dose_response' or 'verdicts'"),
        ({"metric": "gap/rgm"}, "did you mean gap/rmg"),
        ({"factor": "k"}, "`factor`: found 'k'; expected one of data.captions.attributes"),
    ],
)
def test_a_figure_that_is_not_there_is_explained(arguments: dict[str, Any], message: str, folder: Path) -> None:
    analysis = gapctl.analyze(folder / "sweep.yaml", folder / "runs", scale="quick")
    with pytest.raises(gapctl.InputError, match=message):
        analysis.figure(**arguments)


def test_a_verdict_that_is_not_there_is_answered_with_the_known_ones(folder: Path) -> None:
    analysis = gapctl.analyze(folder / "sweep.yaml", folder / "runs", scale="quick")
    with pytest.raises(KeyError, match="expected one of"):
        analysis.verdicts["nothing"]
