"""What Kubernetes needs to know of Ray's pods."""

from collections.abc import Iterator

from gapctl.cluster.description import Cluster
from gapctl.cluster.finding import Finding
from gapctl.cluster.kuberay import container_of
from gapctl.cluster.values import at, number


def pods(cluster: Cluster) -> Iterator[Finding]:
    """Containers without limits, and an autoscaler that is not on."""
    if cluster.cloud != "kuberay":
        return
    document = cluster.source.document
    for node in cluster.nodes:
        limits = (*container_of(node), "resources", "limits")
        missing = [kind for kind in ("cpu", "memory") if number(at(document, *limits, kind)) is None]
        if missing:
            yield cluster.error(
                "no-limits",
                limits,
                f"{node.name} has no limit of {' and '.join(missing)}: Ray takes the whole machine for its own, "
                "and the pod is killed when memory runs out",
                f"set resources.limits.{missing[0]} of its first container",
            )
    if at(document, *cluster.root, "enableInTreeAutoscaling") is not True:
        yield cluster.error(
            "no-autoscaler",
            cluster.root,
            "the autoscaler is off: workers neither come for waiting trials nor go when they idle",
            "set enableInTreeAutoscaling: true",
        )
