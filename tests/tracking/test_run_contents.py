"""A run shows its trial or sweep: names, parameters, every number as it is, times, files and tables."""

import json
import math
import os
from pathlib import Path

import pytest
import yaml
from small_sweep import FINGERPRINT, ROWS, PlanOf, Runs, Shown

from gapctl.config.sweep import SweepFile
from gapctl.ledger.trial import MACHINE
from gapctl.plan.plan import Plan
from gapctl.plan.trial_id import RECIPE_VERSION
from gapctl.tracking.mlflow_sync import Projection, sync_sweep
from gapctl.tracking.views import SweepFindings


def test_a_sweeps_run_has_its_parameters_and_the_numbers_of_its_verdicts(
    finished: Plan, runs: Runs, uri: str, shown: Shown
) -> None:
    first = {"verdict/closes/estimate": -0.25, "verdict/closes/p": 0.5, "verdict/other/p": 0.125}
    sync_sweep(finished, runs.ledger, uri, lambda: SweepFindings("1 supported", "", metrics=first))
    sync_sweep(finished, runs.ledger, uri, lambda: SweepFindings("1 refuted", "", metrics={"verdict/closes/p": 0.25}))
    sync_sweep(finished, runs.ledger, uri, lambda: SweepFindings("1 refuted", "", metrics={"verdict/closes/p": 0.25}))

    parent = shown.sweeps()["full"]
    assert {
        key: parent.data.params[key] for key in ("scale", "seeds", "data.captions.attributes", "train.samples")
    } == {
        "scale": "full",
        "seeds": "[0, 1]",
        "data.captions.attributes": "[0, 5]",
        "train.samples": "2560",
    }
    assert parent.data.metrics["verdict/closes/p"] == 0.25
    assert math.isnan(parent.data.metrics["verdict/other/p"]), "a number that is no more must not stay"
    history = shown.client.get_metric_history(parent.info.run_id, "verdict/closes/p")
    assert [metric.value for metric in history] == [0.5, 0.25]


def test_a_run_says_which_trial_sweep_seed_and_data_it_is(finished: Plan, runs: Runs, uri: str, shown: Shown) -> None:
    sync_sweep(finished, runs.ledger, uri)

    trial = finished.trials[-1]
    tags = shown.trials()[trial.id].data.tags
    assert tags["gapctl.sweep"] == "small"
    assert tags["gapctl.spec_sha256"] == finished.sweep.spec_sha256
    assert tags["gapctl.seed"] == "1"
    assert (tags["gapctl.kind"], tags["gapctl.scale"]) == ("trial", "full")
    assert tags["gapctl.hypotheses_sha256"] == finished.sweep.hypotheses_sha256
    assert tags["gapctl.recipe_version"] == str(RECIPE_VERSION)
    assert tags["gapctl.data_fingerprint"] == FINGERPRINT
    parent = shown.sweeps()["full"].data.tags
    assert parent["gapctl.hypotheses_sha256"] == finished.sweep.hypotheses_sha256
    assert "Does it?" in parent["mlflow.note.content"]
    assert "It closes." in parent["mlflow.note.content"]


def test_the_whole_configuration_is_there_as_flat_parameters(
    finished: Plan, runs: Runs, uri: str, shown: Shown
) -> None:
    sync_sweep(finished, runs.ledger, uri)

    params = shown.trials()[finished.trials[-1].id].data.params
    assert params["data.captions.attributes"] == "5"
    assert params["train.lr"] == "0.001"
    assert params["temperature.mode"] == "learned"
    assert params["seed"] == "1"


def test_treatments_are_columns_whose_text_sorts_as_their_numbers(
    plan_of: PlanOf, runs: Runs, uri: str, shown: Shown
) -> None:
    plan = plan_of(levels=(0, 5, 1), vary="  temperature.init: [0.1, 0.07, 0.5]\n")
    for trial in plan.trials:
        runs.begin(trial)

    sync_sweep(plan, runs.ledger, uri)

    found = shown.trials()
    params = [found[trial.id].data.params for trial in plan.trials]
    assert {one["init"] for one in params} == {"0.10", "0.07", "0.50"}
    assert {one["attributes"] for one in params} == {"0", "1", "5"}
    named = sorted(found[trial.id].info.run_name for trial in plan.trials)
    assert named[:4] == [f"attributes=0 init={init} seed={seed}" for init in ("0.07", "0.10") for seed in (0, 1)]


