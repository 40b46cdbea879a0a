"""Where the driver lives, and what becomes of a sweep when machines are taken away."""

from collections.abc import Iterator
from typing import Final

from gapctl.cluster.description import Cluster
from gapctl.cluster.finding import Finding

HEAD: Final = "head"
"""The custom resource that pins a sweep's driver to the head."""


def placement(cluster: Cluster) -> Iterator[Finding]:
    """The head's market and resource, the workers' number and market."""
    for node in cluster.heads:
        if node.spot:
            yield cluster.error(
                "head-on-spot",
                node.machine,
                "the head is a spot machine: when it is taken away, the driver, MLflow and all jobs go with it",
                "buy the head on demand",
            )
        if node.resources.get(HEAD, 0) <= 0:
            yield cluster.error(
                "head-resource",
                node.path,
                "the head lacks the custom resource head, so that `gapctl cluster submit` waits for ever",
                "add head: 1 to its resources",
            )
    for node in cluster.workers:
        if node.resources.get(HEAD, 0) > 0:
            yield cluster.error(
                "head-resource",
                node.path,
                f"{node.name} has the custom resource head: a driver may start there and vanish with the machine",
                "leave it to the head alone",
            )
    yield from _workers(cluster)


def _workers(cluster: Cluster) -> Iterator[Finding]:
    usable = [node for node in cluster.workers if cluster.most_of(node) > 0]
    if not usable:
        yield cluster.error(
            "no-workers",
            (*cluster.root, "workerGroupSpecs") if cluster.cloud == "kuberay" else ("max_workers",),
            "not one worker may start, so that trials train on the head or not at all",
            "raise max_workers (KubeRay: maxReplicas)",
        )
    elif all(node.spot for node in cluster.workers):
        yield cluster.warning(
            "no-fallback",
            usable[0].path,
            "all workers are spot machines: on a day without any, the sweep waits",
            "add a kind bought on demand, with max_workers: 0 until it is needed",
        )
