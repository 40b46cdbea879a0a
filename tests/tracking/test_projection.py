"""MLflow shows what the ledger holds: each trial once, every number as it is, whatever happened in between."""

import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_sweep import FINGERPRINT, ROWS, Runs, Shown

from gapctl.config.sweep import SweepFile
from gapctl.errors import InputError
from gapctl.ledger import LeaseOwner, Ledger
from gapctl.ledger.trial import MACHINE
from gapctl.plan.plan import RECIPE_VERSION, Plan
from gapctl.tracking.mlflow_sync import Projection, SyncReport, read_run_links, sync_sweep
from gapctl.tracking.views import SweepFindings

PlanOf = Callable[..., Plan]


@pytest.fixture
def finished(plan: Plan, runs: Runs) -> Plan:
    """The plan, with every trial of it done."""
    for trial in plan.trials:
        runs.finish(trial)
    return plan


def test_each_trial_gets_one_run_named_for_its_treatment_below_the_sweep(
    finished: Plan, runs: Runs, uri: str, shown: Shown
) -> None:
    assert sync_sweep(finished, runs.ledger, uri) == SyncReport(created=4, updated=0, unchanged=0, missing=0)

    parent = shown.sweeps()["full"]
    assert {run.info.run_name for run in shown.trials().values()} == {
        f"attributes={level} seed={seed}" for level in (0, 5) for seed in (0, 1)
    }
    assert {run.data.tags["mlflow.parentRunId"] for run in shown.trials().values()} == {parent.info.run_id}
    assert len(shown.all()) == 5


def test_what_is_found_for_a_sweep_is_found_once_its_runs_are_known(finished: Plan, runs: Runs, uri: str) -> None:
    known: list[set[str]] = []

    def find() -> SweepFindings:
        noted = read_run_links(runs.ledger, "small")
        known.append(set(noted.runs) if noted else set())
        return SweepFindings("1 supported", "", {})

    sync_sweep(finished, runs.ledger, uri, find)

    assert known == [{trial.id for trial in finished.trials}]


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


def test_a_sweep_with_other_parameters_replaces_its_run_and_keeps_those_of_its_trials(
    finished: Plan, plan_of: PlanOf, runs: Runs, uri: str, shown: Shown
) -> None:
    sync_sweep(finished, runs.ledger, uri)
    before = {trial: run.info.run_id for trial, run in shown.trials().items()}

    sync_sweep(plan_of(levels=[0, 3, 5]), runs.ledger, uri)

    (parent,) = shown.sweeps().values()
    assert parent.data.params["data.captions.attributes"] == "[0, 3, 5]"
    assert {trial: run.info.run_id for trial, run in shown.trials().items()} == before
    assert {run.data.tags["mlflow.parentRunId"] for run in shown.trials().values()} == {parent.info.run_id}


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


def test_two_sweeps_that_show_the_same_trials_at_once_make_one_run_of_each(
    finished: Plan, runs: Runs, uri: str, shown: Shown
) -> None:
    both = [Projection(finished, runs.ledger, uri) for _ in range(2)]
    for trial in finished.trials:
        for projection in both:
            projection.show(trial)
            projection.update_status(closing=False)

    assert len(shown.all()) == len(finished.trials) + 1
    assert len(shown.models()) == len(finished.trials)


