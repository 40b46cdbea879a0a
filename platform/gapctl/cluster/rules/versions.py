"""One Ray, one Python, one torch on all nodes, and the same as here."""

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from gapctl.cluster.description import Cluster, NodeType
from gapctl.cluster.finding import Finding
from gapctl.cluster.ray_up import python_of_image, ray_of_image
from gapctl.cluster.values import at, mapping, text
from gapctl.errors import InputError
from gapctl.folders import expand_home
from gapctl.spec.problem import KeyPath
from gapctl.spec.text_file import read_text_file

COMPARED: Final = ("ray", "torch")
LOCK: Final = "requirements.lock"
OLDEST_PYTHON: Final = (3, 11)
INSTALLS: Final = re.compile(r"\bpip3? install\b")
FREE: Final = ("uv", "pip")
"""Installers, which decide no number."""


def versions(cluster: Cluster) -> Iterator[Finding]:
    """Nodes without the lock file, a lock that differs from what is installed here, images of other versions."""
    if cluster.cloud != "kuberay":
        yield from _installed(cluster)
    yield from _images(cluster)


def _installed(cluster: Cluster) -> Iterator[Finding]:
    installing = [(path, command) for path, command in cluster.commands() if INSTALLS.search(command)]
    locked = [(path, command) for path, command in installing if LOCK in command]
    if not locked and not mapping(cluster.source.document.get("docker")):
        yield cluster.error(
            "no-lock",
            ("setup_commands",),
            "nodes do not install from the lock file, so that each may get other versions, and other numbers",
            f"install with -r {LOCK}, and gapctl itself with --no-deps",
        )
    for path, command in installing:
        loose = _loose(command)
        if loose:
            yield cluster.warning(
                "unpinned",
                path,
                f"{', '.join(loose)} comes in whatever version is newest when a node starts",
                "pin it, or put it into a lock file",
            )
    for path, _ in locked:
        yield from _drift(cluster, path)


def _loose(command: str) -> list[str]:
    """Packages that a command installs by name alone."""
    _, _, words = command.partition("install ")
    words = re.split(r"[;&|]", words)[0]
    given = re.sub(r"(?:-r|-c|--requirement|--constraint|--python|--target|-e|--editable)[= ]\S+", " ", words).split()
    named = [word.strip("'\"") for word in given if not word.startswith("-")]
    return [name for name in named if "=" not in name and "/" not in name and name not in (*FREE, ".")]


def _drift(cluster: Cluster, path: KeyPath) -> Iterator[Finding]:
    mounts = mapping(cluster.source.document.get("file_mounts")).values()
    files = [expand_home(local) for local in mounts if isinstance(local, str) and local.endswith(LOCK)]
    for file in files:
        pins = _pins(file)
        for package in COMPARED:
            here = _here(package)
            if package in pins and here is not None and not here.startswith(pins[package]):
                yield cluster.warning(
                    "version-drift",
                    path,
                    f"nodes get {package} {pins[package]} and this machine has {here}: "
                    "jobs may not be understood, and trials give other numbers than here",
                    f"install {file.name} here too",
                )


def _pins(file: Path) -> Mapping[str, str]:
    try:
        lines = read_text_file(file, str(file), "a lock file").split("\n")
    except InputError:
        return {}
    return {pin[1]: pin[2] for line in lines if (pin := re.match(r"([\w.-]+)==([^\s;]+)", line))}


def _here(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _images(cluster: Cluster) -> Iterator[Finding]:
    for node in cluster.nodes:
        yield from _image(cluster, node.image_at, node.image)
    for key in ("image", "head_image", "worker_image"):
        image = text(at(cluster.source.document, "docker", key))
        yield from _image(cluster, ("docker", key), image)
    yield from _disagreement(cluster)


def _image(cluster: Cluster, path: KeyPath, image: str) -> Iterator[Finding]:
    python, ray, here = python_of_image(image), ray_of_image(image), _here("ray")
    if python is not None and tuple(map(int, python.split("."))) < OLDEST_PYTHON:
        yield cluster.error(
            "image-version", path, f"the image has Python {python}, and gapctl needs 3.11", "choose a newer image"
        )
    stated = text(at(cluster.source.document, *cluster.root, "rayVersion")) or here
    if ray is not None and stated is not None and ray != stated:
        yield cluster.error(
            "image-version",
            path,
            f"the image has Ray {ray}, and {stated} is expected: nodes of two versions do not talk to each other",
            f"use an image with Ray {stated}",
        )


def _disagreement(cluster: Cluster) -> Iterator[Finding]:
    pythons = {node.name: python for node in cluster.nodes if (python := python_of_image(node.image)) is not None}
    if len(set(pythons.values())) > 1:
        odd = _odd(cluster.nodes, pythons)
        found = ", ".join(f"{name} {python}" for name, python in pythons.items())
        yield cluster.error(
            "image-version", odd.image_at, f"nodes have unlike Pythons ({found}), which Ray refuses", "use one release"
        )


def _odd(nodes: tuple[NodeType, ...], pythons: Mapping[str, str]) -> NodeType:
    """The first node that has another Python than the first."""
    first = next(iter(pythons.values()))
    return next(node for node in nodes if pythons.get(node.name, first) != first)
