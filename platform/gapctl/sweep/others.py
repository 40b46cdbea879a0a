"""Trials that other sweeps train: waited for, counted when they are done, and taken where their holder is gone."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gapctl.errors import WorkError
from gapctl.ledger import Lease, Ledger, Result
from gapctl.ledger.lease import LEASE, LEASE_SECONDS, UNREADABLE, lease_in
from gapctl.ledger.process import is_gone
from gapctl.ledger.trial_folder import FAILURE, failure_in

LOOK_SECONDS: Final = 2.0
"""Between two looks at the leases of others."""


@dataclass(frozen=True)
class Free:
    """Nobody trains it now; `expired` is the lease that nobody renewed, if one lies there still."""

    expired: bytes | None = None


@dataclass(frozen=True)
class FailedElsewhere:
    """Its training went wrong in another sweep, or what it left is damaged."""

    message: str


Standing = Lease | Free | FailedElsewhere | Result


class Others:
    """Watches leases by this process's own clock, as those of other machines may differ from it."""

    def __init__(self, ledger: Ledger, lease_seconds: float = LEASE_SECONDS) -> None:
        self._ledger, self._lease_seconds = ledger, lease_seconds
        self._seen: dict[str, tuple[bytes, float]] = {}

    def look(self, trial_ids: Sequence[str]) -> Mapping[str, Standing]:
        """How each trial stands that another process was seen to hold.

        Left out are those of which the ledger cannot be read now: they stand as they did, and their leases do not age
        meanwhile, as their holders cannot renew them either.
        """
        leases = self._ledger.contents(trial_ids, LEASE)  # before results: a holder writes its result, then lets go
        results = self._ledger.results(trial_ids)
        found = {
            trial_id: self._standing(trial_id, lease, result)
            for trial_id, lease, result in zip(trial_ids, leases, results, strict=True)
        }
        return {trial_id: standing for trial_id, standing in found.items() if standing is not None}

    def _standing(
        self, trial_id: str, lease: bytes | WorkError | None, result: Result | WorkError | None
    ) -> Standing | None:
        if isinstance(result, Result):
            return result
        if _out_of_reach(result) or _out_of_reach(lease):
            self._age_anew(trial_id)
            return None
        if isinstance(result, WorkError) or isinstance(lease, WorkError):
            return FailedElsewhere(str(result or lease))
        if lease is None:
            return self._let_go(trial_id)
        return self._held(trial_id, lease)

    def _age_anew(self, trial_id: str) -> None:
        if trial_id in self._seen:
            content, _ = self._seen[trial_id]
            self._seen[trial_id] = (content, time.monotonic())

    def _let_go(self, trial_id: str) -> Standing | None:
        (failure,) = self._ledger.contents([trial_id], FAILURE)
        if _out_of_reach(failure):
            self._age_anew(trial_id)
            return None
        self._seen.pop(trial_id, None)
        return FailedElsewhere(failure_in(failure)) if isinstance(failure, bytes) else Free()

    def _held(self, trial_id: str, content: bytes) -> Standing:
        lease, now = lease_in(content), time.monotonic()
        if lease is not None and is_gone(lease.process):
            return Free(expired=content)  # a worker on another machine cannot see that, and goes by the bytes
        known, since = self._seen.get(trial_id, (b"", now))
        if content != known:
            since = now
            self._seen[trial_id] = (content, now)
        if now - since >= self._lease_seconds:
            return Free(expired=content)
        return lease or UNREADABLE


def _out_of_reach(found: object) -> bool:
    """Whether a document was not read at all: the store is away, or the disk; a damaged one was."""
    return isinstance(found, WorkError) and isinstance(found.__cause__, OSError)
