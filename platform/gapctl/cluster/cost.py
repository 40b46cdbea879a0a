"""What a sweep costs on the machines of a cluster file: hours and money, lost work included."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from gapctl.cluster.description import Cluster, NodeType
from gapctl.cluster.kuberay import INSTANCE
from gapctl.cluster.prices import Assumptions, Instance, Prices, unknown_instance
from gapctl.cluster.slots import Slots, gpus_per_worker, slots_of
from gapctl.errors import InputError
from gapctl.plan.cost import FLOPS_PER_CPU, trial_flops
from gapctl.plan.packs import packed
from gapctl.plan.trials import Trial
from gapctl.spec.sweep import Resources

Market = Literal["spot", "on demand"]
MARKETS: Final[tuple[Market, ...]] = ("spot", "on demand")
USUAL_IDLE: Final = 5.0
"""Minutes until Ray releases an idle machine where the file does not say."""


@dataclass(frozen=True)
class Estimate:
    """All trainings on one kind of machine, bought on one market.

    `hours` is until the last training ends, `machine_hours` what is paid for, `lost_hours` the part of it that
    preemptions waste. Money is in the table's currency: `workers`, of which `lost` is wasted, `head`, and `total`.
    `chosen` marks the market that the file buys on.
    """

    node: str
    instance: str
    market: Market
    chosen: bool
    machines: int
    hours: float
    machine_hours: float
    preemptions: float
    lost_hours: float
    workers: float
    lost: float
    head: float
    total: float


def estimates(cluster: Cluster, trials: Sequence[Trial], resources: Resources, prices: Prices) -> list[Estimate]:
    """One estimate per kind of worker and market, each as if it alone trained everything, and no training waited for
    the one that it begins with.

    Raises InputError for a machine without a price, and where no trial fits on any worker.
    """
    head = _price_of_head(cluster, prices)
    found = [
        _estimate(cluster, node, slots, market, trials, resources, prices, head)
        for node in cluster.workers
        if (slots := slots_of(node, resources)) is not None
        for market in MARKETS
    ]
    if not found:
        raise InputError(
            f"{cluster.source.path}: found no worker on which a trial of {resources.cpus} CPUs fits; expected one. "
            "`gapctl cluster lint` with --sweep says what is too small"
        )
    return found


def stretch(assumed: Assumptions, machines: int = 1) -> float:
    """How many hours of spot machines an hour of work takes, where `machines` of them train one trial.

    A preemption loses L = half a checkpoint's interval, which has to be trained anew, and the start of another machine,
    which is paid for; the other machines of the trial wait meanwhile. x hours meet r x preemptions, with r the rate of
    one machine times their number, so that x = 1 + r x L and x = 1 / (1 - r L). Raises InputError where r L is 1 or
    more: the work would never end.
    """
    lost = assumed.checkpoint_seconds / 2 / 3600 + assumed.start_minutes / 60
    share = machines * assumed.preemptions_per_hour * lost
    if share >= 1:
        raise InputError(
            f"assumptions: found {assumed.preemptions_per_hour:g} preemptions an hour that lose {lost:.2g} h each, so "
            "that no work would ever be done; expected fewer. Correct the table of prices"
        )
    return 1 / (1 - share)


def _estimate(
    cluster: Cluster,
    node: NodeType,
    slots: Slots,
    market: Market,
    trials: Sequence[Trial],
    resources: Resources,
    prices: Prices,
    head: float,
) -> Estimate:
    machine, assumed = _instance(cluster, node, prices), prices.assumptions
    rate = machine.spot if market == "spot" else machine.on_demand
    longer = stretch(assumed, slots.machines) if market == "spot" else 1.0
    durations = [
        sum(trial_flops(trial) / _speed(node, machine, trial, resources, prices) for trial in pack) / 3600
        for pack in packed(trials, resources.pack)
    ]
    busy = slots.machines * _busy(durations, slots.trials, max(1, _most_of(cluster, node) // slots.machines))
    start = assumed.start_minutes / 60
    idle = (USUAL_IDLE if cluster.idle_minutes is None else cluster.idle_minutes) / 60
    paid = sum(start + longer * hours + idle for hours in busy)
    lost_hours = (longer - 1) * sum(busy)
    wall = start + longer * max(busy, default=0.0) if busy else 0.0
    return Estimate(
        node=node.name,
        instance=node.instance,
        market=market,
        chosen=node.spot == (market == "spot"),
        machines=len(busy),
        hours=wall,
        machine_hours=paid,
        preemptions=assumed.preemptions_per_hour * longer * sum(busy) if market == "spot" else 0.0,
        lost_hours=lost_hours,
        workers=paid * rate,
        lost=lost_hours * rate,
        head=wall * head,
        total=paid * rate + wall * head,
    )


def _most_of(cluster: Cluster, node: NodeType) -> int:
    """Machines at once; a fallback that may not start yet counts as if it might as often as the others."""
    return cluster.most_of(node) or max(1, *map(cluster.most_of, cluster.workers))


def _busy(durations: Sequence[float], slots: int, most: int) -> list[float]:
    """Hours that each machine works, where trainings go in their order to the slot that is free first."""
    free = [(0.0, place) for place in range(min(len(durations), slots * most))]
    busy = [0.0] * -(-len(free) // slots)
    for duration in durations:
        begins, place = heapq.heappop(free)
        machine = place % len(busy)
        busy[machine] = max(busy[machine], begins + duration)
        heapq.heappush(free, (begins + duration, place))
    return busy


def _speed(node: NodeType, machine: Instance, trial: Trial, resources: Resources, prices: Prices) -> float:
    """Floating-point operations a second of one training by itself; those of a pack are counted one by one."""
    share = gpus_per_worker(node, resources)
    if share > 0 and machine.gpu is not None:
        peak = prices.gpus[machine.gpu].peak_tflops * 1e12
        return resources.workers * share * peak * prices.assumptions.gpu_mfu[trial.config.model.preset]
    return resources.workers * resources.cpus * FLOPS_PER_CPU


def _instance(cluster: Cluster, node: NodeType, prices: Prices) -> Instance:
    place = cluster.source.locate(node.instance_at)
    if not node.instance:
        key = f"nodeSelector with {INSTANCE}" if cluster.cloud == "kuberay" else str(node.instance_at[-1])
        raise InputError(f"{place}: {node.name}: found no machine; expected its {key}, so that it has a price")
    if node.instance not in prices.instances:
        raise unknown_instance(prices, node.instance, f"{place}: {node.name}")
    return prices.instances[node.instance]


def _price_of_head(cluster: Cluster, prices: Prices) -> float:
    if not cluster.heads:
        raise InputError(f"{cluster.source.path}: found no head; expected one machine for the driver")
    head, *_ = cluster.heads
    machine = _instance(cluster, head, prices)
    return machine.spot if head.spot else machine.on_demand
