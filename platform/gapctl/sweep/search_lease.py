"""A search's lease in its ledger: of all processes on all machines one runs it at a time, as one trains a trial."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from gapctl.errors import InputError, WorkError
from gapctl.ledger import Claimant, Lease, Ledger, TrialFolder
from gapctl.ledger.lease import LEASE_SECONDS
from gapctl.ledger.process import runs_here
from gapctl.sweep.others import Free, Others
from gapctl.sweep.renewals import EVERY, Renewals

LOOK_SECONDS: Final = 2.0


@contextmanager
def alone_in_ledger(
    ledger: Ledger,
    search: str,
    say: Callable[[str], None],
    *,
    lease_seconds: float = LEASE_SECONDS,
    every: float = EVERY,
) -> Iterator[Callable[[], None]]:
    """Holds the search named `<sweep>.<scale>`; gives what raises LeaseLostError once another process has it.

    Raises InputError where another process runs it. Whether one of another machine still does, its renewals show: that
    is waited for, which `say` is told of, and a lease that nobody renews is taken over.
    """
    folder = ledger.search_folder(search)
    _take(folder, Claimant.for_sweep(search), Others(ledger, lease_seconds), say)
    hold = folder.hold
    assert hold is not None
    renewals = Renewals(lambda: [folder], every)
    try:
        yield hold.require
    finally:
        renewals.close()
        with suppress(WorkError):  # it ends by itself
            folder.rest()


def _take(folder: TrialFolder, claimant: Claimant, others: Others, say: Callable[[str], None]) -> None:
    first = other = folder.take(claimant)
    if first is not None and not runs_here(first.process):
        say(
            f"{folder.trial_id} is {first.held_by}: waiting to see whether that still runs it, which takes "
            f"{LEASE_SECONDS:.0f} s at most"
        )
    while other is not None:
        if other != first or runs_here(other.process):
            raise InputError(
                f"{folder.path()}: another gapctl runs this search: it is {other.held_by}; expected one at a time, as "
                "each would draw the other's points. Wait for it, or end it: the same command then goes on"
            )
        time.sleep(LOOK_SECONDS)
        standing = others.look([folder.trial_id]).get(folder.trial_id)
        if isinstance(standing, Lease):
            other = standing
        elif isinstance(standing, Free):
            other = folder.take(claimant, standing.expired)
