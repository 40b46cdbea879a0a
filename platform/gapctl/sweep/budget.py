"""The limits of a sweep: count hours and money over all its runs, and stop it when they are spent.

`Budget` counts in a thread and sends SIGINT to the process, so that the sweep stops as on Ctrl-C and saves
checkpoints. The signal is sent once and may come while nobody handles it, so callers also check `reached`.
`PriceWatch` asks what the machines cost now.
"""

import math
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol, Self

from gapctl.config.sweep import Limits
from gapctl.errors import WorkError
from gapctl.ledger import Ledger
from gapctl.ledger.ledger import RunSpending, Spending
from gapctl.plan.plan import Plan

PRICE_CHECK_SECONDS: Final = 15.0
"""Seconds between two checks of which machines there are, once the kind of each is known."""
FIRST_PRICE_CHECK_SECONDS: Final = 1.0
"""Seconds between two checks before that."""
NO_PRICE_SECONDS: Final = 120.0
"""Seconds after which a cluster without any known price counts as having none."""


class HourlyCost(Protocol):
    """Cost per hour of machines with a known price, and the number of machines with and without one.

    Of the latter, `unanswered` have not answered yet what kind they are.
    """

    @property
    def per_hour(self) -> float: ...

    @property
    def priced(self) -> int: ...

    @property
    def unpriced(self) -> int: ...

    @property
    def unanswered(self) -> int: ...


CostReader = Callable[[], HourlyCost | None]
"""Returns the present cost of all machines, None while there are none."""


class PriceWatch:
    """Ask for prices in a thread, from `start` until `closed` is set, and answer from the last reading."""

    def __init__(self, rate: CostReader, closed: threading.Event) -> None:
        self._rate, self._closed = rate, closed
        self._last: HourlyCost | None = None
        self._blind_since: float | None = None
        self._thread = threading.Thread(target=self._watch_prices, name="gapctl-prices", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def per_hour(self) -> float:
        """Cost per hour of all machines with a known price."""
        return self._last.per_hour if self._last else 0.0

    @property
    def unpriced(self) -> int:
        """Number of machines without a known price, which are not counted."""
        return self._last.unpriced if self._last else 0

    @property
    def has_no_price(self) -> bool:
        """Whether no machine has a price, although each has answered or had time enough."""
        last, blind_since = self._last, self._blind_since
        if blind_since is None:
            return False
        answered = last is not None and last.unpriced > 0 and not last.unanswered
        return answered or time.monotonic() - blind_since >= NO_PRICE_SECONDS

    def _watch_prices(self) -> None:
        pause = 0.0
        while not self._closed.wait(pause):
            known = self._check_prices()
            pause = PRICE_CHECK_SECONDS if known else FIRST_PRICE_CHECK_SECONDS

    def _check_prices(self) -> bool:
        """Return whether the kind of every machine is known."""
        try:
            found = self._rate()
        except Exception:  # Ray's head is busy, or its nodes cannot be asked: try again at the next check
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


TICK_SECONDS: Final = 1.0
SPENDING_NOTE_SECONDS: Final = 60.0
"""Seconds between two notes in the ledger. A killed driver loses at most this much of its spending."""
NO_PRICE: Final = "a price is known"
"""End of `reached` if the cost could not be counted."""


class Budget:
    """Count spending while entered. `reached` then names the limit that stopped the sweep, if one did."""

    def __init__(self, plan: Plan, ledger: Ledger, rate: CostReader) -> None:
        self._name, self._ledger = plan.sweep.spec.name, ledger
        self._limits: Limits = plan.sweep.spec.limits
        self._before = ledger.spent(self._name, plan.sweep.scale_name)
        self._run = RunSpending(uuid.uuid4().hex[:12], plan.sweep.scale_name, time.time(), 0.0, 0.0)
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._count_spending, name="gapctl-limits", daemon=True)
        self._prices = PriceWatch(rate, self._closed)
        self.reached = self._find_limit()

    @property
    def spent(self) -> Spending:
        """Spending of all runs, including this one once it has begun."""
        before, run = self._before, self._run
        return Spending(before.hours + run.hours, before.cost + run.cost, before.runs + (run.hours > 0))

    def __enter__(self) -> Self:
        if self._limits.any:
            self._thread.start()
        if self._limits.cost is not None:
            self._prices.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed.set()
        if self._thread.is_alive():
            self._thread.join(timeout=TICK_SECONDS)
        if self._run.hours:
            self._save_spending()

    def _count_spending(self) -> None:
        kept_at = last = time.monotonic()
        while not self._closed.wait(TICK_SECONDS):
            now = time.monotonic()
            hours, last = (now - last) / 3600, now
            cost = self._run.cost + hours * self._prices.per_hour
            self._run = replace(self._run, hours=self._run.hours + hours, cost=cost)
            if now - kept_at >= SPENDING_NOTE_SECONDS:
                self._save_spending()
                kept_at = now
            with self._lock:
                if not self._closed.is_set() and not self.reached and (found := self._find_limit()):
                    self.reached = found
                    os.kill(os.getpid(), signal.SIGINT)

    def _save_spending(self) -> None:
        """Record this run's spending and read the other runs'. If the store is away, the next call makes up for it."""
        try:
            self._ledger.save_spending(self._name, self._run)
            self._before = self._ledger.spent(self._name, self._run.scale, besides=self._run.run)
        except WorkError:
            return

    def _find_limit(self) -> str:
        """Return the limit that is reached, or ""."""
        limits, spent = self._limits, self.spent
        runs = f"by {spent.runs} runs of this sweep" if spent.runs > 1 else "by this sweep"
        if limits.hours is not None and spent.hours >= limits.hours:
            return f"limits.hours: {spent.hours:.4g} of {limits.hours:g} hours were spent {runs}"
        if limits.cost is not None and spent.cost >= limits.cost:
            return f"limits.cost: {spent.cost:.4g} of {limits.cost:g} were spent {runs}"
        if self._prices.has_no_price:
            machines = f"none of the {self.unpriced} machines" if self.unpriced else "no machine"
            return f"limits.cost: of {machines} {NO_PRICE}"
        return ""

    @property
    def resume_hint(self) -> str:
        """The advice to print after `reached`."""
        if self.reached.endswith(NO_PRICE):
            return "Say what an hour of a machine costs with --set limits.price_per_hour=..., or limit hours instead"
        name = self.reached.partition(":")[0]
        kind = name.partition(".")[2]
        value = _choose_higher_limit(float(getattr(self._limits, kind)), float(getattr(self.spent, kind)))
        return f"The same command goes on with --set {name}={value:g}, or a higher limit in the file"

    @property
    def unpriced(self) -> int:
        """Number of machines not counted, as their price is unknown."""
        return self._prices.unpriced


def _choose_higher_limit(limit: float, spent: float) -> float:
    """Return twice the limit or, if more is spent than that leaves room for, 1.5 times the spending to two digits."""
    wanted = 1.5 * spent
    if wanted <= 2 * limit:
        return 2 * limit
    unit = 10.0 ** (math.floor(math.log10(wanted)) - 1)
    return math.ceil(wanted / unit) * unit
