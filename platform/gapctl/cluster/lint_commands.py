"""Find mistakes in the shell commands of a file for `ray up`: scripts from the net, and how Ray is started.

`COMMAND_FINDERS`, at the end, has a function for each rule of `rules.yaml`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from gapctl.cluster.cluster_files import ClusterFile, Finder, Finding

PIPED_SCRIPT: Final = re.compile(r"\b(?:curl|wget)\b[^|;&]*?(?P<scheme>https?)://[^|]*\|\s*(?:sudo\s+)?(?:ba|z)?sh\b")
PORT_OPTION: Final = re.compile(r"--port[= ](\d+)")
ADDRESS_OPTION: Final = re.compile(r"--address[= ]\S*?:(\d+)")
HEAD_START: Final = "head_start_ray_commands"
WORKER_START: Final = "worker_start_ray_commands"
DEFAULT_PORT: Final = "6379"


def _find_piped_scripts(cluster: ClusterFile, scheme: str) -> Iterator[Finding]:
    for path, command in cluster.list_commands():
        piped = PIPED_SCRIPT.search(command)
        if piped and piped["scheme"] == scheme:
            yield Finding(path)


def _join_start_commands(cluster: ClusterFile, key: str) -> str:
    if cluster.cloud == "kuberay":
        return ""
    return "\n".join(command for path, command in cluster.list_commands() if path[0] == key)


def _find_running_ray(cluster: ClusterFile) -> Iterator[Finding]:
    for key in (HEAD_START, WORKER_START):
        commands = _join_start_commands(cluster, key)
        if commands and "ray stop" not in commands:
            yield Finding((key,))


def _find_missing_autoscaler(cluster: ClusterFile) -> Iterator[Finding]:
    head = _join_start_commands(cluster, HEAD_START)
    if head and "--autoscaling-config" not in head:
        yield Finding((HEAD_START,))


def _find_other_port(cluster: ClusterFile) -> Iterator[Finding]:
    head = _join_start_commands(cluster, HEAD_START)
    port, joined = PORT_OPTION.search(head), ADDRESS_OPTION.search(_join_start_commands(cluster, WORKER_START))
    here = port[1] if port else DEFAULT_PORT
    if head and joined is not None and here != joined[1]:
        yield Finding((WORKER_START,), {"there": joined[1], "here": here})


COMMAND_FINDERS: Final[Mapping[str, Finder]] = {
    "piped-http-script": lambda cluster: _find_piped_scripts(cluster, "http"),
    "piped-https-script": lambda cluster: _find_piped_scripts(cluster, "https"),
    "running-ray": _find_running_ray,
    "head-without-autoscaler": _find_missing_autoscaler,
    "other-port": _find_other_port,
}
