"""How many trials a machine trains at once."""

from gapctl.cluster.description import NodeType
from gapctl.spec.sweep import Resources


def gpus_per_trial(node: NodeType, resources: Resources) -> float:
    """The GPUs that a trial takes on a machine; `auto` is one where there is one."""
    if resources.gpus == "auto":
        return min(1.0, node.resources.get("GPU", 0.0))
    return float(resources.gpus)


def slots_of(node: NodeType, resources: Resources) -> int:
    """Trials, or packs of them, at once on one machine; 0 where it is too small for one."""
    by_cpu = node.resources.get("CPU", 0.0) // (resources.cpus * resources.workers)
    gpus = gpus_per_trial(node, resources)
    by_gpu = node.resources.get("GPU", 0.0) // gpus if gpus > 0 else by_cpu
    return int(min(by_cpu, by_gpu))
