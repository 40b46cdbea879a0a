"""Leases during a sweep: watch those of other processes, renew one's own, and clear those of dead processes.

`LeaseWatcher` judges trials that other processes hold, `LeaseRenewer` renews leases during long steps.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from gapctl.errors import WorkError
from gapctl.ledger import Lease, Ledger, Result, TrialFolder
from gapctl.ledger.lease import (
    LEASE_FILE,
    LEASE_SECONDS,
    RENEWAL_SECONDS,
    UNREADABLE_LEASE,
    has_process_ended,
    parse_lease,
)
from gapctl.ledger.trial import FAILURE, decode_failure

LEASE_CHECK_SECONDS: Final = 2.0
"""Seconds between two checks of other processes' leases."""


@dataclass(frozen=True)
class Released:
    """No process trains the trial. `expired` is the content of a lease that was not renewed, if one is still there."""

    expired: bytes | None = None


@dataclass(frozen=True)
class FailedRemotely:
    """The training failed in another sweep, or its files are damaged."""

    message: str


LeaseState = Lease | Released | FailedRemotely | Result


class LeaseWatcher:
    """Watches leases, timed by this process's own clock, because clocks of machines disagree."""

    def __init__(self, ledger: Ledger, lease_seconds: float = LEASE_SECONDS) -> None:
        self._ledger, self._lease_seconds = ledger, lease_seconds
        self._seen: dict[str, tuple[bytes, float]] = {}

    def check_leases(self, trial_ids: Sequence[str]) -> Mapping[str, LeaseState]:
        """Return the state of each trial that another process was seen to hold.

        A trial whose files cannot be read now is left out and keeps its former state. Its lease does not age meanwhile,
        as the holder cannot renew it either.
        """
        leases = self._ledger.contents(
            trial_ids, LEASE_FILE
        )  # before results: a holder writes its result, then releases the lease
        results = self._ledger.results(trial_ids)
        found = {
            trial_id: self._judge_trial(trial_id, lease, result)
            for trial_id, lease, result in zip(trial_ids, leases, results, strict=True)
        }
        return {trial_id: state for trial_id, state in found.items() if state is not None}

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
        if lease is not None and has_process_ended(lease.process):
            return Released(expired=content)  # a worker on another machine cannot check the process; it compares bytes
        known, since = self._seen.get(trial_id, (b"", now))
        if content != known:
            since = now
            self._seen[trial_id] = (content, now)
        if now - since >= self._lease_seconds:
            return Released(expired=content)
        return lease or UNREADABLE_LEASE


def _is_unreachable(found: object) -> bool:
    """Return whether a document could not be read at all because the store or disk is away, unlike a damaged one."""
    return isinstance(found, WorkError) and isinstance(found.__cause__, OSError)


RENEWAL_CHECK_SECONDS: Final = 2 * RENEWAL_SECONDS
"""Seconds between two checks. A training in progress renews its leases itself, so this usually writes nothing."""


class LeaseRenewer:
    """A thread that renews the leases of the folders that `get_folders` returns, as long as the process lives.

    Errors are ignored here: the training itself meets a lost lease or an unreachable ledger at its next heartbeat.
    """

    def __init__(self, get_folders: Callable[[], Iterable[TrialFolder]], every: float = RENEWAL_CHECK_SECONDS) -> None:
        self._get_folders, self._every = get_folders, every
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._renew_leases, name="gapctl-leases", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()

    def _renew_leases(self) -> None:
        while not self._closed.wait(self._every):
            for folder in list(self._get_folders()):
                hold = folder.handle
                with suppress(Exception):
                    if hold is not None:
                        hold.renew_if_late()


GRACE_SECONDS: Final = 60
"""Time for the step or evaluation in progress, and for writing checkpoints, also into an object store."""


def clear_dead_leases(ledger: Ledger, trial_ids: Iterable[str], run: str) -> None:
    """Remove the leases of a run whose processes have all ended, so that nobody waits for them."""
    ids = list(trial_ids)
    for trial_id, content in zip(ids, ledger.contents(ids, LEASE_FILE), strict=True):
        lease = None if isinstance(content, WorkError) else parse_lease(content)
        if lease is not None and lease.run == run:
            with suppress(WorkError):
                ledger.trial(trial_id).clear_lease(run)
