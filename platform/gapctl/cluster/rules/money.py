"""What is paid for without need, or for longer than one knows."""

from collections.abc import Iterator
from typing import Final

from gapctl.cluster.description import Cluster
from gapctl.cluster.finding import Finding
from gapctl.cluster.values import at

LONGEST_IDLE: Final = 15.0
"""Minutes: a trial's process is reused within seconds, so a machine that waits this long has nothing to come."""


def waste(cluster: Cluster) -> Iterator[Finding]:
    """Idle machines, stopped ones, machines that nobody can find on the bill."""
    yield from _idle(cluster)
    for node in cluster.workers:
        if node.min_workers > 0:
            yield cluster.warning(
                "idle-machines",
                (*node.path, "minReplicas" if cluster.cloud == "kuberay" else "min_workers"),
                f"{node.min_workers} machines of {node.name} are paid for also when there is no work",
                "begin from 0: the autoscaler starts them when a trial waits",
            )
    if cluster.cloud == "aws" and at(cluster.source.document, "provider", "cache_stopped_nodes") is not False:
        yield cluster.warning(
            "stopped-machines",
            ("provider",),
            "idle workers are stopped, not terminated, and go on paying for their disks",
            "set provider.cache_stopped_nodes: false",
        )
    untagged = [] if cluster.cloud == "other" else [node for node in cluster.nodes if not node.tagged]
    if untagged:
        names = ", ".join(node.name for node in untagged)
        yield cluster.warning(
            "no-tags",
            ("metadata",) if cluster.cloud == "kuberay" else untagged[0].machine,
            f"nothing tells the machines of {names} apart on the bill, so that no budget can watch them",
            {
                "aws": "add TagSpecifications with a tag such as project: gapctl",
                "gcp": "add labels: {project: gapctl}",
            }.get(cluster.cloud, "add metadata.labels with project: gapctl"),
        )


def _idle(cluster: Cluster) -> Iterator[Finding]:
    if cluster.idle_minutes is None:
        yield cluster.warning(
            "no-idle-timeout",
            cluster.idle_at,
            "nothing here says when idle workers are released, and GPUs wait at full price",
            f"set {cluster.idle_at[-1]} to five minutes",
        )
    elif cluster.idle_minutes > LONGEST_IDLE:
        yield cluster.warning(
            "long-idle-timeout",
            cluster.idle_at,
            f"a GPU is paid for {cluster.idle_minutes:g} minutes after its last trial",
            f"set {cluster.idle_at[-1]} to five minutes; trials that follow one another take seconds",
        )
