"""The tracker shows a sweep while it runs, never stops it, and says at the end what MLflow lacks."""

import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient
from small_sweep import ROWS, Runs, Shown

from gapctl.ledger import LeaseOwner
from gapctl.plan.plan import Plan
from gapctl.sweep.progress import TrialReport
from gapctl.tracking.mlflow_sync import Projection, read_run_links
from gapctl.tracking.server import open_mlflow_server
from gapctl.tracking.tracker import Tracker
from gapctl.tracking.views import SweepFindings
from unhelpful_servers import silent, unused_address

LONGEST_SECONDS = 90.0


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    while not reached():
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(0.1)


def test_a_sweep_shows_while_it_runs_and_is_complete_when_it_ends(
    plan: Plan, runs: Runs, uri: str, shown: Shown
) -> None:
    def status(trial_id: str) -> str | None:
        if shown.client.get_experiment_by_name("small") is None:
            return None
        run = shown.trials().get(trial_id)
        return run.info.status if run else None

    first, *others = plan.trials
    with Tracker(plan, runs.ledger, uri) as tracker:
        tracker.note_start(first)
        runs.begin(first, ROWS[:1])
        tracker.note_progress(TrialReport(first, 128, 2_560, 1.0, 0.5, ()))
        wait_until(lambda: status(first.id) == "RUNNING")
        assert shown.sweeps()["full"].info.status == "RUNNING"
        runs.finish(first)
        tracker.note_result(first)
        wait_until(lambda: status(first.id) == "FINISHED")
        for trial in others:
            tracker.note_start(trial)
            runs.finish(trial)
            tracker.note_result(trial)
        tracker.tell(SweepFindings("1 supported", "", {"report.html": b"<p>supported</p>"}))
        outcome = tracker.close()

    assert outcome.problem is None
    assert {run.info.status for run in shown.all()} == {"FINISHED"}
    assert shown.history(shown.trials()[first.id], "gap/rmg") == {0: 0.9, 1280: 0.5, 2560: 0.30000000000000004}
    parent = shown.sweeps()["full"].info.run_id
    assert "report.html" in [file.path for file in shown.client.list_artifacts(parent)]