def test_a_finished_trial_without_weights_is_a_pending_model_with_its_metrics_and_where_weights_would_lie(
    finished: Plan, runs: Runs, uri: str, shown: Shown
) -> None:
    sync_sweep(finished, runs.ledger, uri)

    trial = finished.trials[-1]
    model, run = shown.models()[trial.id], shown.trials()[trial.id]
    assert (model.name, model.status.name, model.source_run_id) == ("attributes=5 seed=1", "PENDING", run.info.run_id)
    assert {metric.key: (metric.step, metric.value) for metric in model.metrics or ()} == {
        "gap/rmg": (2560, 0.30000000000000004),
        "quality/i2t_recall_1": (2560, 40.0),
    }
    assert model.params == {"model.preset": "mad-tiny", "attributes": "5", "seed": "1"}
    assert Path(model.tags["gapctl.weights"]).is_file()
    assert model.tags["gapctl.load"] == f"gapctl.load_model('{trial.id}', runs='{runs.ledger.everywhere}')"
    outputs = shown.client.get_run(run.info.run_id).outputs
    assert [output.model_id for output in outputs.model_outputs] == [model.model_id]


def test_what_a_trial_notes_of_its_machine_comes_with_its_evaluations_and_once(
    plan: Plan, runs: Runs, uri: str, shown: Shown
) -> None:
    trial, share = plan.trials[0], "cpu_utilization_percentage"
    noted = [
        {"samples_seen": seen, "seconds": seen / 640, share: 90.0 + seen / 1280} for seen in (640, 1280, 1920, 2560)
    ]
    projection = Projection(plan, runs.ledger, uri)

    runs.begin(trial, ROWS[:2])
    runs.ledger.trial(trial.id).save_rows(MACHINE, noted[:3])
    projection.show(trial, running=True)
    run = shown.trials()[trial.id]
    assert shown.history(run, f"system/{share}") == {640: 90.5, 1280: 91.0}

    runs.ledger.trial(trial.id).save_rows(MACHINE, noted)
    runs.finish(trial)
    projection.show(trial)
    whole = {640: 90.5, 1280: 91.0, 1920: 91.5, 2560: 92.0}
    assert shown.history(run, f"system/{share}") == whole

    sync_sweep(plan, runs.ledger, uri)
    assert shown.history(run, f"system/{share}") == whole


def test_speed_and_memory_are_system_metrics(finished: Plan, runs: Runs, uri: str, shown: Shown) -> None:
    sync_sweep(finished, runs.ledger, uri)

    run = shown.trials()[finished.trials[0].id]
    speeds = shown.history(run, "system/samples_per_second")
    assert speeds == pytest.approx({1280: 1280 / 1.75, 2560: 1280 / 1.75})
    assert shown.history(run, "system/memory_usage_megabytes") == {2560: 765.0}


def test_a_finished_run_has_the_pictures_that_the_ledger_has(plan: Plan, runs: Runs, uri: str, shown: Shown) -> None:
    drawn, older = plan.trials[:2]
    runs.begin(drawn)
    runs.ledger.trial(drawn.id).save_clouds(b"png")
    runs.ledger.trial(drawn.id).save_neighbors(b"png too")
    runs.finish(drawn)
    runs.finish(older)
    sync_sweep(plan, runs.ledger, uri)

    files = {key: shown.client.list_artifacts(run.info.run_id) for key, run in shown.trials().items()}
    assert [file.path for file in files[drawn.id]] == ["clouds.png", "neighbors.png", "trial.yaml"]
    assert [file.path for file in files[older.id]] == ["trial.yaml"]


def test_a_run_shows_what_was_logged_of_single_steps_once_the_next_evaluation_is_there(
    plan: Plan, runs: Runs, uri: str, shown: Shown
) -> None:
    trial = plan.trials[0]
    steps = [
        {"samples_seen": seen, "seconds": seen / 1000, "step/loss": 4.0 - seen / 2560} for seen in (640, 1280, 1920)
    ]
    runs.begin(trial, ROWS[:2])
    runs.ledger.trial(trial.id).save_steps(steps)
    sync_sweep(plan, runs.ledger, uri)
    early = shown.history(shown.trials()[trial.id], "step/loss")
    runs.finish(trial)
    sync_sweep(plan, runs.ledger, uri)
    late = shown.history(shown.trials()[trial.id], "step/loss")

    assert early == {640: 3.75, 1280: 3.5}
    assert late == {**early, 1920: 3.25}
    assert shown.history(shown.trials()[trial.id], "gap/rmg") == {0: 0.9, 1280: 0.5, 2560: 0.30000000000000004}


