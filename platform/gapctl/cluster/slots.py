"""How many trials machines train at once."""

from typing import NamedTuple

from gapctl.cluster.description import NodeType
from gapctl.spec.sweep import Resources


class Slots(NamedTuple):
    """`machines` of one kind train `trials` at once: one machine several, or several one between them."""

    trials: int
    machines: int


def gpus_per_worker(node: NodeType, resources: Resources) -> float:
    """The GPUs that each worker of a trial takes on a machine; `auto` is one where there is one."""
    if resources.gpus == "auto":
        return min(1.0, node.resources.get("GPU", 0.0))
    return float(resources.gpus)


def workers_on(node: NodeType, resources: Resources) -> int:
    """Workers of trials at once on one machine, each with its readers; 0 where it is too small for one."""
    by_cpu = node.resources.get("CPU", 0.0) // (resources.cpus + resources.readers)
    gpus = gpus_per_worker(node, resources)
    by_gpu = node.resources.get("GPU", 0.0) // gpus if gpus > 0 else by_cpu
    return int(min(by_cpu, by_gpu))


def slots_of(node: NodeType, resources: Resources) -> Slots | None:
    """The fewest machines that train a trial, and how many they train; None where not one worker fits."""
    places = workers_on(node, resources)
    if places == 0:
        return None
    if places >= resources.workers:
        return Slots(places // resources.workers, 1)
    return Slots(1, -(-resources.workers // places))
