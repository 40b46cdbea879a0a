"""What the verbs say of a search: before its first point, and of the points that a ledger has."""

import json
from pathlib import Path

import pytest

from command_line import Answer, gapctl
from gapctl.cli.options import compute_data_source_fingerprint, load_plan
from gapctl.config.load import load_sweep
from gapctl.ledger import Ledger
from gapctl.plan.plan import Trial, get_search, name_study
from gapctl.sweep.search import SearchController
from gapctl.sweep.study import Study
from mlflow_database import write_empty_database
from searches import EVERY, METRIC, run, search_file


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a search of twelve points that is over: its file, and its ledger in `runs`."""
    folder = tmp_path_factory.mktemp("searched")
    sweep = load_sweep(search_file(folder, trials=12, stop_early={"after": 2 * EVERY, "reduce": 2}))
    runs = folder / "runs"
    data = load_plan(sweep.path, None, None).trials[0].data_fingerprint
    study = Study(get_search(sweep), name_study(sweep, data))
    course = SearchController(sweep, study, Ledger(str(runs)), compute_data_source_fingerprint)
    order: dict[str, int] = {}

    def every_third_is_poor(trial: Trial) -> float:
        place = order.setdefault(trial.id, len(order))
        return place / 20 if place % 3 else 0.0

    run(course, Ledger(str(runs)), every_third_is_poor)
    course.close_search()
    return folder


def told(folder: Path, verb: str, *more: str) -> Answer:
    return gapctl(verb, str(folder / "tune.yaml"), "--runs", str(folder / "runs"), *more)


def test_a_plan_says_what_may_be_drawn_and_what_it_costs_at_most(tmp_path: Path) -> None:
    search_file(tmp_path, trials=12, stop_early={"after": EVERY, "reduce": 3})

    plain, document = told(tmp_path, "plan"), json.loads(told(tmp_path, "plan", "--json").out)

    assert "a search: 12 points for the best quality/i2t_recall_10 (maximize), drawn by tpe" in plain.out
    assert "train.lr: log 0.0001, 0.01" in plain.out
    assert "at most 61,440 samples" in plain.out
    assert document["totals"]["trials"] == 12
    assert document["search"]["space"]["train.batch_size"] == {"choice": [64, 128]}


@pytest.mark.parametrize("verb", ["status", "analyze"])
def test_before_the_first_point_there_is_nothing_to_tell(tmp_path: Path, verb: str) -> None:
    search_file(tmp_path)

    answer = told(tmp_path, verb)

    assert answer.exit_code == 2
    assert "no point of the search tune was drawn" in answer.err


def test_status_tells_stopped_from_done_and_from_failed(searched: Path) -> None:
    answer, document = told(searched, "status"), json.loads(told(searched, "status", "--json").out)

    assert answer.exit_code == 0
    assert document["totals"]["stopped"] > 0
    assert document["totals"]["done"] + document["totals"]["stopped"] == len(document["trials"])
    (first, *_) = [trial["detail"] for trial in document["trials"] if trial["state"] == "stopped"]
    assert first == f"by the search tune.base at {2 * EVERY:,} of 5,120 samples"
    assert answer.err == ""


def test_analyze_ends_in_the_best_configuration(searched: Path) -> None:
    answer, document = told(searched, "analyze"), json.loads(told(searched, "analyze", "--json").out)
    best = document["search"]["best"]

    assert answer.exit_code == 0
    assert f"--set base.train.lr={best['point']['train.lr']}" in answer.out
    assert f"    lr: {best['point']['train.lr']}" in answer.out
    assert len(document["search"]["drawn"]) == 12
    assert max(one["value"] for one in document["search"]["drawn"] if one["state"] == "done") == best["value"]


def test_the_page_shows_course_values_and_points_and_is_the_same_each_time(searched: Path) -> None:
    out = searched / "page.html"
    told(searched, "analyze", "--out", str(out))
    first = out.read_text()
    told(searched, "analyze", "--out", str(out))

    assert out.read_text() == first
    assert "The course of the search" in first
    assert "What decides" in first
    assert first.count('id="trial-') == 12
    assert "looks better than it is" in first


def test_mlflow_shows_points_the_best_and_the_figures(searched: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{write_empty_database(searched / 'mlflow.db')}"
    answer = gapctl("track", "sync", str(searched / "tune.yaml"), "--runs", str(searched / "runs"), "--uri", uri)

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tune")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [each for each in runs if each.data.tags["gapctl.kind"] == "sweep"]
    trials = [each for each in runs if each.data.tags["gapctl.kind"] == "trial"]
    figures = {file.path for file in client.list_artifacts(parent.info.run_id, "figures")}
    assert answer.exit_code == 0
    assert len(trials) == 12
    assert {each.info.status for each in trials} == {"FINISHED", "KILLED"}
    assert parent.data.tags["gapctl.verdicts"].startswith(f"best {METRIC} ")
    assert {"figures/search-history.svg", "figures/search-importance.png", "figures/search-by-lr.svg"} <= figures
    assert "best.yaml" in {file.path for file in client.list_artifacts(parent.info.run_id)}


def test_clean_looks_at_the_points_that_were_drawn(searched: Path) -> None:
    ledger = Ledger(str(searched / "runs"))
    record = ledger.search("tune.base")
    assert record is not None
    done = next(drawn.trial for drawn in record.drawn if drawn.state == "done")
    ledger.trial(done).save_checkpoint(EVERY, b"c" * 100)

    assert "1 checkpoint of a finished training" in told(searched, "clean", "--yes").out
    assert ledger.trial(done).checkpoints() == []


def test_another_space_has_no_points_yet(searched: Path) -> None:
    answer = told(searched, "analyze", "--set", "search.seed=5")

    assert answer.exit_code == 2
    assert "no point of the search" in answer.err


def test_questions_tells_how_a_search_stands(searched: Path) -> None:
    runs = str(searched / "runs")

    plain = gapctl("list", str(searched), "--runs", runs)
    (document,) = json.loads(gapctl("list", str(searched), "--runs", runs, "--json").out)["questions"]

    assert "12 of 12 points: " in plain.out
    assert document["scales"]["base"]["points"] == 12
    assert document["scales"]["base"]["trials"] == 12
