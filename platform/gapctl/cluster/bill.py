"""What the machines of a running Ray cost per hour, by the table of prices or by what the user says."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from gapctl.cluster.machine_kind import MachineKind
from gapctl.cluster.node_kinds import NodeKinds
from gapctl.cluster.prices import Prices, shipped_prices

Asking = Callable[[], AbstractContextManager[bool]]
"""Whether Ray may be asked; it does not end before the context is left."""


class Priced(NamedTuple):
    """Money per hour of all machines whose price is known, how many those are, and how many others there are.

    Of these `unanswered` have not said yet what they are.
    """

    per_hour: float
    priced: int
    unpriced: int
    unanswered: int


def price_of(kind: MachineKind | None, prices: Prices, otherwise: float | None) -> float | None:
    """Per hour; `otherwise` for a machine that no table knows."""
    known = None if kind is None else prices.instances.get(kind.instance)
    if kind is None or known is None:
        return otherwise
    return known.spot if kind.spot else known.on_demand


class Bill:
    """Adds up the nodes that are alive; what kind of machine each is, it asks once of the node itself."""

    def __init__(self, otherwise: float | None, asking: Asking, prices: Prices | None = None) -> None:
        """`otherwise` is the price of a machine that no table knows, or that has not said yet what it is."""
        self._otherwise, self._asking, self._prices = otherwise, asking, prices or shipped_prices()
        self._kinds = NodeKinds()

    def __call__(self) -> Priced | None:
        """What all nodes cost together; None before Ray has started and once it ends. Takes a second or two."""
        import ray

        with self._asking() as may_ask:
            if not may_ask or not ray.is_initialized():
                return None
            nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
            alive = [str(node["NodeID"]) for node in nodes if node["Alive"]]
            kinds = self._kinds.look(alive)
        prices = [price_of(kinds.get(node), self._prices, self._otherwise) for node in alive]
        found = [price for price in prices if price is not None]
        return Priced(sum(found), len(found), len(prices) - len(found), len(alive) - len(kinds))
