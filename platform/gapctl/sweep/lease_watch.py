"""Trials that other sweeps train: waited for, counted when they are done, and taken where their holder is gone."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from ray.tune.schedulers import FIFOScheduler

from gapctl.errors import WorkError
from gapctl.ledger import Lease, Ledger, Result, TrialFolder
from gapctl.ledger.lease import LEASE_FILE, LEASE_SECONDS, RENEWAL_SECONDS, UNREADABLE_LEASE, is_gone, parse_lease
from gapctl.ledger.trial import FAILURE, decode_failure

LEASE_CHECK_SECONDS: Final = 2.0
"""Between two looks at the leases of others."""


@dataclass(frozen=True)
class Released:
    """Nobody trains it now; `expired` is the lease that nobody renewed, if one lies there still."""

    expired: bytes | None = None


@dataclass(frozen=True)
class FailedRemotely:
    """Its training went wrong in another sweep, or what it left is damaged."""

    message: str


LeaseState = Lease | Released | FailedRemotely | Result


class LeaseWatcher:
    """Watches leases by this process's own clock, as those of other machines may differ from it."""

    def __init__(self, ledger: Ledger, lease_seconds: float = LEASE_SECONDS) -> None:
        self._ledger, self._lease_seconds = ledger, lease_seconds
        self._seen: dict[str, tuple[bytes, float]] = {}

    def look(self, trial_ids: Sequence[str]) -> Mapping[str, LeaseState]:
        """How each trial stands that another process was seen to hold.

        Left out are those of which the ledger cannot be read now: they stand as they did, and their leases do not age
        meanwhile, as their holders cannot renew them either.
        """
        leases = self._ledger.contents(
            trial_ids, LEASE_FILE
        )  # before results: a holder writes its result, then lets go
        results = self._ledger.results(trial_ids)
        found = {
            trial_id: self._judge_trial(trial_id, lease, result)
            for trial_id, lease, result in zip(trial_ids, leases, results, strict=True)
        }
        return {trial_id: standing for trial_id, standing in found.items() if standing is not None}

    def _judge_trial(
        self, trial_id: str, lease: bytes | WorkError | None, result: Result | WorkError | None
    ) -> LeaseState | None:
        if isinstance(result, Result):
            return result
        if _is_unreachable(result) or _is_unreachable(lease):
            self._restart_age(trial_id)
            return None
        if isinstance(result, WorkError) or isinstance(lease, WorkError):
            return FailedRemotely(str(result or lease))
        if lease is None:
            return self._judge_missing_lease(trial_id)
        return self._judge_lease(trial_id, lease)

    def _restart_age(self, trial_id: str) -> None:
        if trial_id in self._seen:
            content, _ = self._seen[trial_id]
            self._seen[trial_id] = (content, time.monotonic())

    def _judge_missing_lease(self, trial_id: str) -> LeaseState | None:
        (failure,) = self._ledger.contents([trial_id], FAILURE)
        if _is_unreachable(failure):
            self._restart_age(trial_id)
            return None
        self._seen.pop(trial_id, None)
        return FailedRemotely(decode_failure(failure)) if isinstance(failure, bytes) else Released()

    def _judge_lease(self, trial_id: str, content: bytes) -> LeaseState:
        lease, now = parse_lease(content), time.monotonic()
        if lease is not None and is_gone(lease.process):
            return Released(expired=content)  # a worker on another machine cannot see that, and goes by the bytes
        known, since = self._seen.get(trial_id, (b"", now))
        if content != known:
            since = now
            self._seen[trial_id] = (content, now)
        if now - since >= self._lease_seconds:
            return Released(expired=content)
        return lease or UNREADABLE_LEASE


def _is_unreachable(found: object) -> bool:
    """Whether a document was not read at all: the store is away, or the disk; a damaged one was."""
    return isinstance(found, WorkError) and isinstance(found.__cause__, OSError)


RENEWAL_CHECK_SECONDS: Final = 2 * RENEWAL_SECONDS
"""A training that goes on renews its leases itself, so that there is nothing to write here."""


class LeaseRenewer:
    """A thread that looks at the leases of the folders that `held` names, for as long as the process lives.

    A lease that was lost, or a ledger that does not answer, is left to the training, which meets it at its next beat.
    """

    def __init__(self, held: Callable[[], Iterable[TrialFolder]], every: float = RENEWAL_CHECK_SECONDS) -> None:
        self._held, self._every = held, every
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._renew_leases, name="gapctl-leases", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()

    def _renew_leases(self) -> None:
        while not self._closed.wait(self._every):
            for folder in list(self._held()):
                hold = folder.hold
                with suppress(Exception):
                    if hold is not None:
                        hold.renew_if_late()


GRACE_SECONDS: Final = 60
"""For the step or the evaluation in progress, and for writing checkpoints, also into an object store."""


class GracefulStopScheduler(FIFOScheduler):
    """Trials in their order, and time to stop: Tune would kill after ten seconds what has not let go."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Tune hands its controller to schedulers alone, and has no setting for this."""
        tune_controller._actor_force_cleanup_timeout = GRACE_SECONDS
        super().on_trial_add(tune_controller, trial)


def clear_dead_leases(ledger: Ledger, trial_ids: Iterable[str], run: str) -> None:
    """Clears the leases that name a run whose processes have all ended, so that nobody waits for them."""
    ids = list(trial_ids)
    for trial_id, content in zip(ids, ledger.contents(ids, LEASE_FILE), strict=True):
        lease = None if isinstance(content, WorkError) else parse_lease(content)
        if lease is not None and lease.run == run:
            with suppress(WorkError):
                ledger.trial(trial_id).clear_lease(run)
