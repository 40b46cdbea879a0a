"""What a sweep's machines cost while it trains, asked again and again in a thread that nothing else waits for."""

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

RATE_SECONDS: Final = 15.0
"""Between two looks at which machines there are, once all have said what they are."""
SOON_SECONDS: Final = 1.0
"""Between two looks before."""
PATIENCE_SECONDS: Final = 120.0
"""A cluster of which no price is known for so long has none to tell."""


class Priced(Protocol):
    """Money per hour of the machines whose price is known, how many have one, how many have none.

    Of the latter `unanswered` have not said yet what they are.
    """

    @property
    def per_hour(self) -> float: ...

    @property
    def priced(self) -> int: ...

    @property
    def unpriced(self) -> int: ...

    @property
    def unanswered(self) -> int: ...


Rate = Callable[[], Priced | None]
"""What the machines cost now; None while there are none."""


class PriceWatch:
    """Looks from `start` until `closed` is set, and answers from its last look."""

    def __init__(self, rate: Rate, closed: threading.Event) -> None:
        self._rate, self._closed = rate, closed
        self._last: Priced | None = None
        self._blind_since: float | None = None
        self._thread = threading.Thread(target=self._work, name="gapctl-prices", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    @property
    def per_hour(self) -> float:
        """Of all machines whose price is known."""
        return self._last.per_hour if self._last else 0.0

    @property
    def unpriced(self) -> int:
        """Machines that are not counted, as nobody knows their price."""
        return self._last.unpriced if self._last else 0

    @property
    def none_known(self) -> bool:
        """Whether of all machines none has a price: each has answered, or time enough was given."""
        last, blind_since = self._last, self._blind_since
        if blind_since is None:
            return False
        answered = last is not None and last.unpriced > 0 and not last.unanswered
        return answered or time.monotonic() - blind_since >= PATIENCE_SECONDS

    def _work(self) -> None:
        pause = 0.0
        while not self._closed.wait(pause):
            known = self._look()
            pause = RATE_SECONDS if known else SOON_SECONDS

    def _look(self) -> bool:
        """Whether every machine has said what it is."""
        try:
            found = self._rate()
        except Exception:  # Ray's head is busy, or its nodes cannot be asked: the next look will tell
            self._note_blind(bool(self._last and self._last.priced))
            return False
        if found is None:
            self._blind_since = None
            return False
        self._last = found
        self._note_blind(found.priced > 0)
        return found.priced + found.unpriced > 0 and not found.unanswered

    def _note_blind(self, sees: bool) -> None:
        if sees:
            self._blind_since = None
        elif self._blind_since is None:
            self._blind_since = time.monotonic()
