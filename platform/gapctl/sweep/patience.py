"""How long processes that are to stop may take for their checkpoints; the leases of those that took longer."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from ray.tune.schedulers import FIFOScheduler

from gapctl.errors import WorkError
from gapctl.ledger import Ledger
from gapctl.ledger.lease import LEASE, lease_in

STOP_SECONDS: Final = 60
"""For the step or the evaluation in progress, and for writing checkpoints, also into an object store."""


class PatientScheduler(FIFOScheduler):
    """Trials in their order, and time to stop: Tune would kill after ten seconds what has not let go."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Tune hands its controller to schedulers alone, and has no setting for this."""
        tune_controller._actor_force_cleanup_timeout = STOP_SECONDS
        super().on_trial_add(tune_controller, trial)


def free_what_was_killed(ledger: Ledger, trial_ids: Iterable[str], run: str) -> None:
    """Clears the leases that name a run whose processes have all ended, so that nobody waits for them."""
    ids = list(trial_ids)
    for trial_id, content in zip(ids, ledger.contents(ids, LEASE), strict=True):
        lease = None if isinstance(content, WorkError) else lease_in(content)
        if lease is not None and lease.run == run:
            with suppress(WorkError):
                ledger.trial(trial_id).clear_lease(run)
