"""Lost processes are forgiven as long as a trial gets on, and explained where it ends its own again and again."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError

from gapctl.config.load import load_sweep
from gapctl.ledger import LeaseOwner, Ledger
from gapctl.ledger.trial import FAILURE
from gapctl.plan.plan import Plan, make_plan
from gapctl.sweep.ray_private import count_memory_kills_as_losses
from gapctl.sweep.retries import RETRIES, RetryBudget, count_kernel_kills
from gapctl.sweep.spot_notice import MACHINE_TAKEN_TEXT
from sweep_texts import TINY, written


class TuneTrial:
    """What Tune knows of a trial, as far as losses go."""

    trial_id = "tune-0"
    status = "RUNNING"

    def __init__(self) -> None:
        self.config = {"pack": ["a", "b"]}
        self.num_failures, self.max_failures = 0, RETRIES
        self.told: list[str] = []

    def lose(self, losses: RetryBudget, told: str = "The actor died.", *, announced: bool = False) -> bool:
        """A loss as Tune handles it; whether it tries again."""
        self.told.append(told)
        self.num_failures += not announced
        goes_on = self.num_failures <= self.max_failures
        if goes_on:
            losses.count_failure(self)
        return goes_on

    def get_error(self) -> str:
        return "\n".join(f"Failure # {number} (occurred at noon)\n{text}" for number, text in enumerate(self.told, 1))


def test_a_trial_that_gets_on_may_be_lost_any_number_of_times() -> None:
    losses, trial = RetryBudget(), TuneTrial()
    for saved in range(100, 2000, 100):
        losses.note_checkpoints(trial, [{"trial": "b", "saved": saved}])
        assert trial.lose(losses)


def test_leaving_a_machine_that_was_announced_to_go_costs_no_retry() -> None:
    losses, trial = RetryBudget(), TuneTrial()
    for _ in range(3 * RETRIES):
        assert trial.lose(losses, f"MachineTakenError: a seed=0: {MACHINE_TAKEN_TEXT}; it goes on")
    for _ in range(RETRIES):
        assert trial.lose(losses)
    assert not trial.lose(losses)


def test_a_trial_that_ends_at_one_place_is_given_up_though_it_reports() -> None:
    losses, trial = RetryBudget(), TuneTrial()
    losses.note_checkpoints(trial, [{"trial": "a", "saved": 1280}])
    for _ in range(RETRIES):
        assert trial.lose(losses)
        losses.note_checkpoints(trial, [{"trial": "a", "saved": 1280}, {"trial": "b", "held": {}}])
    assert not trial.lose(losses)

    why = losses.explain_failure(trial).splitlines()[-1]
    assert why.startswith(f"its process vanished {RETRIES + 1} times at the same place, after 1,280 samples. ")
    assert "too little memory" in why
    assert "resources.pack" in why


def test_what_ray_ended_for_want_of_memory_is_said_to_be() -> None:
    losses, trial = RetryBudget(), TuneTrial()
    while trial.lose(losses, "1 worker(s) were killed due to the node running low on memory. Consider ..."):
        pass

    assert (
        losses.explain_failure(trial).splitlines()[-1].startswith("its process was ended for want of memory, 4 times")
    )


def test_a_possible_cause_is_not_taken_for_the_cause() -> None:
    losses, trial = RetryBudget(), TuneTrial()
    while trial.lose(
        losses, "Some common causes: (1) the process was killed by the OOM killer due to high memory usage"
    ):
        pass

    assert "vanished" in losses.explain_failure(trial)


def test_an_error_is_not_taken_for_a_process_that_vanished() -> None:
    losses, trial = RetryBudget(), TuneTrial()
    while trial.lose(losses, "ray.exceptions.RayTaskError(KeyError): ray::reset()\nKeyError: 'abc'"):
        pass

    assert losses.explain_failure(trial).splitlines()[-1] == "an error outside its training ended it: KeyError: 'abc'"


def test_the_kernel_s_own_count_tells_too(monkeypatch: pytest.MonkeyPatch) -> None:
    kills = iter(range(3, 20))
    monkeypatch.setattr("gapctl.sweep.retries.count_kernel_kills", lambda: next(kills))
    losses, trial = RetryBudget(), TuneTrial()
    while trial.lose(losses):
        pass

    assert "for want of memory" in losses.explain_failure(trial)


def test_the_kernel_s_count_is_read_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("pgfault 12\noom_kill 3\noom_kill_more 9\n")

    assert count_kernel_kills(tmp_path / "vmstat") == 3
    assert count_kernel_kills(tmp_path / "absent") == 0


def test_machines_that_were_to_be_taken_away_do_not_count() -> None:
    losses, trial = RetryBudget(), TuneTrial()

    assert all(trial.lose(losses, announced=True) for _ in range(20))


def test_a_ledger_that_cannot_be_written_says_so_itself() -> None:
    losses, trial = RetryBudget(), TuneTrial()
    while trial.lose(losses, "Traceback ...\ngapctl.errors.WorkError: runs/x: cannot be written: no space"):
        pass

    assert losses.explain_failure(trial).splitlines()[-1] == (
        "gapctl.errors.WorkError: runs/x: cannot be written: no space"
    )


@pytest.fixture
def ray() -> Iterator[None]:
    from gapctl.sweep.ray_session import open_ray_session

    with open_ray_session(None):
        yield


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan(load_sweep(written(tmp_path, TINY), "quick"), lambda data: "f" * 64)


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray")
def test_tune_heeds_it(plan: Plan, tmp_path: Path) -> None:
    from ray import tune

    from gapctl.sweep.tuner import TuneEvents

    getting_on, stuck = (trial.id for trial in plan.trials)
    deaths = tmp_path / "deaths"
    deaths.mkdir()

    class Dying(tune.Trainable):
        """Is killed in every process: one trial after a new checkpoint, five times; the other always and at once."""

        def setup(self, config: dict[str, Any]) -> None:
            (self.trial,) = config["pack"]
            self.log = deaths / self.trial

        def step(self) -> dict[str, Any]:
            died = len(self.log.read_text()) if self.log.exists() else 0
            if self.trial == getting_on and died == 5:
                return {"reports": [{"trial": self.trial, "failure": "the end of this test"}], "done": True}
            if self.trial == stuck or self.iteration:
                self.log.write_text("x" * (died + 1))
                os.kill(os.getpid(), signal.SIGKILL)
            lease = {"holder": "", "run": "", "sweep": "", "host": "", "machine": "", "pid": 0, "started": ""}
            held = lease | {"taken": 0.0, "renewed": 0.0, "samples_seen": 0}
            return {"reports": [{"trial": self.trial, "held": held, "saved": died + 1}], "done": False}

    ledger = Ledger(str(tmp_path / "runs"))
    events = TuneEvents({trial.id: trial for trial in plan.trials}, ledger, [])
    tune.Tuner(
        tune.with_resources(Dying, {"CPU": 0.5}),
        param_space={"pack": tune.grid_search([[getting_on], [stuck]])},
        run_config=tune.RunConfig(
            storage_path=str(tmp_path / "tune"),
            verbose=0,
            callbacks=[events],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
        ),
    ).fit()

    assert {path.name: len(path.read_text()) for path in deaths.iterdir()} == {getting_on: 5, stuck: RETRIES + 1}
    assert events.failures[getting_on] == "the end of this test"
    assert "4 times at the same place, after 0 samples" in events.failures[stuck].splitlines()[-1]
    assert ledger.trial(stuck).read_text(FAILURE) == events.failures[stuck]


def test_a_trial_that_was_lost_for_good_and_that_another_sweep_trains_by_now_is_left_to_it(
    plan: Plan, tmp_path: Path
) -> None:
    from gapctl.sweep.tuner import TuneEvents

    ledger, (theirs, ours) = Ledger(str(tmp_path / "runs")), plan.trials
    ledger.trial(theirs.id).acquire(LeaseOwner("another run", "another"))
    events, lost = TuneEvents({trial.id: trial for trial in plan.trials}, ledger, [], "this run"), TuneTrial()
    lost.config, lost.status, lost.told = {"pack": [theirs.id, ours.id]}, "ERROR", ["The actor died."]

    events.on_trial_error(0, [], lost)

    assert events.held == {theirs.id: ledger.trial(theirs.id).lease()}
    assert list(events.failures) == [ours.id]
    assert [ledger.trial(trial.id).read_text(FAILURE) is None for trial in plan.trials] == [True, False]


@pytest.mark.parametrize("lost", [OutOfMemoryError("the node running low on memory"), NodeDiedError("node gone")])
def test_a_process_that_the_memory_monitor_ends_between_calls_is_lost_and_does_not_end_the_sweep(
    monkeypatch: pytest.MonkeyPatch, lost: Exception
) -> None:
    """Ray's own manager of Tune's processes gets the error as Ray 2.60 raises it."""
    told: list[Exception] = []
    manager = RayActorManager.__new__(RayActorManager)
    monkeypatch.setattr(manager, "_failed_actor_ids", set(), raising=False)
    monkeypatch.setattr(manager, "_cleanup_actor", lambda **named: None, raising=False)
    actor = SimpleNamespace(actor_id=1, _on_error=lambda actor, error: told.append(error))
    task = SimpleNamespace(_tracked_actor=actor, _on_error=None)
    monkeypatch.setattr(RayActorManager, "_actor_task_failed", RayActorManager._actor_task_failed)
    count_memory_kills_as_losses()
    count_memory_kills_as_losses()

    manager._actor_task_failed(tracked_actor_task=task, exception=lost)

    assert [type(error) for error in told] == [RayActorError]
    assert str(lost) in str(told[0])
    with pytest.raises(RuntimeError, match="Caught unexpected exception"):
        manager._actor_task_failed(tracked_actor_task=task, exception=ValueError("anything else"))
