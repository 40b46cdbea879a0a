"""The limits of a sweep: count hours and money over all its runs, and end it when they are spent.

Whoever runs the sweep calls `Budget.check_limits` again and again: Tune's loop through `ClusterWatch`, and the rounds
while they wait. There is no thread, so Ray is never asked while it shuts down.
"""

import math
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
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
    """Cost per hour of all machines."""

    @property
    def per_hour(self) -> float:
        """Cost of the machines with a known price."""
        ...

    @property
    def priced(self) -> int:
        """Number of machines with a known price."""
        ...

    @property
    def unpriced(self) -> int:
        """Number of machines without one."""
        ...

    @property
    def unanswered(self) -> int:
        """Number of machines that have not said what kind they are."""
        ...


CostReader = Callable[[], HourlyCost | None]
"""Returns the present cost of all machines, None while there are none. Takes a second or two."""

TICK_SECONDS: Final = 1.0
"""Shortest time between two counts."""
SPENDING_NOTE_SECONDS: Final = 60.0
"""Seconds between two notes in the ledger. A killed driver loses at most this much of its spending."""
NO_PRICE: Final = "a price is known"
"""End of `reached` if the cost could not be counted."""


class Budget:
    """Count spending while entered. `reached` then names the limit that stopped the sweep, if one did."""

    def __init__(self, plan: Plan, ledger: Ledger, rate: CostReader) -> None:
        self._name, self._ledger, self._rate = plan.sweep.spec.name, ledger, rate
        self._limits: Limits = plan.sweep.spec.limits
        self._before = ledger.spent(self._name, plan.sweep.scale_name_or_base)
        self._run = RunSpending(uuid.uuid4().hex[:12], plan.sweep.scale_name_or_base, time.time(), 0.0, 0.0)
        self._counted = self._noted = time.monotonic()
        self._price: HourlyCost | None = None
        self._next_price_check = 0.0
        self._blind_since: float | None = None
        self.reached = self._find_limit()

    @property
    def spent(self) -> Spending:
        """Spending of all runs, including this one once it has begun."""
        before, run = self._before, self._run
        return Spending(before.hours + run.hours, before.cost + run.cost, before.runs + (run.hours > 0))

    def __enter__(self) -> Self:
        self._counted = self._noted = time.monotonic()
        self._check_prices(self._counted)
        return self

    def __exit__(self, *_: object) -> None:
        if self._limits.any:
            self._count_spending()
            self._save_spending()

    def check_limits(self) -> bool:
        """Count what was spent since the last call, and return whether a limit is reached."""
        now = time.monotonic()
        if self._limits.any and now - self._counted >= TICK_SECONDS:
            self._count_spending()
            self._check_prices(now)
            if now - self._noted >= SPENDING_NOTE_SECONDS:
                self._noted = now
                self._save_spending()
            self.reached = self.reached or self._find_limit()
        return bool(self.reached)

    def _count_spending(self) -> None:
        hours, self._counted = (time.monotonic() - self._counted) / 3600, time.monotonic()
        cost = hours * (self._price.per_hour if self._price else 0.0)
        self._run = replace(self._run, hours=self._run.hours + hours, cost=self._run.cost + cost)

    def _check_prices(self, now: float) -> None:
        """Ask what the machines cost if it is time to. Until all are known, that is every second."""
        if self._limits.cost is None or now < self._next_price_check:
            return
        known = False
        try:
            found = self._rate()
        except Exception:  # Ray's head is busy, or its nodes cannot be asked: try again at the next check
            priced = bool(self._price and self._price.priced)
        else:
            self._price = self._price if found is None else found
            priced = found is None or found.priced > 0
            known = found is not None and found.priced + found.unpriced > 0 and not found.unanswered
        if priced:
            self._blind_since = None
        elif self._blind_since is None:
            self._blind_since = now
        self._next_price_check = now + (PRICE_CHECK_SECONDS if known else FIRST_PRICE_CHECK_SECONDS)

    @property
    def _has_no_price(self) -> bool:
        """Whether no machine has a price, although each has answered or had time enough."""
        if self._blind_since is None:
            return False
        answered = self._price is not None and self._price.unpriced > 0 and not self._price.unanswered
        return answered or time.monotonic() - self._blind_since >= NO_PRICE_SECONDS

    def _save_spending(self) -> None:
        """Record this run's spending and read the other runs'. If the store is away, the next call makes up for it."""
        with suppress(WorkError):
            self._ledger.save_spending(self._name, self._run)
            self._before = self._ledger.spent(self._name, self._run.scale, besides=self._run.run)

    def _find_limit(self) -> str:
        """Return the limit that is reached, or ""."""
        limits, spent = self._limits, self.spent
        runs = f"by {spent.runs} runs of this sweep" if spent.runs > 1 else "by this sweep"
        if limits.hours is not None and spent.hours >= limits.hours:
            return f"limits.hours: {spent.hours:.4g} of {limits.hours:g} hours were spent {runs}"
        if limits.cost is not None and spent.cost >= limits.cost:
            return f"limits.cost: {spent.cost:.4g} of {limits.cost:g} were spent {runs}"
        if self._has_no_price:
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
        return self._price.unpriced if self._price else 0


def _choose_higher_limit(limit: float, spent: float) -> float:
    """Return twice the limit or, if more is spent than that leaves room for, 1.5 times the spending to two digits."""
    wanted = 1.5 * spent
    if wanted <= 2 * limit:
        return 2 * limit
    unit = 10.0 ** (math.floor(math.log10(wanted)) - 1)
    return math.ceil(wanted / unit) * unit
