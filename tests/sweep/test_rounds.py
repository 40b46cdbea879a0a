"""Rounds of a sweep beside another one: what it holds is waited for, counted when done, and taken when it is gone."""

import errno
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from gapctl.config.load import load_sweep
from gapctl.ledger import Lease, LeaseOwner, Ledger, Result
from gapctl.ledger.lease import LEASE_FILE, get_this_process
from gapctl.plan.plan import Trial, make_plan
from gapctl.sweep import driver as rounds
from gapctl.sweep.driver import RoundOutcome, SweepOutcome, SweepRounds
from gapctl.sweep.lease_watch import FailedRemotely, LeaseWatcher, Released
from sweep_texts import TINY, written

OURS, THEIRS = LeaseOwner("ours", "tiny"), LeaseOwner("theirs", "tiny")


class Sweep:
    """A sweep over two trials without Ray: what it is asked to train it trains at once, if it gets the lease."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger(str(folder / "runs"))
        self.trials = make_plan(load_sweep(written(folder, TINY), "quick"), lambda data: "f" * 64).trials
        self.trained: list[str] = []
        self.heard: list[tuple[str, str]] = []

    def train(self, trials: Sequence[Trial], expired: Mapping[str, bytes]) -> RoundOutcome:
        finished, held = set[str](), dict[str, Lease]()
        for trial in trials:
            folder = self.ledger.trial(trial.id)
            other = folder.acquire(OURS, expired.get(trial.id))
            if other is not None:
                held[trial.id] = other
                continue
            self.trained.append(trial.id)
            folder.finish(Result(trial.id, {}, 0, 0.0, {}, {}), b"")
            finished.add(trial.id)
        return RoundOutcome(finished, {}, held)

    def run(self, lease_seconds: float = 60.0) -> SweepOutcome:
        with mock.patch.object(rounds, "LEASE_CHECK_SECONDS", 0.01):
            return SweepRounds(
                self.trials, self.ledger, [self], self.train, LeaseWatcher(self.ledger, lease_seconds)
            ).run()

    def note_start(self, trial: Trial) -> None: ...

    def note_progress(self, report: object) -> None: ...

    def note_worker_loss(self, trial: Trial) -> None: ...

    def note_lease(self, trial: Trial, lease: Lease) -> None:
        self.heard.append(("held", f"{lease.samples_seen}"))

    def note_result(self, trial: Trial, result: Result) -> None:
        self.heard.append(("finished", trial.id))

    def note_failure(self, trial: Trial, message: str) -> None:
        self.heard.append(("failed", message))


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


def test_what_another_sweep_finishes_is_not_trained_again(sweep: Sweep) -> None:
    theirs, ours = sweep.trials
    folder = sweep.ledger.trial(theirs.id)
    folder.acquire(THEIRS)
    steps = [
        lambda: folder.heartbeat(256),
        lambda: folder.heartbeat(512),
        lambda: folder.finish(Result(theirs.id, {}, 512, 1.0, {}, {}), b""),
    ]

    with mock.patch.object(rounds.time, "sleep", side_effect=lambda seconds: steps.pop(0)()):
        outcome = sweep.run()

    assert not outcome.failures
    assert not outcome.interrupted
    assert sweep.trained == [ours.id]
    assert sweep.heard == [("held", "256"), ("held", "512"), ("finished", theirs.id)]


def test_what_another_sweep_lets_go_is_taken(sweep: Sweep) -> None:
    theirs, ours = sweep.trials
    folder = sweep.ledger.trial(theirs.id)
    folder.acquire(THEIRS)
    threading.Timer(0.1, folder.release).start()

    assert not sweep.run().failures
    assert sweep.trained == [ours.id, theirs.id]


def test_what_went_wrong_in_another_sweep_is_not_tried_again_at_once(sweep: Sweep) -> None:
    theirs, ours = sweep.trials
    folder = sweep.ledger.trial(theirs.id)
    folder.acquire(THEIRS)
    threading.Timer(0.1, folder.fail, ["Traceback\nValueError: no"]).start()

    assert sweep.run().failures == {theirs.id: "Traceback\nValueError: no"}
    assert sweep.trained == [ours.id]


def test_a_lease_that_nobody_renews_is_taken_after_its_time_whatever_its_clock_says(sweep: Sweep) -> None:
    theirs, ours = sweep.trials
    folder = sweep.ledger.trial(theirs.id)
    folder.acquire(THEIRS)
    with mock.patch("time.time", return_value=4e9):  # a machine whose clock is far ahead
        folder.heartbeat(256)

    assert not sweep.run(lease_seconds=0.2).failures
    assert sweep.trained == [ours.id, theirs.id]


def test_an_interruption_while_waiting_ends_the_sweep(sweep: Sweep) -> None:
    sweep.ledger.trial(sweep.trials[0].id).acquire(THEIRS)

    with mock.patch.object(rounds.time, "sleep", side_effect=KeyboardInterrupt):
        assert sweep.run().interrupted


def test_a_sweep_whose_interruption_was_not_heard_ends_before_its_next_round(sweep: Sweep) -> None:
    theirs, ours = sweep.trials
    sweep.ledger.trial(theirs.id).acquire(THEIRS)

    rounds_of_ours = SweepRounds(
        sweep.trials, sweep.ledger, [], sweep.train, LeaseWatcher(sweep.ledger), lambda: ours.id in sweep.trained
    )

    assert rounds_of_ours.run() == SweepOutcome(interrupted=True)
    assert sweep.trained == [ours.id]


def test_a_round_that_leaves_a_trial_untold_was_interrupted(sweep: Sweep) -> None:
    with mock.patch.object(sweep, "train", return_value=RoundOutcome(set(), {}, {})):
        assert sweep.run().interrupted


def test_a_lease_that_changes_is_alive_and_one_that_stays_ends(tmp_path: Path) -> None:
    sweep, now = Sweep(tmp_path), [0.0]
    trial_id = sweep.trials[0].id
    folder, others = sweep.ledger.trial(trial_id), LeaseWatcher(sweep.ledger, lease_seconds=120.0)
    folder.acquire(THEIRS)
    with mock.patch("time.monotonic", side_effect=lambda: now[0]):
        for seconds in (0.0, 100.0):
            now[0] = seconds
            folder.heartbeat(int(seconds))
            assert isinstance(others.check_leases([trial_id])[trial_id], Lease)
        now[0] = 219.0
        assert isinstance(others.check_leases([trial_id])[trial_id], Lease)
        now[0] = 221.0
        (content,) = sweep.ledger.contents([trial_id], LEASE_FILE)
        assert others.check_leases([trial_id])[trial_id] == Released(expired=content)  # type: ignore[arg-type]


def test_a_damaged_result_of_another_sweep_is_named(sweep: Sweep) -> None:
    theirs, _ = sweep.trials
    folder = sweep.ledger.trial(theirs.id)
    folder.acquire(THEIRS)
    sweep.ledger.keep(f"{theirs.id}/result.json", b"{")

    found = LeaseWatcher(sweep.ledger).check_leases([theirs.id])[theirs.id]
    assert isinstance(found, FailedRemotely)
    assert "result.json: damaged" in found.message


def test_a_ledger_that_cannot_be_read_for_a_while_says_nothing_of_a_trial_and_ages_no_lease(sweep: Sweep) -> None:
    theirs, now = sweep.trials[0], [0.0]
    folder, others = sweep.ledger.trial(theirs.id), LeaseWatcher(sweep.ledger, lease_seconds=120.0)
    folder.acquire(THEIRS)

    def look_at(seconds: float) -> Mapping[str, object]:
        now[0] = seconds
        return others.check_leases([theirs.id])

    with mock.patch("time.monotonic", side_effect=lambda: now[0]):
        assert isinstance(look_at(0.0)[theirs.id], Lease)
        with mock.patch("gapctl.io.files.Disk.read", side_effect=OSError(errno.EIO, "the store is away")):
            assert look_at(110.0) == {}
        assert isinstance(look_at(200.0)[theirs.id], Lease)
        assert isinstance(look_at(231.0)[theirs.id], Released)


def test_a_lease_of_a_process_that_is_no_more_is_free_at_once(sweep: Sweep) -> None:
    theirs, ours = sweep.trials
    folder = sweep.ledger.trial(theirs.id)
    earlier = replace(get_this_process(), started="long before")
    with mock.patch("gapctl.ledger.lease.get_this_process", return_value=earlier):
        folder.acquire(THEIRS)

    sweep.run()
    assert sweep.trained == [theirs.id, ours.id]
