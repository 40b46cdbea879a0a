"""Find mistakes in KubeRay's manifests.

1. The cluster: a dashboard for everybody, an autoscaler that is off, no token, an old API.
2. Pods: limits and requests, GPUs, taints, restarts, replicas.
3. `rayStartParams`, which KubeRay hands to a shell.

`POD_FINDERS`, at the end, has a function for each rule of `rules.yaml`. In files for `ray up` they find nothing.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from gapctl.cluster.cluster_files import (
    GPU_RESOURCE,
    ClusterFile,
    Finder,
    Finding,
    NodeType,
    get_list_or_empty,
    get_mapping_or_empty,
    get_text_or_empty,
    get_value_or_none,
    iterate_strings,
    locate_container,
    parse_number_or_none,
)
from gapctl.cluster.cost import load_shipped_prices
from gapctl.config.base import KeyPath

PUBLIC_SERVICES: Final = ("LoadBalancer", "NodePort")


def _find_public_services(cluster: ClusterFile) -> Iterator[Finding]:
    spec = get_value_or_none(cluster.source.document, *cluster.root) if cluster.cloud == "kuberay" else None
    for path, value in iterate_strings(spec, cluster.root):
        if path[-1] in ("serviceType", "type") and value in PUBLIC_SERVICES:
            yield Finding(path, {"type": value})


def _find_ingress(cluster: ClusterFile) -> Iterator[Finding]:
    ingress: KeyPath = (*cluster.root, "headGroupSpec", "enableIngress")
    if cluster.cloud == "kuberay" and get_value_or_none(cluster.source.document, *ingress) is True:
        yield Finding(ingress)


def _find_missing_limits(cluster: ClusterFile) -> Iterator[Finding]:
    for node in cluster.nodes if cluster.cloud == "kuberay" else ():
        limits = (*locate_container(node), "resources", "limits")
        known = get_mapping_or_empty(get_value_or_none(cluster.source.document, *limits))
        missing = [kind for kind in ("cpu", "memory") if parse_number_or_none(known.get(kind)) is None]
        if missing:
            yield Finding(limits, {"name": node.name, "missing": " and ".join(missing), "first": missing[0]})


def _find_autoscaler_off(cluster: ClusterFile) -> Iterator[Finding]:
    on = get_value_or_none(cluster.source.document, *cluster.root, "enableInTreeAutoscaling")
    if cluster.cloud == "kuberay" and on is not True:
        yield Finding(cluster.root)


GPU_LABEL: Final = re.compile(r"gke-accelerator|nvidia\.com/|instance-gpu")


def _is_for_gpus(node: NodeType, pod: Mapping[str, object]) -> bool:
    """Return whether a pod is meant for machines with GPUs, by its selector, its tolerations or its container."""
    listed = load_shipped_prices().instances.get(node.instance)
    tolerated = [get_value_or_none(each, "key") for each in get_list_or_empty(pod.get("tolerations"))]
    names = [*get_mapping_or_empty(pod.get("nodeSelector")), *map(str, tolerated)]
    return bool(listed and listed.gpus) or any(GPU_LABEL.search(name) for name in names) or "GPU" in node.resources


def _list_pods(cluster: ClusterFile, *, workers: bool = False) -> Iterator[tuple[NodeType, Mapping[str, object]]]:
    nodes = cluster.workers if workers else cluster.nodes
    for node in nodes if cluster.cloud == "kuberay" else ():
        yield node, get_mapping_or_empty(get_value_or_none(cluster.source.document, *node.machine))


def _find_missing_gpu_limits(cluster: ClusterFile) -> Iterator[Finding]:
    for node, pod in _list_pods(cluster, workers=True):
        limits = (*locate_container(node), "resources", "limits")
        limit = parse_number_or_none(get_value_or_none(cluster.source.document, *limits, GPU_RESOURCE)) or 0
        if limit < node.resources.get("GPU", 0) or (limit == 0 and _is_for_gpus(node, pod)):
            yield Finding(limits, {"name": node.name, "gpu": GPU_RESOURCE})


def _find_missing_tolerations(cluster: ClusterFile) -> Iterator[Finding]:
    for node, pod in _list_pods(cluster, workers=True):
        tolerated = list(map(get_mapping_or_empty, get_list_or_empty(pod.get("tolerations"))))
        fits = any(each.get("key") == GPU_RESOURCE or "key" not in each for each in tolerated)
        if node.resources.get("GPU", 0) > 0 and not fits:
            yield Finding((*node.machine, "tolerations"), {"name": node.name, "gpu": GPU_RESOURCE})


def _find_low_requests(cluster: ClusterFile) -> Iterator[Finding]:
    for node, _ in _list_pods(cluster):
        where = (*locate_container(node), "resources")
        resources = get_mapping_or_empty(get_value_or_none(cluster.source.document, *where))
        limits, requests = (get_mapping_or_empty(resources.get(key)) for key in ("limits", "requests"))
        low = [
            kind
            for kind, asked in requests.items()
            if (parse_number_or_none(asked) or 0) < (parse_number_or_none(limits.get(kind)) or 0)
        ]
        if low:
            yield Finding((*where, "requests"), {"name": node.name, "kinds": " and ".join(low)})


def _find_restarting_pods(cluster: ClusterFile) -> Iterator[Finding]:
    for node, pod in _list_pods(cluster, workers=True):
        policy = pod.get("restartPolicy")
        if policy not in (None, "Never"):
            yield Finding((*node.machine, "restartPolicy"), {"name": node.name, "policy": policy})


def _find_replicas_out_of_range(cluster: ClusterFile) -> Iterator[Finding]:
    for node, _ in _list_pods(cluster, workers=True):
        group = get_mapping_or_empty(get_value_or_none(cluster.source.document, *node.path))
        replicas = parse_number_or_none(group.get("replicas", node.min_workers))
        if replicas is None or not node.min_workers <= replicas <= node.max_workers:
            words = {"name": node.name, "replicas": group.get("replicas"), "least": node.min_workers}
            yield Finding((*node.path, "replicas"), {**words, "most": node.max_workers})


def _list_start_params(cluster: ClusterFile) -> Iterator[tuple[KeyPath, object]]:
    for node, _ in _list_pods(cluster):
        where: KeyPath = (*node.path, "rayStartParams")
        for key, value in get_mapping_or_empty(get_value_or_none(cluster.source.document, *where)).items():
            yield (*where, key), value


def _find_unquoted_params(cluster: ClusterFile) -> Iterator[Finding]:
    for path, value in _list_start_params(cluster):
        if not isinstance(value, str):
            yield Finding(path, {"key": path[-1], "value": value})


def _find_bare_json(cluster: ClusterFile) -> Iterator[Finding]:
    for path, value in _list_start_params(cluster):
        if path[-1] in ("resources", "labels") and get_text_or_empty(value).lstrip().startswith("{"):
            yield Finding(path, {"key": path[-1]})


def _find_old_api(cluster: ClusterFile) -> Iterator[Finding]:
    if cluster.cloud == "kuberay" and cluster.source.document.get("apiVersion") != "ray.io/v1":
        yield Finding(("apiVersion",), {"version": cluster.source.document.get("apiVersion")})


def _find_missing_pod_token(cluster: ClusterFile) -> Iterator[Finding]:
    where: KeyPath = (*cluster.root, "authOptions", "mode")
    if cluster.cloud == "kuberay" and get_value_or_none(cluster.source.document, *where) != "token":
        yield Finding(where)


POD_FINDERS: Final[Mapping[str, Finder]] = {
    "public-service": _find_public_services,
    "ingress": _find_ingress,
    "no-limits": _find_missing_limits,
    "no-autoscaler": _find_autoscaler_off,
    "no-gpu-limit": _find_missing_gpu_limits,
    "no-toleration": _find_missing_tolerations,
    "low-request": _find_low_requests,
    "restarting-pod": _find_restarting_pods,
    "replica-range": _find_replicas_out_of_range,
    "unquoted-param": _find_unquoted_params,
    "bare-json": _find_bare_json,
    "old-api": _find_old_api,
    "no-pod-token": _find_missing_pod_token,
}
