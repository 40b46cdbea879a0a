"""The machines against the sweep that they are for."""

from collections.abc import Iterator
from typing import Final

from gapctl.cluster.description import Cluster, NodeType
from gapctl.cluster.finding import Finding
from gapctl.cluster.memory import GIB, trial_memory
from gapctl.cluster.prices import Prices, gpu_memory
from gapctl.cluster.slots import gpus_per_worker, slots_of
from gapctl.plan.packs import packed
from gapctl.plan.trials import Plan

CAUSES: Final = "a smaller train.batch_size or resources.pack, or more train.micro_batches"


def fit(cluster: Cluster, plan: Plan, prices: Prices) -> Iterator[Finding]:
    """Workers that no trial fits on, GPUs that are too small, more machines that always run than there is work."""
    usable = [node for node in cluster.workers if cluster.most_of(node) > 0]
    resources = plan.sweep.spec.resources
    roomy = [
        node
        for node in usable
        if (slots := slots_of(node, resources)) is not None and slots.machines <= cluster.most_of(node)
    ]
    for node in usable:
        yield from _memory(cluster, node, plan, prices)
    if usable and not roomy:
        each = f"{resources.cpus + resources.readers} CPUs and {gpus_per_worker(usable[0], resources):g} GPUs"
        asked = each if resources.workers == 1 else f"{resources.workers} times {each}"
        yield cluster.error(
            "worker-too-small",
            (*usable[0].path, "resources"),
            f"a trial asks for {asked}, which no kind of worker has: the sweep waits for ever",
            "choose larger machines, or lower resources of the sweep",
        )
    elif usable:
        yield from _surplus(cluster, roomy, len(packed(plan.trainings, resources.pack)), plan)


def _memory(cluster: Cluster, node: NodeType, plan: Plan, prices: Prices) -> Iterator[Finding]:
    has, share = gpu_memory(prices, node.instance), gpus_per_worker(node, plan.sweep.spec.resources)
    if has is None or share == 0:
        return
    beside = max(1, int(1 / share)) if share < 1 else 1
    needs, resources = 0.0, plan.sweep.spec.resources
    for group in packed(plan.trainings, resources.pack):
        needs = max(needs, beside * trial_memory(group[0].config, len(group), resources.workers) / GIB)
    if needs > has:
        yield cluster.error(
            "gpu-memory",
            node.instance_at,
            f"a trial needs about {needs:.0f} GiB of GPU memory, and {node.instance} has {has:.0f}",
            f"choose a larger GPU, or {CAUSES}",
        )


def _surplus(cluster: Cluster, roomy: list[NodeType], work: int, plan: Plan) -> Iterator[Finding]:
    """Machines that always run, beyond those that the sweep fills; others the autoscaler starts only when needed."""
    for node in roomy:
        slots = slots_of(node, plan.sweep.spec.resources)
        wanted = slots.machines * -(-work // slots.trials) if slots else 0
        if node.min_workers > wanted:
            yield cluster.warning(
                "idle-machines",
                (*node.path, "min_workers"),
                f"{plan.sweep.path.name} fills {wanted} machines of {node.name}, and {node.min_workers} always run",
                "begin from 0: the autoscaler starts them when a trial waits",
            )