def test_the_experiment_offers_a_table_and_curves_of_what_the_hypotheses_are_about(
    finished: Plan, runs: Runs, uri: str, shown: Shown
) -> None:
    sync_sweep(finished, runs.ledger, uri)

    tags = shown.experiment().tags
    states = {
        key.rpartition(".")[2]: json.loads(json.loads(value)["state"])
        for key, value in tags.items()
        if key.startswith("mlflow.sharedViewState.")
    }
    columns = states["gapctl-table"]["selectedColumns"]
    assert columns[:3] == ["tags.`gapctl.verdicts`", "metrics.`gap/rmg`", "metrics.`bias/moad_image`"]
    assert columns[-2:] == ["params.`attributes`", "params.`seed`"]
    by_treatment, over_training, *_ = states["gapctl-curves"]["compareRunCharts"]
    assert (by_treatment["xaxis"]["key"], by_treatment["yaxis"]["key"]) == ("attributes", "gap/rmg")
    assert over_training["metricKey"] == "gap/rmg"
    chosen = shown.client.search_runs(
        [shown.experiment().experiment_id],
        filter_string=states["gapctl-curves"]["searchFilter"],
        order_by=[f"{states['gapctl-curves']['orderByKey']} ASC"],
    )
    assert [run.data.params["seed"] for run in chosen] == ["0", "0", "1", "1"]


def test_marks_stand_in_the_sweep_s_run_as_long_as_they_hold(
    finished: Plan, runs: Runs, uri: str, shown: Shown
) -> None:
    sync_sweep(
        finished,
        runs.ledger,
        uri,
        lambda: SweepFindings("1 supported (not learned)", "", {}, marks="slope: not learned"),
    )
    (marked,) = shown.sweeps().values()
    sync_sweep(finished, runs.ledger, uri, lambda: SweepFindings("1 supported", "", {}))
    (unmarked,) = shown.sweeps().values()

    assert marked.data.tags["gapctl.marks"] == "slope: not learned"
    assert "gapctl.marks" not in unmarked.data.tags


def test_the_data_set_is_an_input_with_its_digest(finished: Plan, runs: Runs, uri: str, shown: Shown) -> None:
    sync_sweep(finished, runs.ledger, uri)

    run = shown.client.get_run(shown.trials()[finished.trials[0].id].info.run_id)
    dataset = run.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest) == ("mad-bundled", FINGERPRINT[:36])


def test_metrics_stand_at_the_samples_seen_and_missing_numbers_are_left_out(
    finished: Plan, runs: Runs, uri: str, shown: Shown
) -> None:
    sync_sweep(finished, runs.ledger, uri)

    run = shown.trials()[finished.trials[0].id]
    assert shown.history(run, "gap/rmg") == {0: 0.9, 1280: 0.5, 2560: 0.30000000000000004}
    assert shown.history(run, "quality/i2t_recall_1") == {0: 0.1, 2560: 40.0}
    assert shown.history(run, "train/loss") == {1280: 3.5}
    of_the_model = {key for key in run.data.metrics if not key.startswith("system/")}
    assert of_the_model == {"gap/rmg", "quality/i2t_recall_1", "train/loss"}


def test_times_are_the_trials_own_and_leave_out_pauses(finished: Plan, runs: Runs, uri: str, shown: Shown) -> None:
    trial = finished.trials[0]
    os.utime(Path(runs.ledger.root) / trial.id / "trial.yaml", (1_700_000_000, 1_700_000_000))

    sync_sweep(finished, runs.ledger, uri)

    run = shown.trials()[trial.id]
    assert run.info.start_time == 1_700_000_000_000
    assert run.info.end_time == 1_700_000_004_500
    found = shown.client.get_metric_history(run.info.run_id, "gap/rmg")
    assert [metric.timestamp - run.info.start_time for metric in found] == [500, 2250, 4000]
    assert shown.sweeps()["full"].info.start_time == 1_700_000_000_000


def test_files_lie_beside_the_database_and_hold_the_resolved_configuration(
    finished: Plan, runs: Runs, uri: str, shown: Shown, tmp_path: Path
) -> None:
    sync_sweep(
        finished,
        runs.ledger,
        uri,
        lambda: SweepFindings("", "", {"report.html": b"<p>yes</p>", "figures/rmg.png": b"png"}),
    )

    trial = finished.trials[0]
    child = tmp_path / "mlartifacts" / "small" / shown.trials()[trial.id].info.run_id / "artifacts"
    assert yaml.safe_load((child / "trial.yaml").read_text())["trial"] == trial.id
    parent = tmp_path / "mlartifacts" / "small" / shown.sweeps()["full"].info.run_id / "artifacts"
    assert (parent / "report.html").read_bytes() == b"<p>yes</p>"
    assert (parent / "figures" / "rmg.png").read_bytes() == b"png"
    resolved = yaml.safe_load((parent / "sweep.resolved.yaml").read_text())
    assert SweepFile.model_validate(resolved) == finished.sweep.spec
    assert (parent / "sweep.yaml").read_text() == finished.sweep.text
