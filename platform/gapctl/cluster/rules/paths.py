"""Files that only one machine has."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from gapctl.cluster.description import Cluster
from gapctl.cluster.finding import Finding
from gapctl.cluster.values import at, items, mapping, text
from gapctl.folders import expand_home
from gapctl.spec.problem import KeyPath

SOMEBODYS: Final = re.compile(r"(?<![\w.~:/$}])/(?:home|Users)/[^\s/'\"]+")


def local_paths(cluster: Cluster) -> Iterator[Finding]:
    """What is copied from here but is not here, or is here alone; `ray up` reads relative paths from where it runs."""
    document = cluster.source.document
    for remote, local in mapping(document.get("file_mounts")).items():
        finding = _mount(cluster, remote, text(local))
        if finding is not None:
            yield finding
    for key in ("ssh_private_key", "ssh_public_key"):
        if text(at(document, "auth", key)):
            yield cluster.warning(
                "local-path",
                ("auth", key),
                "only you have this key, so that nobody else can use the file",
                "leave it out: Ray makes a key at the first `ray up`",
            )
    for index, path in enumerate(items(document.get("cluster_synced_files"))):
        if SOMEBODYS.search(text(path)):
            yield _somebodys(cluster, ("cluster_synced_files", index), text(path))
    for where, command in cluster.commands():
        if SOMEBODYS.search(command):
            yield _somebodys(cluster, where, SOMEBODYS.findall(command)[0])


def _mount(cluster: Cluster, remote: str, local: str) -> Finding | None:
    where = ("file_mounts", remote)
    if not expand_home(local).exists():
        return cluster.error(
            "local-path",
            where,
            f"{local or 'nothing'} is copied to the nodes, and is not there seen from {Path.cwd().name or '/'}",
            "correct the path, or run from the root of the checkout as `ray up` must be",
        )
    if PurePosixPath(local).is_absolute() or local.startswith("~") or ".." in PurePosixPath(local).parts:
        return cluster.error(
            "local-path",
            where,
            f"{local} lies outside the checkout, so that only this machine can start the cluster",
            "copy from the checkout by a relative path",
        )
    return None


def _somebodys(cluster: Cluster, where: KeyPath, path: str) -> Finding:
    return cluster.error("local-path", where, f"{path} is one person's folder, which nodes lack", "write ~ instead")
