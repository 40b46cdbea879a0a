"""A search beside another sweep: what that holds is waited for, counted, or taken over."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from gapctl.ledger import Lease, LeaseOwner, Ledger, Result
from gapctl.sweep import driver as rounds
from gapctl.sweep.driver import SweepOutcome as SearchOutcome
from gapctl.sweep.lease_watch import LeaseWatcher
from gapctl.sweep.search import SearchRounds
from searches import METRIC, course_of, loaded, train

OURS, THEIRS = LeaseOwner("ours", "tune"), LeaseOwner("theirs", "tune")
SPACE = {"train.batch_size": {"choice": [64, 128]}}


def waiting(does: Any) -> Any:
    """What a search does instead of waiting between two looks; other sleeps of the process are its own."""
    return mock.patch("gapctl.sweep.driver.time", mock.Mock(sleep=mock.Mock(side_effect=does)))


class Search:
    """A search of four points, some of them twins, without Ray; another sweep holds its first point."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger(str(folder))
        sweep = loaded(folder, space=SPACE, trials=4)
        first = course_of(sweep, folder).pick_trial()
        assert first is not None
        self.theirs = first
        self.folder = self.ledger.trial(first.id)
        self.folder.acquire(THEIRS)
        self.course = course_of(sweep, folder)
        self.trained: list[str] = []

    def train(self, expired: Mapping[str, bytes]) -> Mapping[str, str]:
        while (trial := self.course.pick_trial()) is not None:
            folder = self.ledger.trial(trial.id)
            other = folder.acquire(OURS, expired.get(trial.id))
            if isinstance(other, Lease):
                self.course.note_lease(trial, other)
                continue
            self.trained.append(trial.id)
            train(self.course, self.ledger, trial)
            folder.release()
        return {}

    def run(self, lease_seconds: float = 60.0, *, stopped: bool = False) -> SearchOutcome:
        others = LeaseWatcher(self.ledger, lease_seconds)
        with mock.patch.object(rounds, "LEASE_CHECK_SECONDS", 0.01):
            return SearchRounds(self.course, [], self.train, others, lambda: stopped).run()

    @property
    def states(self) -> list[str]:
        return [drawn.state for drawn in self.course.record.drawn]


@pytest.fixture
def search(tmp_path: Path) -> Search:
    return Search(tmp_path)


def test_a_point_whose_holder_is_gone_is_trained_once_its_lease_has_ended(search: Search) -> None:
    outcome = search.run(lease_seconds=0.1)

    assert outcome == SearchOutcome()
    assert search.trained[-1] == search.theirs.id
    assert search.states == ["done"] * 4


def test_a_point_that_another_sweep_finishes_is_not_trained_again(search: Search) -> None:
    steps = [
        lambda: search.folder.heartbeat(256),
        lambda: search.folder.finish(Result(search.theirs.id, {METRIC: 0.5}, 5_120, 1.0, {}, {}), b""),
    ]
    with waiting(lambda seconds: steps.pop(0)()):
        outcome = search.run()

    assert outcome == SearchOutcome()
    assert search.theirs.id not in search.trained
    assert search.states == ["done"] * 4


def test_a_point_that_fails_in_another_sweep_has_failed(search: Search) -> None:
    with waiting(lambda seconds: search.folder.fail("it broke")):
        outcome = search.run()

    assert outcome == SearchOutcome({search.theirs.id: "it broke"})
    assert "failed" in search.states
    assert "running" not in search.states


def test_an_interruption_while_waiting_leaves_the_point_to_the_next_command(search: Search) -> None:
    with waiting(KeyboardInterrupt):
        assert search.run().interrupted

    assert "is trained by another sweep" in search.course.elsewhere[search.theirs.id]


def test_a_limit_whose_signal_was_not_heard_begins_no_round(search: Search) -> None:
    assert search.run(stopped=True).interrupted
    assert search.trained == []
