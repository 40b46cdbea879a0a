"""Find software of a cluster file that does not fit together: locks, packages, images, Python and Ray.

1. Locks and packages: what the commands of a file for `ray up` install. `find_installed_torch` says for which CUDA.
2. Images: their Python, their Ray, and whether they are the same tomorrow.

`SOFTWARE_FINDERS`, at the end, has a function for each rule of `rules.yaml`.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from gapctl.cluster.cluster_files import (
    ClusterFile,
    Finder,
    Finding,
    get_mapping_or_empty,
    get_text_or_empty,
    get_value_or_none,
    parse_cuda_version,
    parse_python_version,
    parse_ray_version,
)
from gapctl.cluster.lint_commands import NEW_ENVIRONMENT
from gapctl.config.base import KeyPath
from gapctl.config.yaml_file import read_text_file
from gapctl.errors import InputError, find_version
from gapctl.folders import expand_home

COMPARED_PACKAGES: Final = ("ray", "torch")
LOCK_FILE: Final = "requirements.lock"
OLDEST_PYTHON: Final = (3, 11)
PIP_INSTALL: Final = re.compile(r"\bpip3? install\b")
INSTALLERS: Final = ("uv", "pip")
"""Packages that only install others, so their versions decide no results."""


def _list_installs(cluster: ClusterFile) -> list[tuple[KeyPath, str]]:
    if cluster.cloud == "kuberay":
        return []
    return [(path, command) for path, command in cluster.list_commands() if PIP_INSTALL.search(command)]


def _find_missing_lock(cluster: ClusterFile) -> Iterator[Finding]:
    locked = any(LOCK_FILE in command for _, command in _list_installs(cluster))
    if cluster.cloud != "kuberay" and not locked and not get_mapping_or_empty(cluster.source.document.get("docker")):
        yield Finding(("setup_commands",))


def _find_unpinned_packages(cluster: ClusterFile) -> Iterator[Finding]:
    options = r"(?:-r|-c|--requirement|--constraint|--python|--target|-e|--editable)[= ]\S+"
    for path, command in _list_installs(cluster):
        words = re.split(r"[;&|]", command.partition("install ")[2])[0]
        named = [word.strip("'\"") for word in re.sub(options, " ", words).split() if not word.startswith("-")]
        loose = [name for name in named if "=" not in name and "/" not in name and name not in (*INSTALLERS, ".")]
        if loose:
            yield Finding(path, {"packages": ", ".join(loose)})


def _find_version_drift(cluster: ClusterFile) -> Iterator[Finding]:
    for path, file in _list_locks(cluster):
        pins = _read_pins(file)
        for package in COMPARED_PACKAGES:
            here = find_version(package)
            if package in pins and here is not None and not here.startswith(pins[package]):
                yield Finding(path, {"package": package, "pin": pins[package], "here": here, "file": file.name})


def _list_locks(cluster: ClusterFile) -> list[tuple[KeyPath, Path]]:
    """Return the commands that install from a lock file, each with the file here that is copied to nodes."""
    mounts = get_mapping_or_empty(cluster.source.document.get("file_mounts")).values()
    files = [expand_home(local) for local in mounts if isinstance(local, str) and local.endswith(LOCK_FILE)]
    return [(path, file) for path, command in _list_installs(cluster) if LOCK_FILE in command for file in files]


def _read_pins(file: Path) -> Mapping[str, str]:
    try:
        lines = read_text_file(file, str(file), "a lock file").split("\n")
    except InputError:
        return {}
    return {pin[1]: pin[2] for line in lines if (pin := re.match(r"([\w.-]+)==([^\s;]+)", line))}


class InstalledTorch(NamedTuple):
    """The torch that nodes install: by which command, its name, and its CUDA's major version, 0 without a GPU."""

    path: KeyPath
    text: str
    cuda: int | None


TORCH_INDEX: Final = re.compile(r"whl/(cpu|cu(\d+)\d)\b")
TORCH_LABEL: Final = re.compile(r"\+(cpu|cu(\d+)\d)$")


def find_installed_torch(cluster: ClusterFile) -> InstalledTorch | None:
    """Return the torch that the commands of a file install, from an index of theirs or else from the lock.

    KubeRay's pods have that of their image, whose name says for which CUDA.
    """
    for node in cluster.workers if cluster.cloud == "kuberay" else ():
        if (of_image := parse_cuda_version(node.image)) is not None:
            return InstalledTorch(node.image_at, f"torch{_format_cuda_suffix(of_image)}", of_image)
    for path, command in _list_installs(cluster):
        if index := TORCH_INDEX.search(command):
            return InstalledTorch(path, f"torch of the index {index[1]}", int(index[2] or 0))
    for path, file in _list_locks(cluster):
        pins = _read_pins(file)
        if "torch" in pins:
            label = TORCH_LABEL.search(pins["torch"])
            runtime = next((pin for name, pin in pins.items() if name.startswith("nvidia-cuda-runtime")), None)
            cuda = int(label[2] or 0) if label else int(runtime.split(".")[0]) if runtime else None
            return InstalledTorch(path, f"torch {pins['torch']}{_format_cuda_suffix(cuda)}", cuda)
    return None


