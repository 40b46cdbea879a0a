"""Renews leases beside a training that is busy for longer than its heartbeat: compiling, evaluating, or waiting."""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from gapctl.ledger import TrialFolder
from gapctl.ledger.lease import RENEWAL_SECONDS

EVERY: Final = 2 * RENEWAL_SECONDS
"""A training that goes on renews its leases itself, so that there is nothing to write here."""


class Renewals:
    """A thread that looks at the leases of the folders that `held` names, for as long as the process lives.

    A lease that was lost, or a ledger that does not answer, is left to the training, which meets it at its next beat.
    """

    def __init__(self, held: Callable[[], Iterable[TrialFolder]], every: float = EVERY) -> None:
        self._held, self._every = held, every
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="gapctl-leases", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()

    def _work(self) -> None:
        while not self._closed.wait(self._every):
            for folder in list(self._held()):
                hold = folder.hold
                with suppress(Exception):
                    if hold is not None:
                        hold.renew_where_late()
