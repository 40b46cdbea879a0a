"""Files for `ray up`, on AWS and GCP: https://docs.ray.io/en/latest/cluster/vms/references/ray-cluster-configuration.html."""

import re
from collections.abc import Mapping
from typing import Any

from gapctl.cluster.description import Cloud, Cluster, NodeType
from gapctl.cluster.values import at, items, mapping, number, text
from gapctl.spec.problem import KeyPath
from gapctl.spec.yaml_source import YamlSource

CLOUDS: dict[str, Cloud] = {"aws": "aws", "gcp": "gcp"}


def is_ray_up(source: YamlSource) -> bool:
    """Whether a document is such a file."""
    return "provider" in source.document or "available_node_types" in source.document


def describe_ray_up(source: YamlSource) -> Cluster:
    """The cluster of a file that may be wrong anywhere."""
    document = source.document
    cloud: Cloud = CLOUDS.get(text(at(document, "provider", "type")), "other")
    head = text(document.get("head_node_type"))
    most = _whole(document.get("max_workers"), 2)
    return Cluster(
        cloud=cloud,
        source=source,
        root=(),
        nodes=tuple(
            _node(name, mapping(described), cloud, name == head, most)
            for name, described in mapping(document.get("available_node_types")).items()
        ),
        max_workers=most,
        idle_minutes=number(document.get("idle_timeout_minutes")),
        idle_at=("idle_timeout_minutes",),
    )


def _node(name: str, described: Mapping[str, Any], cloud: Cloud, head: bool, most: int) -> NodeType:
    path: KeyPath = ("available_node_types", name)
    machine = mapping(described.get("node_config"))
    key = "machineType" if cloud == "gcp" else "InstanceType"
    image, image_at = _image(machine)
    resources = {kind: number(count) for kind, count in mapping(described.get("resources")).items()}
    return NodeType(
        name=name,
        path=path,
        machine=(*path, "node_config"),
        instance_at=(*path, "node_config", key),
        instance=text(machine.get(key)).rsplit("/", 1)[-1],
        head=head,
        spot=_is_spot(machine),
        resources={kind: count for kind, count in resources.items() if count is not None},
        min_workers=_whole(described.get("min_workers"), 0),
        max_workers=_whole(described.get("max_workers"), 0 if head else most),
        access=bool(machine.get("IamInstanceProfile") or machine.get("serviceAccounts")),
        tagged=bool(machine.get("labels")) or _has_tags(machine),
        image=image,
        image_at=(*path, "node_config", *image_at),
    )


def _is_spot(machine: Mapping[str, Any]) -> bool:
    if at(machine, "InstanceMarketOptions", "MarketType") == "spot":
        return True
    scheduling = machine.get("scheduling")
    listed = items(scheduling) or [scheduling]
    return any(
        mapping(each).get("preemptible") is True or mapping(each).get("provisioningModel") == "SPOT" for each in listed
    )


def _has_tags(machine: Mapping[str, Any]) -> bool:
    specifications = map(mapping, items(machine.get("TagSpecifications")))
    tags = [tag for each in specifications if each.get("ResourceType") == "instance" for tag in items(each.get("Tags"))]
    return any(mapping(tag).get("Key") not in (None, "Name") for tag in tags)


def _image(machine: Mapping[str, Any]) -> tuple[str, KeyPath]:
    if "disks" in machine:
        where: KeyPath = ("disks", 0, "initializeParams", "sourceImage")
        return text(at(machine, *where)), where
    return text(machine.get("ImageId")), ("ImageId",)


def python_of_image(image: str) -> str | None:
    """The Python of an image whose name tells it: `py312` in a container's, or the release of Ubuntu."""
    named = re.search(r"py(?:thon)?-?3\.?(\d{1,2})\b", image)
    if named:
        return f"3.{named[1]}"
    release = re.search(r"(?<!\d)(2[024])\.?04(?!\d)", image)
    return {"20": "3.8", "22": "3.10", "24": "3.12"}[release[1]] if release else None


def ray_of_image(image: str) -> str | None:
    """The version of Ray that a container's name tells: `rayproject/ray:2.60.0-py312`, `gapctl:1-ray2.60.0`."""
    named = re.search(r"ray(?:-ml)?[:-]?(\d+\.\d+\.\d+)", image)
    return named[1] if named else None


def _whole(value: Any, default: int) -> int:
    found = number(value)
    return default if found is None or found != found or abs(found) > 1e9 else int(found)