def test_a_finished_trial_is_a_logged_model_with_its_last_metrics_and_where_its_weights_lie(
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


def test_a_model_that_a_kill_left_halfway_is_made_anew(
    finished: Plan, runs: Runs, uri: str, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gapctl.tracking.mlflow_sync.RunMirror.complete", killed)
        with pytest.raises(KeyboardInterrupt):
            sync_sweep(finished, runs.ledger, uri)
    assert len(shown.models()) == 1

    sync_sweep(finished, runs.ledger, uri)

    found = shown.trials()
    assert {key: model.source_run_id for key, model in shown.models().items()} == {
        key: run.info.run_id for key, run in found.items()
    }
    assert shown.history(found[finished.trials[0].id], "gap/rmg") == {0: 0.9, 1280: 0.5, 2560: 0.30000000000000004}


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


def test_a_finished_run_has_the_picture_that_the_ledger_has(plan: Plan, runs: Runs, uri: str, shown: Shown) -> None:
    drawn, older = plan.trials[:2]
    runs.begin(drawn)
    runs.ledger.trial(drawn.id).save_clouds(b"png")
    runs.finish(drawn)
    runs.finish(older)
    sync_sweep(plan, runs.ledger, uri)

    files = {key: shown.client.list_artifacts(run.info.run_id) for key, run in shown.trials().items()}
    assert [file.path for file in files[drawn.id]] == ["clouds.png", "trial.yaml"]
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


def test_other_overrides_are_another_sweep_beside_the_first(
    finished: Plan, plan_of: PlanOf, runs: Runs, uri: str, shown: Shown
) -> None:
    sync_sweep(finished, runs.ledger, uri, lambda: SweepFindings("1 supported", "", {"report.html": b"two seeds"}))
    fewer = plan_of(overrides=["seeds=1", "resources.cpus=2"])
    sync_sweep(fewer, runs.ledger, uri, lambda: SweepFindings("1 inconclusive", "", {"report.html": b"one seed"}))

    found = shown.sweeps()
    assert {name: run.data.tags["gapctl.verdicts"] for name, run in found.items()} == {
        "full": "1 supported",
        "full seeds=1": "1 inconclusive",
    }
    files = {name: shown.client.download_artifacts(run.info.run_id, "report.html") for name, run in found.items()}
    assert {name: Path(file).read_bytes() for name, file in files.items()} == {
        "full": b"two seeds",
        "full seeds=1": b"one seed",
    }


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


def test_a_second_time_changes_nothing(finished: Plan, runs: Runs, uri: str, shown: Shown) -> None:
    sync_sweep(finished, runs.ledger, uri)
    before = [run.to_dictionary() for run in shown.all()]

    assert sync_sweep(finished, runs.ledger, uri) == SyncReport(created=0, updated=0, unchanged=4, missing=0)
    assert [run.to_dictionary() for run in shown.all()] == before


def test_a_further_level_adds_only_its_runs(finished: Plan, plan_of: PlanOf, runs: Runs, uri: str) -> None:
    sync_sweep(finished, runs.ledger, uri)
    wider = plan_of(levels=(0, 3, 5))
    for trial in wider.trials[:3]:
        runs.finish(trial)

    synced = sync_sweep(wider, runs.ledger, uri)

    assert (synced.created, synced.missing) == (1, 1)


def test_two_sweeps_that_share_a_trial_each_have_their_own_run_of_it(
    finished: Plan, plan_of: PlanOf, runs: Runs, uri: str, shown: Shown
) -> None:
    other = plan_of("other")

    sync_sweep(finished, runs.ledger, uri)
    sync_sweep(other, runs.ledger, uri)

    assert shown.trials("small").keys() == shown.trials("other").keys() == {trial.id for trial in finished.trials}


def test_two_scales_have_a_run_each_and_share_the_runs_of_their_trials(
    finished: Plan, plan_of: PlanOf, runs: Runs, uri: str, shown: Shown
) -> None:
    sync_sweep(finished, runs.ledger, uri)
    sync_sweep(plan_of(scale="quick"), runs.ledger, uri)

    assert shown.sweeps().keys() == {"full", "quick"}
    assert len(shown.trials()) == 4


def test_a_failed_trial_says_why_until_it_is_at_work_again(plan: Plan, runs: Runs, uri: str, shown: Shown) -> None:
    trial = plan.trials[0]
    runs.begin(trial)
    runs.ledger.trial(trial.id).fail("Traceback:\n  somewhere\nRuntimeError: out of memory\n")
    sync_sweep(plan, runs.ledger, uri)

    run = shown.trials()[trial.id]
    assert run.info.status == "FAILED"
    assert run.data.tags["gapctl.failure"] == "RuntimeError: out of memory"
    assert shown.sweeps()["full"].info.status == "FAILED"

    Projection(plan, runs.ledger, uri).show(trial, running=True)
    run = shown.trials()[trial.id]
    assert run.info.status == "RUNNING"
    assert "gapctl.failure" not in run.data.tags


def test_a_trial_that_gave_no_sign_of_life_was_killed_and_one_that_did_is_running(
    plan: Plan, runs: Runs, uri: str, shown: Shown
) -> None:
    dead, alive, *_ = plan.trials
    runs.begin(dead, ROWS[:2])
    runs.begin(alive, ROWS[:1])
    runs.ledger.trial(alive.id).acquire(LeaseOwner("run", "sweep"))

    synced = sync_sweep(plan, runs.ledger, uri)

    found = shown.trials()
    assert (found[dead.id].info.status, found[alive.id].info.status) == ("KILLED", "RUNNING")
    assert found[dead.id].info.end_time == found[dead.id].info.start_time + 2250
    assert (synced.created, synced.missing) == (2, 2)


def test_a_damaged_folder_is_a_failure_that_names_the_file(finished: Plan, runs: Runs, uri: str, shown: Shown) -> None:
    trial = finished.trials[0]
    (Path(runs.ledger.root) / trial.id / "result.json").write_text("{")

    sync_sweep(finished, runs.ledger, uri)

    run = shown.trials()[trial.id]
    assert run.info.status == "FAILED"
    assert f"{trial.id}/result.json: damaged" in run.data.tags["gapctl.failure"]
    assert {other.info.status for key, other in shown.trials().items() if key != trial.id} == {"FINISHED"}


def test_a_training_done_anew_with_other_numbers_takes_the_place_of_the_old_run(
    finished: Plan, runs: Runs, uri: str, shown: Shown
) -> None:
    sync_sweep(finished, runs.ledger, uri)
    trial = finished.trials[0]
    old = shown.trials()[trial.id].info.run_id
    shutil.rmtree(Path(runs.ledger.root) / trial.id)
    runs.finish(trial, [{**row, "gap/rmg": row["gap/rmg"] / 2} for row in ROWS])

    synced = sync_sweep(finished, runs.ledger, uri)

    run = shown.trials()[trial.id]
    assert synced == SyncReport(created=1, updated=0, unchanged=3, missing=0)
    assert run.info.run_id != old
    assert shown.history(run, "gap/rmg") == {0: 0.45, 1280: 0.25, 2560: 0.15000000000000002}


def test_a_run_that_was_deleted_comes_back(finished: Plan, runs: Runs, uri: str, shown: Shown) -> None:
    sync_sweep(finished, runs.ledger, uri)
    shown.client.delete_run(shown.trials()[finished.trials[0].id].info.run_id)

    assert sync_sweep(finished, runs.ledger, uri).created == 1
    assert len(shown.trials()) == 4


def test_an_experiment_that_was_deleted_comes_back(finished: Plan, runs: Runs, uri: str, shown: Shown) -> None:
    sync_sweep(finished, runs.ledger, uri)
    shown.client.delete_experiment(shown.experiment().experiment_id)

    sync_sweep(finished, runs.ledger, uri)

    assert shown.experiment().lifecycle_stage == "active"
    assert len(shown.trials()) == 4


def test_of_two_runs_that_a_late_answer_left_for_one_trial_one_stays(
    finished: Plan, runs: Runs, uri: str, shown: Shown
) -> None:
    sync_sweep(finished, runs.ledger, uri)
    trial = finished.trials[0]
    experiment_id = shown.experiment().experiment_id
    shown.client.create_run(experiment_id, tags={"gapctl.trial": trial.id, "gapctl.sweep": "small"})

    sync_sweep(finished, runs.ledger, uri)

    assert shown.trials()[trial.id].info.run_name == trial.label


def test_a_ledger_without_the_sweeps_trials_is_a_wrong_input(plan: Plan, runs: Runs, uri: str) -> None:
    with pytest.raises(InputError, match=r"runs: none of the 4 trials of .*small\.yaml has begun .* --runs"):
        sync_sweep(plan, runs.ledger, uri)


def test_a_database_that_is_damaged_is_a_message_that_names_it(finished: Plan, runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "bad.db").write_bytes(b"SQLite format 3\0" + b"nonsense" * 1000)

    with pytest.raises(InputError, match=r"bad\.db: cannot be read as an SQLite database .*(malformed|not a database)"):
        sync_sweep(finished, runs.ledger, f"sqlite:///{tmp_path / 'bad.db'}")


numbers = st.floats(allow_nan=True, allow_infinity=True)
histories = st.lists(st.dictionaries(st.sampled_from(["gap/rmg", "gap/l2m", "train/loss"]), numbers), max_size=5)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories=histories, cuts=st.lists(st.integers(0, 5), max_size=3))
def test_however_a_history_arrives_mlflow_ends_with_each_number_once(
    plan: Plan, uri: str, shown: Shown, histories: Sequence[dict[str, float]], cuts: Sequence[int]
) -> None:
    trial = plan.trials[0]
    rows = [{"samples_seen": 256 * i, "seconds": i / 7, **row} for i, row in enumerate(histories)]
    with TemporaryDirectory() as folder:
        runs = Runs(Ledger(folder))
        for cut in [*sorted(cuts), len(rows)]:
            runs.begin(trial, rows[:cut])
            Projection(plan, runs.ledger, uri).show(trial)

    run = shown.trials()[trial.id]
    for key in ("gap/rmg", "gap/l2m", "train/loss"):
        numbers = {256 * i: row[key] for i, row in enumerate(histories) if math.isfinite(row.get(key, math.nan))}
        assert shown.history(run, key) == numbers
    shown.client.delete_run(run.info.run_id)  # the next example shares this database
