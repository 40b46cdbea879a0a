"""Find mistakes in KubeRay's manifests: pods without limits, an autoscaler that is off, a dashboard for everybody.

`POD_FINDERS`, at the end, has a function for each rule of `rules.yaml`. In files for `ray up` they find nothing.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from gapctl.cluster.cluster_files import (
    ClusterFile,
    Finder,
    Finding,
    get_mapping_or_empty,
    get_value_or_none,
    iterate_strings,
    locate_container,
    parse_number_or_none,
)
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


POD_FINDERS: Final[Mapping[str, Finder]] = {
    "public-service": _find_public_services,
    "ingress": _find_ingress,
    "no-limits": _find_missing_limits,
    "no-autoscaler": _find_autoscaler_off,
}