def _format_cuda_suffix(cuda: int | None) -> str:
    return "" if cuda is None else " without CUDA" if cuda == 0 else f" for CUDA {cuda}"


def _list_images(cluster: ClusterFile) -> Iterator[tuple[KeyPath, str]]:
    yield from ((node.image_at, node.image) for node in cluster.nodes)
    for key in ("image", "head_image", "worker_image"):
        yield ("docker", key), get_text_or_empty(get_value_or_none(cluster.source.document, "docker", key))
    yield from cluster.list_unpacked_images()


def _find_old_pythons(cluster: ClusterFile) -> Iterator[Finding]:
    for path, image in _list_images(cluster):
        python = parse_python_version(image)
        if python is not None and tuple(map(int, python.split("."))) < OLDEST_PYTHON:
            yield Finding(path, {"python": python})


def _find_other_ray_versions(cluster: ClusterFile) -> Iterator[Finding]:
    stated = get_text_or_empty(get_value_or_none(cluster.source.document, *cluster.root, "rayVersion")) or find_version(
        "ray"
    )
    for path, image in _list_images(cluster):
        ray = parse_ray_version(image)
        if ray is not None and stated is not None and ray != stated:
            yield Finding(path, {"ray": ray, "stated": stated})


def _find_unlike_pythons(cluster: ClusterFile) -> Iterator[Finding]:
    images = [(node.name, node.image_at, node.image) for node in cluster.nodes]
    images += [("the image", path, image) for path, image in cluster.list_unpacked_images()]
    pythons = [(name, at, python) for name, at, image in images if (python := parse_python_version(image)) is not None]
    odd = next((at for _, at, python in pythons if python != pythons[0][2]), None)
    if odd is not None:
        yield Finding(odd, {"found": ", ".join(f"{name} {python}" for name, _, python in pythons)})


FLOATING_TAG: Final = re.compile(r"latest|nightly")


def _find_floating_images(cluster: ClusterFile) -> Iterator[Finding]:
    """Find containers without a tag, or with one that moves on. A cloud's images for machines have no tags."""
    for path, image in _list_images(cluster):
        name, _, tag = image.rpartition("/")[2].partition(":")
        container = cluster.cloud == "kuberay" or path[0] == "docker" or str(path[0]).endswith("_commands")
        if container and name and "@" not in name and (not tag or FLOATING_TAG.search(tag)):
            yield Finding(path, {"image": image})


def _find_images_without_gapctl(cluster: ClusterFile) -> Iterator[Finding]:
    """Find KubeRay's pods in Ray's own images: no command installs anything in them."""
    for node in cluster.nodes if cluster.cloud == "kuberay" else ():
        if node.image.startswith("rayproject/"):
            yield Finding(node.image_at, {"image": node.image})


def _find_images_of_other_cuda(cluster: ClusterFile) -> Iterator[Finding]:
    """Find images for another CUDA than that of the torch which the lock then installs over theirs."""
    torch = find_installed_torch(cluster)
    for path, image in cluster.list_unpacked_images():
        cuda = parse_cuda_version(image)
        if torch is not None and torch.cuda is not None and cuda is not None and cuda != torch.cuda:
            yield Finding(path, {"has": _format_cuda_suffix(cuda).strip(), "torch": torch.text})


IMAGE_USER: Final = "ubuntu"
"""Whose home folder the image's environment is made for."""


def _find_images_of_other_users(cluster: ClusterFile) -> Iterator[Finding]:
    user = get_value_or_none(cluster.source.document, "auth", "ssh_user")
    for path, _ in cluster.list_unpacked_images():
        if user != IMAGE_USER:
            yield Finding(path, {"user": user or "nobody", "expected": IMAGE_USER})


def _find_images_unpacked_too_late(cluster: ClusterFile) -> Iterator[Finding]:
    """Find images that are unpacked after a command made the environment that they would bring."""
    paths = [path for path, _ in cluster.list_commands()]
    made = [place for place, (_, command) in enumerate(cluster.list_commands()) if NEW_ENVIRONMENT.search(command)]
    for path, _ in cluster.list_unpacked_images():
        if made and made[0] < paths.index(path):
            yield Finding(path)


SOFTWARE_FINDERS: Final[Mapping[str, Finder]] = {
    "no-lock": _find_missing_lock,
    "unpinned": _find_unpinned_packages,
    "version-drift": _find_version_drift,
    "old-python": _find_old_pythons,
    "other-ray": _find_other_ray_versions,
    "unlike-pythons": _find_unlike_pythons,
    "floating-image": _find_floating_images,
    "image-without-gapctl": _find_images_without_gapctl,
    "image-cuda": _find_images_of_other_cuda,
    "image-user": _find_images_of_other_users,
    "late-image": _find_images_unpacked_too_late,
}