def test_mlflow_waits_until_a_trial_trains(plan: Plan, runs: Runs, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr("gapctl.tracking.tracker.STARTING_SECONDS", 3600.0)
    monkeypatch.setattr("gapctl.tracking.tracker.Projection", lambda *of: opened.append(of) or Projection(*of))
    with Tracker(plan, runs.ledger, uri) as tracker:
        tracker.note_start(plan.trials[0])
        runs.begin(plan.trials[0], ROWS[:1])
        time.sleep(0.2)
        assert not opened
        tracker.note_progress(TrialReport(plan.trials[0], 128, 2_560, 1.0, 0.5, ()))
        wait_until(lambda: bool(opened))
        assert tracker.close().problem is None


def test_what_an_interrupted_sweep_leaves_was_killed(plan: Plan, runs: Runs, uri: str, shown: Shown) -> None:
    done, failed, interrupted, waiting = plan.trials
    with Tracker(plan, runs.ledger, uri) as tracker:
        for trial in (done, failed, interrupted):
            tracker.note_start(trial)
        runs.finish(done)
        tracker.note_result(done)
        runs.begin(failed)
        runs.ledger.trial(failed.id).fail("ValueError: no")
        tracker.note_failure(failed)
        runs.begin(interrupted, ROWS[:2])
        runs.ledger.trial(interrupted.id).acquire(LeaseOwner("run", "sweep"))  # a sign of life from a moment ago
        outcome = tracker.close()

    assert outcome.problem is None
    found = shown.trials()
    assert {trial.id: found[trial.id].info.status for trial in (done, failed, interrupted)} == {
        done.id: "FINISHED",
        failed.id: "FAILED",
        interrupted.id: "KILLED",
    }
    assert waiting.id not in found
    assert shown.sweeps()["full"].info.status == "FAILED"


def test_a_sweep_with_nothing_left_still_completes_what_mlflow_lacks(
    plan: Plan, runs: Runs, uri: str, shown: Shown
) -> None:
    for trial in plan.trials:
        runs.finish(trial)

    with Tracker(plan, runs.ledger, uri) as tracker:
        assert tracker.close().problem is None

    assert len(shown.trials()) == 4


def test_a_sweep_that_never_began_leaves_mlflow_alone(plan: Plan, runs: Runs, uri: str, shown: Shown) -> None:
    with pytest.raises(KeyboardInterrupt), Tracker(plan, runs.ledger, uri):
        raise KeyboardInterrupt

    assert shown.client.get_experiment_by_name("small") is None


def test_a_report_that_is_made_after_catching_up_can_link_to_every_run(
    plan: Plan, runs: Runs, uri: str, shown: Shown
) -> None:
    with Tracker(plan, runs.ledger, uri) as tracker:
        for trial in plan.trials:
            tracker.note_start(trial)
            runs.finish(trial)
            tracker.note_result(trial)
        tracker.wait_until_shown()
        noted = read_run_links(runs.ledger, "small")
        tracker.close()

    assert noted is not None
    assert noted.runs == {trial_id: run.info.run_id for trial_id, run in shown.trials().items()}
    assert set(noted.runs) == {trial.id for trial in plan.trials}


def test_a_dead_server_is_not_waited_for_to_catch_up(plan: Plan, runs: Runs) -> None:
    with Tracker(plan, runs.ledger, unused_address()) as tracker:
        tracker.note_start(plan.trials[0])
        tracker.wait_until_shown()
        assert read_run_links(runs.ledger, "small") is None
        assert tracker.close().problem is not None


def test_an_unreachable_server_is_one_message_at_the_end_with_what_to_do(
    plan: Plan, runs: Runs, capfd: pytest.CaptureFixture[str]
) -> None:
    address = unused_address()
    with Tracker(plan, runs.ledger, address) as tracker:
        for trial in plan.trials:
            tracker.note_start(trial)
            runs.finish(trial)
            tracker.note_result(trial)
        outcome = tracker.close()

    assert outcome.problem == (
        f"MLflow at {address} does not show everything: nothing answers there (connection refused). The results are "
        f"safe in the ledger ({runs.ledger.root}); when this is mended, "
        f"`gapctl track sync {plan.sweep.path} --runs {runs.ledger.root}` shows them"
    )
    assert capfd.readouterr() == ("", "")


def test_a_server_that_never_answers_ends_in_a_message_too(
    plan: Plan, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with silent() as address, Tracker(plan, runs.ledger, address) as tracker:
        tracker.note_start(plan.trials[0])
        outcome = tracker.close()

    assert outcome.problem is not None
    assert "it did not answer in time" in outcome.problem


def test_a_server_that_comes_back_gets_what_it_missed(plan: Plan, runs: Runs, uri: str, shown: Shown) -> None:
    address = unused_address()
    with Tracker(plan, runs.ledger, address) as tracker:
        for trial in plan.trials[:2]:
            tracker.note_start(trial)
            runs.finish(trial)
            tracker.note_result(trial)
        with open_mlflow_server(uri, "127.0.0.1", urlsplit(address).port or 0) as server:
            server.wait_until_ready()
            through_server = Shown(MlflowClient(address))
            wait_until(lambda: through_server.client.get_experiment_by_name("small") is not None)
            wait_until(lambda: len(through_server.trials()) == 2)
            for trial in plan.trials[2:]:
                runs.finish(trial)
                tracker.note_result(trial)
            tracker.tell(SweepFindings("1 supported", "", {"figures/rmg.png": b"png"}))
            outcome = tracker.close()
            parent = through_server.sweeps()["full"].info.run_id
            files = [file.path for file in through_server.client.list_artifacts(parent, "figures")]

    assert outcome.problem is None
    assert files == ["figures/rmg.png"]
    for run in shown.trials().values():
        assert run.info.status == "FINISHED"
        assert shown.history(run, "gap/rmg") == {0: 0.9, 1280: 0.5, 2560: 0.30000000000000004}
