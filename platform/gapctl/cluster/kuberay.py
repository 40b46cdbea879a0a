"""KubeRay's `RayCluster` and `RayJob`: https://docs.ray.io/en/latest/cluster/kubernetes/references/api.html."""

import re
from collections.abc import Mapping
from typing import Any, Final

from gapctl.cluster.description import Cluster, NodeType
from gapctl.cluster.values import at, items, mapping, number, text
from gapctl.spec.problem import KeyPath
from gapctl.spec.yaml_source import YamlSource

INSTANCE: Final = "node.kubernetes.io/instance-type"
SPOT: Final = {
    "cloud.google.com/gke-spot": "true",
    "karpenter.sh/capacity-type": "spot",
    "eks.amazonaws.com/capacityType": "SPOT",
    "kubernetes.azure.com/scalesetpriority": "spot",
}
"""What a node selector says where it asks for machines that may be taken away."""

GPU: Final = "nvidia.com/gpu"
NO_LIMIT: Final = 10**6


def is_kubernetes(source: YamlSource) -> bool:
    """Whether a document is a manifest of any kind."""
    return "kind" in source.document and "apiVersion" in source.document


def root_of(source: YamlSource) -> KeyPath | None:
    """Where in a manifest a cluster is described; None where none is."""
    kind = source.document.get("kind")
    if kind == "RayCluster":
        return ("spec",)
    if kind == "RayJob" and at(source.document, "spec", "rayClusterSpec") is not None:
        return ("spec", "rayClusterSpec")
    return None


def describe_kuberay(source: YamlSource, root: KeyPath) -> Cluster:
    """The cluster of a manifest that may be wrong anywhere."""
    spec = mapping(at(source.document, *root))
    tagged = bool(mapping(at(source.document, "metadata", "labels")))
    groups = items(spec.get("workerGroupSpecs"))
    heads = [_node("head", (*root, "headGroupSpec"), spec["headGroupSpec"], tagged)] if "headGroupSpec" in spec else []
    workers = [
        _node(text(at(group, "groupName")) or f"group {index}", (*root, "workerGroupSpecs", index), group, tagged)
        for index, group in enumerate(groups)
    ]
    seconds = number(at(spec, "autoscalerOptions", "idleTimeoutSeconds"))
    return Cluster(
        cloud="kuberay",
        source=source,
        root=root,
        nodes=(*heads, *workers),
        max_workers=NO_LIMIT,
        idle_minutes=None if seconds is None else seconds / 60,
        idle_at=(*root, "autoscalerOptions", "idleTimeoutSeconds"),
    )


def container_of(node: NodeType) -> KeyPath:
    """The path of the container that runs Ray, the first of its pod."""
    return (*node.machine, "containers", 0)


def _node(name: str, path: KeyPath, group: Any, tagged: bool) -> NodeType:
    pod = mapping(at(group, "template", "spec"))
    selector = mapping(pod.get("nodeSelector"))
    machine: KeyPath = (*path, "template", "spec")
    limits = mapping(at(pod, "containers", 0, "resources", "limits"))
    head = path[-1] == "headGroupSpec"
    least = number(at(group, "minReplicas")) or 0
    most = number(at(group, "maxReplicas"))
    return NodeType(
        name=name,
        path=path,
        machine=machine,
        instance_at=(*machine, "nodeSelector", INSTANCE),
        instance=text(selector.get(INSTANCE)),
        head=head,
        spot=any(text(selector.get(key)).lower() == value.lower() for key, value in SPOT.items()),
        resources=_resources(limits, text(at(group, "rayStartParams", "resources"))),
        min_workers=int(least),
        max_workers=0 if head else NO_LIMIT if most is None else int(most),
        access=text(pod.get("serviceAccountName")) not in ("", "default"),
        tagged=tagged,
        image=text(at(pod, "containers", 0, "image")),
        image_at=(*machine, "containers", 0, "image"),
    )


def _resources(limits: Mapping[str, Any], custom: str) -> dict[str, float]:
    """What the pod's limits give Ray, and custom resources, which KubeRay wants as JSON within quotes."""
    found = {"CPU": number(limits.get("cpu")), "GPU": number(limits.get(GPU))}
    named = {name: float(count) for name, count in re.findall(r"(\w+)\\*\"\s*:\s*(\d+(?:\.\d+)?)", custom)}
    return {**{kind: count for kind, count in found.items() if count is not None}, **named}
