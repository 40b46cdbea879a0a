"""MLflow shows what the ledger holds: each trial once, whatever happened in between."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_sweep import ROWS, PlanOf, Runs, Shown

from cohort_ledgers import WITHIN, fill_cohort, list_models, plan_cohort
from gapctl.errors import InputError
from gapctl.ledger import LeaseOwner, Ledger
from gapctl.plan.plan import Plan
from gapctl.tracking.mlflow_sync import Projection, SyncReport, read_run_links, sync_sweep
from gapctl.tracking.views import SweepFindings


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


def test_a_corrected_fact_of_a_model_replaces_its_run_alone(tmp_path: Path, runs: Runs, uri: str, shown: Shown) -> None:
    models = list_models(12)
    plan = plan_cohort(tmp_path, WITHIN, models=models, interventions=["none"])
    fill_cohort(runs.ledger, plan)
    sync_sweep(plan, runs.ledger, uri)
    before = shown.trials("public")

    corrected = [{**row, "parameters": 5} if place == 1 else row for place, row in enumerate(models)]
    plan = plan_cohort(tmp_path, WITHIN, models=corrected, interventions=["none"])
    assert sync_sweep(plan, runs.ledger, uri) == SyncReport(created=1, updated=11, unchanged=0, missing=12)

    after, changed = shown.trials("public"), plan.trials[1].id
    assert before.keys() == after.keys()
    assert after[changed].data.params["parameters"] == "5"
    assert after[changed].data.metrics == before[changed].data.metrics
    assert {trial for trial in after if after[trial].info.run_id != before[trial].info.run_id} == {changed}
    assert shown.models("public")[changed].params["parameters"] == "5"
    assert sync_sweep(plan, runs.ledger, uri) == SyncReport(created=0, updated=0, unchanged=12, missing=12)
