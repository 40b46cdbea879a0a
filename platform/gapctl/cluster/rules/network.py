"""Who may reach the machines."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gapctl.cluster.description import Cluster
from gapctl.cluster.finding import Finding
from gapctl.cluster.values import at, items, mapping, number, text, texts
from gapctl.spec.problem import KeyPath

EVERYWHERE: Final = ("0.0.0.0/0", "::/0")
SSH: Final = 22
OPEN_SERVER: Final = re.compile(r"--(?:dashboard-)?host[= ](?:0\.0\.0\.0|::)(?!\S)")
PUBLIC: Final = ("LoadBalancer", "NodePort")


def open_doors(cluster: Cluster) -> Iterator[Finding]:
    """Ports that the whole internet may ask, and servers that answer whoever asks."""
    if cluster.cloud == "aws":
        yield from _security_group(cluster)
    yield from _servers(cluster)
    if cluster.cloud == "kuberay":
        yield from _services(cluster)


def _security_group(cluster: Cluster) -> Iterator[Finding]:
    group: KeyPath = ("provider", "security_group")
    rules: KeyPath = (*group, "IpPermissions")
    for index, rule in enumerate(items(at(cluster.source.document, *rules))):
        if _from_everywhere(mapping(rule)):
            yield _door(cluster, (*rules, index), mapping(rule))
    own = text(at(cluster.source.document, *group, "GroupName"))
    named = [bool(at(cluster.source.document, *node.machine, "SecurityGroupIds")) for node in cluster.nodes]
    if not own and not all(named):
        yield cluster.warning(
            "open-ssh",
            group,
            "Ray makes a security group of its own, which lets the whole internet ask for SSH",
            "make a group that lets in your address alone, and name it: provider.security_group.GroupName",
        )


def _from_everywhere(rule: Mapping[str, Any]) -> bool:
    ranges = [*items(rule.get("IpRanges")), *items(rule.get("Ipv6Ranges"))]
    return any(at(each, key) in EVERYWHERE for each in ranges for key in ("CidrIp", "CidrIpv6"))


def _door(cluster: Cluster, path: KeyPath, rule: Mapping[str, Any]) -> Finding:
    first, last = number(rule.get("FromPort")), number(rule.get("ToPort"))
    if first == last == SSH:
        return cluster.warning(
            "open-ssh", path, "the whole internet may ask for SSH", "let in your own address alone, as 203.0.113.7/32"
        )
    ports = "every port" if first is None or first < 0 else f"ports {first:g} to {last or first:g}"
    return cluster.error(
        "open-port",
        path,
        f"the whole internet reaches {ports}, and whoever reaches Ray or MLflow runs code on your machines",
        "delete the rule and go through SSH: ssh -L 8265:127.0.0.1:8265",
    )


def _servers(cluster: Cluster) -> Iterator[Finding]:
    for path, command in cluster.commands():
        if OPEN_SERVER.search(command):
            yield cluster.warning(
                "open-server",
                path,
                "a server listens on every interface, so that the firewall alone keeps strangers from running code",
                "let it listen on 127.0.0.1 and reach it through SSH",
            )


def _services(cluster: Cluster) -> Iterator[Finding]:
    for path, value in texts(at(cluster.source.document, *cluster.root), cluster.root):
        if path[-1] in ("serviceType", "type") and value in PUBLIC:
            yield cluster.error(
                "open-port",
                path,
                f"a service of type {value} shows Ray's dashboard outside the cluster, and whoever sees it runs code",
                "leave it ClusterIP and use kubectl port-forward",
            )
    ingress: KeyPath = (*cluster.root, "headGroupSpec", "enableIngress")
    if at(cluster.source.document, *ingress) is True:
        yield cluster.error(
            "open-port", ingress, "an ingress shows Ray's dashboard outside the cluster", "use kubectl port-forward"
        )
