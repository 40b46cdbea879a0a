"""How Ray is started on the nodes, and what else is run there."""

import re
from collections.abc import Iterator
from typing import Final

from gapctl.cluster.description import Cluster
from gapctl.cluster.finding import Finding

PIPED: Final = re.compile(r"\b(?:curl|wget)\b[^|;&]*?(?P<scheme>https?)://[^|]*\|\s*(?:sudo\s+)?(?:ba|z)?sh\b")
PORT: Final = re.compile(r"--port[= ](\d+)")
JOINS: Final = re.compile(r"--address[= ]\S*?:(\d+)")
STARTS: Final = ("head_start_ray_commands", "worker_start_ray_commands")
DEFAULT_PORT: Final = "6379"


def node_commands(cluster: Cluster) -> Iterator[Finding]:
    """Scripts from the net that are run unread, and start commands that cannot work."""
    for path, command in cluster.commands():
        piped = PIPED.search(command)
        if piped and piped["scheme"] == "http":
            yield cluster.error(
                "remote-script",
                path,
                "a script is fetched without encryption and run: whoever is on the way runs code on every node",
                "fetch it by https, compare its checksum, then run it; or install a package",
            )
        elif piped:
            yield cluster.warning(
                "remote-script",
                path,
                "a script from the net is run unread, and may be another one tomorrow",
                "fetch it, compare its checksum, then run it; or install a package",
            )
    if cluster.cloud != "kuberay":
        yield from _starts(cluster)


def _starts(cluster: Cluster) -> Iterator[Finding]:
    head, worker = (_joined(cluster, key) for key in STARTS)
    for key, commands in zip(STARTS, (head, worker), strict=True):
        if commands and "ray stop" not in commands:
            yield cluster.error(
                "start-command",
                (key,),
                "a Ray that still runs is not stopped, so that a second `ray up` leaves the old one in place",
                "put `ray stop` before `ray start`",
            )
    if head and "--autoscaling-config" not in head:
        yield cluster.error(
            "start-command",
            (STARTS[0],),
            "the head starts without the autoscaler, so that no worker ever comes",
            "add --autoscaling-config=~/ray_bootstrap_config.yaml to its `ray start`",
        )
    port, joined = PORT.search(head), JOINS.search(worker)
    here, there = port[1] if port else DEFAULT_PORT, joined[1] if joined else None
    if head and there is not None and here != there:
        yield cluster.error(
            "start-command",
            (STARTS[1],),
            f"workers look for the head at port {there}, and it listens at {here}",
            f"write --address=$RAY_HEAD_IP:{here}",
        )


def _joined(cluster: Cluster, key: str) -> str:
    return "\n".join(command for path, command in cluster.commands() if path[0] == key)
