"""What the machines of a running Ray cost per hour, by the table of prices or by what the user says."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gapctl.cluster.machine_kind import MachineKind, this_machine
from gapctl.cluster.prices import Prices, shipped_prices

LOOK_SECONDS: Final = 30.0


class Priced(NamedTuple):
    """Money per hour of all machines whose price is known, how many those are, and how many others there are."""

    per_hour: float
    priced: int
    unpriced: int


def price_of(kind: MachineKind | None, prices: Prices, otherwise: float | None) -> float | None:
    """Per hour; `otherwise` for a machine that no table knows."""
    known = None if kind is None else prices.instances.get(kind.instance)
    if kind is None or known is None:
        return otherwise
    return known.spot if kind.spot else known.on_demand


class Bill:
    """Adds up the nodes that are alive; what kind of machine each is, it asks once of the node itself."""

    def __init__(self, otherwise: float | None, prices: Prices | None = None) -> None:
        self._otherwise, self._prices = otherwise, prices or shipped_prices()
        self._kinds: dict[str, MachineKind | None] = {}

    def __call__(self) -> Priced | None:
        """What all nodes cost together; None before Ray has started."""
        import ray

        if not ray.is_initialized():
            return None
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        alive = [str(node["NodeID"]) for node in nodes if node["Alive"]]
        new = [node for node in alive if node not in self._kinds]
        self._kinds |= _kinds_of(new)
        prices = [self._price(node) for node in alive if node in self._kinds]
        found = [price for price in prices if price is not None]
        return Priced(sum(found), len(found), len(prices) - len(found))

    def _price(self, node: str) -> float | None:
        return price_of(self._kinds.get(node), self._prices, self._otherwise)


def _kinds_of(nodes: list[str]) -> Mapping[str, MachineKind | None]:
    """By node id; a node that does not answer is left out, and asked again."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look: Any = ray.remote(num_cpus=0)(this_machine)
    asked = {
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(): node
        for node in nodes
    }
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=LOOK_SECONDS) if asked else ([], [])
    for task in late:
        ray.cancel(task)
    return {asked[task]: ray.get(task) for task in done}
