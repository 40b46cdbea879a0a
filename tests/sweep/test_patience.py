"""A sweep that is stopped gives its processes time for checkpoints; the leases of those that had too little go."""

import inspect
from pathlib import Path
from types import SimpleNamespace

from ray.tune.execution.tune_controller import TuneController

from gapctl.ledger import LeaseOwner, Ledger
from gapctl.sweep.lease_watch import GRACE_SECONDS, clear_dead_leases
from gapctl.sweep.tuner import GracefulStopScheduler


def test_tune_waits_longer_than_its_ten_seconds() -> None:
    controller = SimpleNamespace(_actor_force_cleanup_timeout=10)

    GracefulStopScheduler().on_trial_add(controller, object())

    assert controller._actor_force_cleanup_timeout == GRACE_SECONDS
    assert "self._actor_force_cleanup_timeout: int = 10" in inspect.getsource(TuneController.__init__)


def test_only_leases_of_the_run_that_ended_are_taken_away(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    for trial_id, run in (("a", "ours"), ("b", "theirs")):
        assert ledger.trial(trial_id).acquire(LeaseOwner(run, "sweep")) is None

    clear_dead_leases(ledger, ["a", "b", "never-begun"], "ours")

    assert ledger.trial("a").lease() is None
    assert ledger.trial("b").lease() is not None
