"""What is known of images and machines by their names: `machines.yaml`, and what a node type's machine has."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator

from gapctl.cluster.cluster_files import (
    UNPACKED_IMAGE,
    ClusterFile,
    NodeType,
    get_list_or_empty,
    get_mapping_or_empty,
    get_text_or_empty,
    get_value_or_none,
    parse_number_or_none,
)
from gapctl.config.base import FrozenModel
from gapctl.config.yaml_file import read_yaml

if TYPE_CHECKING:
    from gapctl.cluster.cost import PriceTable

FACTS_FILE: Final = Path(__file__).parent / "machines.yaml"


def _check_pattern(text: str) -> str:
    re.compile(text)
    return text


Pattern = Annotated[str, AfterValidator(_check_pattern)]


class OperatingSystem(FrozenModel):
    """A system of images on AWS: the user whom SSH lets in, and the device of the root disk."""

    pattern: Pattern
    user: str
    root_device: str


class MachineFacts(FrozenModel):
    """The table; its comments say what each entry is."""

    systems: list[OperatingSystem]
    plain: Pattern
    driver: Pattern
    docker: Pattern
    driver_number: Pattern
    oldest_driver: dict[str, int]
    old_gpus: Pattern
    last_cuda_of_old_gpus: int
    without_gpu: dict[str, Pattern]
    arm_machines: Pattern
    arm_images: Pattern
    x86_images: Pattern


@cache
def load_machine_facts() -> MachineFacts:
    """Return the table of this version."""
    return MachineFacts.model_validate(read_yaml(FACTS_FILE).document)


def get_machine(cluster: ClusterFile, node: NodeType) -> Mapping[str, object]:
    """Return the cloud's description of a node type's machine: `node_config`, or the pod."""
    return get_mapping_or_empty(get_value_or_none(cluster.source.document, *node.machine))


OWN_IMAGES_OF_RAY: Final = "rayproject/"
"""Repositories of images that have Ray and not gapctl, so that commands install it."""
UNEDITED_REGISTRY: Final = "REGISTRY/"
DOCKER_INSTALLATION: Final = re.compile(r"get\.docker\.com|docker\.io\b|docker-ce\b|\binstall\b[^;&|]*\bdocker\b")


def starts_from_image(cluster: ClusterFile, node: NodeType) -> bool:
    """Return whether a kind of machine gets gapctl's environment out of an image, instead of installing it.

    KubeRay's pods do, and containers of `ray up` whose image is not Ray's own. Other machines unpack an image where a
    command of theirs says so and Docker is there.
    """
    if cluster.cloud == "kuberay":
        return True
    if container := cluster.find_container_image(node):
        return not container.startswith(OWN_IMAGES_OF_RAY)
    commands = "\n".join(cluster.list_node_commands(node))
    named = any(not image.startswith(UNEDITED_REGISTRY) for image in UNPACKED_IMAGE.findall(commands))
    facts = load_machine_facts()
    bare = re.search(facts.plain, node.image) and not re.search(facts.docker, node.image)
    return named and (not bare or DOCKER_INSTALLATION.search(commands) is not None)


def is_from_template(machine: Mapping[str, object]) -> bool:
    """Return whether a template of the cloud completes the description, so that nothing in it counts as missing."""
    return bool(machine.get("LaunchTemplate") or machine.get("sourceInstanceTemplate"))


def find_operating_system(image: str) -> OperatingSystem | None:
    """Return the system that an image's name says, or None."""
    return next((each for each in load_machine_facts().systems if re.search(each.pattern, image)), None)


def list_accelerators(machine: Mapping[str, object]) -> Mapping[str, int]:
    """Return the GPUs that a machine of Google gets beside those built in: their kinds and numbers."""
    listed = map(get_mapping_or_empty, get_list_or_empty(machine.get("guestAccelerators")))
    return {
        get_text_or_empty(each.get("acceleratorType")).rsplit("/", 1)[-1]: int(
            parse_number_or_none(each.get("acceleratorCount")) or 0
        )
        for each in listed
    }


def count_machine_gpus(cluster: ClusterFile, node: NodeType, prices: "PriceTable") -> int | None:
    """Return how many of NVIDIA's GPUs a node type's machine has, or None if that is not known."""
    attached = sum(list_accelerators(get_machine(cluster, node)).values())
    listed, family = prices.instances.get(node.instance), load_machine_facts().without_gpu.get(cluster.cloud)
    if listed is not None:
        return listed.gpus + attached
    return attached if family and node.instance and re.search(family, node.instance) else None


def has_gpu(cluster: ClusterFile, node: NodeType, prices: "PriceTable") -> bool:
    """Return whether a node type claims a GPU or is known to have one."""
    return node.resources.get("GPU", 0) > 0 or bool(count_machine_gpus(cluster, node, prices))
