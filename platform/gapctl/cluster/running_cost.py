"""The cost per hour of the machines of a running Ray, by the price table or the user's price.

`detect_machine_kind` runs on each node and asks the cloud what the node is; `NodeKinds` collects the answers, and
`RunningCost` adds up the prices.
"""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from gapctl.cluster.cost import PriceTable, load_shipped_prices
from gapctl.config.sweep import Limits
from gapctl.io.cloud_metadata import GOOGLE_HEADERS, METADATA_ADDRESS, fetch_amazon_token, fetch_metadata

if TYPE_CHECKING:
    from ray import ObjectRef


class MachineKind(NamedTuple):
    """A cloud's instance type, and whether it was bought on the spot market."""

    instance: str
    spot: bool


def detect_machine_kind(address: str = METADATA_ADDRESS) -> MachineKind | None:
    """Return this machine's kind, or None if no cloud answers, as on a laptop or in most containers."""
    try:
        headers, facts = fetch_amazon_token(address), f"{address}/latest/meta-data"
        instance = fetch_metadata(f"{facts}/instance-type", headers)
        return MachineKind(instance, fetch_metadata(f"{facts}/instance-life-cycle", headers) == "spot")
    except (OSError, ValueError):
        pass
    try:
        facts = f"{address}/computeMetadata/v1/instance"
        instance = fetch_metadata(f"{facts}/machine-type", GOOGLE_HEADERS).rsplit("/", 1)[-1]
        return MachineKind(instance, fetch_metadata(f"{facts}/scheduling/preemptible", GOOGLE_HEADERS) == "TRUE")
    except (OSError, ValueError):
        return None


ANSWERS_SECONDS: Final = 1.0
"""Longest wait for all answers together."""
HEAR_SECONDS: Final = 0.1
"""Longest wait for an answer that is ready."""
GIVE_UP_SECONDS: Final = 30.0
"""Time after which a node is asked again."""


class NodeKinds:
    """Ask each node for its kind once, and remember the answers and open questions."""

    def __init__(self) -> None:
        self._kinds: dict[str, MachineKind | None] = {}
        self._asked: dict[ObjectRef[MachineKind | None], tuple[str, float]] = {}

    def collect_kinds(self, nodes: Sequence[str]) -> Mapping[str, MachineKind | None]:
        """Return the kinds of those nodes that have answered, by node id.

        None means a machine of no cloud, or one where the question failed: its image cannot run gapctl, so it would
        fail again. Nodes that are late or were lost meanwhile are left out.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        waited_for = {node for node, _ in self._asked.values()}
        look = ray.remote(num_cpus=0)(detect_machine_kind)
        for node in nodes:
            if node not in self._kinds and node not in waited_for:
                there = NodeAffinitySchedulingStrategy(node, soft=False)
                self._asked[look.options(scheduling_strategy=there).remote()] = node, time.monotonic()
        if self._asked:
            done, late = ray.wait(list(self._asked), num_returns=len(self._asked), timeout=ANSWERS_SECONDS)
            for task in done:
                node, _ = self._asked.pop(task)
                try:
                    self._kinds[node] = ray.get(task, timeout=HEAR_SECONDS)
                except RayTaskError:
                    self._kinds[node] = None
                except RayError:
                    continue
            for task in late:
                if time.monotonic() - self._asked[task][1] >= GIVE_UP_SECONDS:
                    ray.cancel(task)
                    del self._asked[task]
        return {node: self._kinds[node] for node in nodes if node in self._kinds}


class ClusterCost(NamedTuple):
    """Cost per hour of machines with a known price, and the number of machines with and without one.

    Of the latter, `unanswered` have not answered yet what kind they are.
    """

    per_hour: float
    priced: int
    unpriced: int
    unanswered: int


def find_price(kind: MachineKind | None, prices: PriceTable, otherwise: float | None) -> float | None:
    """Return the price per hour, or `otherwise` for a machine that no table has."""
    known = None if kind is None else prices.instances.get(kind.instance)
    if kind is None or known is None:
        return otherwise
    return known.spot if kind.spot else known.on_demand


def find_machine_price(limits: Limits) -> float | None:
    """Return the price of an hour of this machine: by the table for a cloud's machine, else by the sweep file."""
    return find_price(detect_machine_kind(), load_shipped_prices(), limits.price_per_hour)


class RunningCost:
    """Add up the prices of the living nodes, whose kinds are asked once of the nodes themselves."""

    def __init__(self, otherwise: float | None, prices: PriceTable | None = None) -> None:
        """Use the price `otherwise` for a machine that no table has or that has not answered yet."""
        self._otherwise, self._prices = otherwise, prices or load_shipped_prices()
        self._kinds = NodeKinds()

    def __call__(self) -> ClusterCost | None:
        """Return the cost of all nodes, or None where Ray does not run. Takes a second or two."""
        import ray

        if not ray.is_initialized():
            return None
        nodes: list[dict[str, object]] = ray.nodes()  # type: ignore[no-untyped-call]
        alive = [str(node["NodeID"]) for node in nodes if node["Alive"]]
        kinds = self._kinds.collect_kinds(alive)
        prices = [find_price(kinds.get(node), self._prices, self._otherwise) for node in alive]
        found = [price for price in prices if price is not None]
        return ClusterCost(sum(found), len(found), len(prices) - len(found), len(alive) - len(kinds))
