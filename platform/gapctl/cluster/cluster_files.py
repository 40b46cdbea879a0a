"""Read cluster files: one document for `ray up`, or several manifests of KubeRay.

1. `read_documents` parses the file; `parse_cluster_documents` finds those documents that describe a cluster.
2. `describe_ray_up` or `describe_kuberay` turns each into a `ClusterFile` of `NodeType`s. They accept files with any
   mistake, so that the linter can report all of them.

The functions at the top read values of unknown types from YAML.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

from gapctl.config.base import KeyPath, SpecError
from gapctl.config.yaml_file import FileKind, YamlSource, parse_yaml, read_text

QUANTITY_UNITS: Final = {
    "m": 1e-3,
    **{unit: 1e3**power for power, unit in enumerate(("", "k", "M", "G", "T"))},
    **{unit: 1024.0**power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti"), start=1)},
}
"""Kubernetes' units of quantities."""


def get_value_or_none(document: object, *path: str | int) -> object:
    """Return the value at a path, or None."""
    for step in path:
        if isinstance(document, dict):
            document = document.get(step)
        elif isinstance(document, list) and isinstance(step, int) and step < len(document):
            document = document[step]
        else:
            return None
    return document


def get_mapping_or_empty(value: object) -> Mapping[str, object]:
    """Return the value if it is a mapping, otherwise {}."""
    return value if isinstance(value, dict) else {}


def get_list_or_empty(value: object) -> list[object]:
    """Return the value if it is a list, otherwise []."""
    return value if isinstance(value, list) else []


def get_text_or_empty(value: object) -> str:
    """Return the value if it is a text, otherwise ""."""
    return value if isinstance(value, str) else ""


def parse_number_or_none(value: object) -> float | None:
    """Return a finite number, or a quantity of Kubernetes (`500m`, `8Gi`) as a number; otherwise None."""
    written = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else get_text_or_empty(value)
    digits = written.rstrip("mkKMGTi")
    unit = written[len(digits) :]
    try:
        found = float(digits) * QUANTITY_UNITS[unit]
    except (ValueError, KeyError):
        return None
    return found if math.isfinite(found) else None


def iterate_strings(value: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Iterate over all texts in a document, in order, with their paths."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from iterate_strings(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from iterate_strings(inner, (*path, index))


Severity = Literal["error", "warning"]


class LintIssue(NamedTuple):
    """A risk in a cluster file.

    An error keeps a sweep from running or lets strangers in; a warning costs money, time or comfort. `rule` is a stable
    short name; `line` counts from 1.
    """

    file: Path
    line: int
    severity: Severity
    rule: str
    risk: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.severity}: {self.risk}; {self.fix}"


class Finding(NamedTuple):
    """A place where a rule finds a risk, and the words that its texts need there."""

    path: KeyPath
    words: Mapping[str, object] = {}


Cloud = Literal["aws", "gcp", "kuberay", "other"]


@dataclass(frozen=True)
class NodeType:
    """One kind of machine.

    The paths locate it in the file (`path`), its machine's description (`machine`) and its instance type
    (`instance_at`). `resources` are Ray's (CPU, GPU, custom ones). `access` is whether it has a right to the object
    store, `tagged` whether the bill can tell it apart, `image` what it boots or runs.
    """

    name: str
    path: KeyPath
    machine: KeyPath
    instance_at: KeyPath
    instance: str
    head: bool
    spot: bool
    resources: Mapping[str, float]
    min_workers: int
    max_workers: int
    access: bool
    tagged: bool
    image: str
    image_at: KeyPath


UNPACKED_IMAGE: Final = re.compile(r"unpack-image\.sh\s+[\"']?([^\s;&|\"']+)")


@dataclass(frozen=True)
class ClusterFile:
    """A described file: `root` is the cluster's path in its document, `idle_minutes` the time until idle workers go."""

    cloud: Cloud
    source: YamlSource
    root: KeyPath
    nodes: tuple[NodeType, ...]
    max_workers: int
    idle_minutes: float | None
    idle_at: KeyPath

    @property
    def heads(self) -> list[NodeType]:
        """The head's kind of machine; [] if the file has none."""
        return [node for node in self.nodes if node.head]

    @property
    def workers(self) -> list[NodeType]:
        """All other kinds."""
        return [node for node in self.nodes if not node.head]

    @property
    def usable_workers(self) -> list[NodeType]:
        """The kinds of workers of which any may start."""
        return [node for node in self.workers if self.count_max_machines(node) > 0]

    @property
    def in_containers(self) -> bool:
        """Whether `ray up` runs commands in containers: the section `docker` names an image."""
        images = get_mapping_or_empty(self.source.document.get("docker"))
        return any(get_text_or_empty(images.get(key)) for key in ("image", "head_image", "worker_image"))

    def find_container_image(self, node: NodeType) -> str:
        """Return the image of the container in which `ray up` runs a kind of machine's commands, "" without one."""
        images = get_mapping_or_empty(self.source.document.get("docker"))
        own = get_mapping_or_empty(get_value_or_none(self.source.document, *node.path, "docker"))
        key = "head_image" if node.head else "worker_image"
        return next(filter(None, map(get_text_or_empty, (own.get(key), images.get(key), images.get("image")))), "")

    def list_unpacked_images(self) -> Iterator[tuple[KeyPath, str]]:
        """Iterate over the images whose environment commands put on nodes (`docs/cluster/unpack-image.sh`)."""
        for path, command in self.list_commands():
            yield from ((path, image) for image in UNPACKED_IMAGE.findall(command))

    def count_max_machines(self, node: NodeType) -> int:
        """Return how many machines of a kind there may be at once."""
        return max(0, min(node.max_workers, self.max_workers))

    def list_commands(self) -> Iterator[tuple[KeyPath, str]]:
        """Iterate over all shell commands that run on nodes, with their paths. KubeRay's manifests have none."""
        for key, listed in self.source.document.items():
            if key.endswith("_commands") and isinstance(listed, list):
                yield from (((key, index), line) for index, line in enumerate(listed) if isinstance(line, str))

    def list_node_commands(self, node: NodeType) -> Iterator[str]:
        """Iterate over the shell commands that run on a kind of machine; its own set-up replaces the common one."""
        document, side = self.source.document, "head" if node.head else "worker"
        own = None if node.head else get_value_or_none(document, *node.path, "worker_setup_commands")
        common = [document.get("setup_commands"), document.get(f"{side}_setup_commands")]
        starts = document.get(f"{side}_start_ray_commands")
        for listed in (document.get("initialization_commands"), *(common if own is None else [own]), starts):
            yield from filter(None, map(get_text_or_empty, get_list_or_empty(listed)))


Finder = Callable[[ClusterFile], Iterable[Finding]]
"""Finds the places of one rule."""

CLOUDS: dict[str, Cloud] = {"aws": "aws", "gcp": "gcp"}


def describe_ray_up(source: YamlSource) -> ClusterFile:
    """Return the cluster of a file for `ray up`, whatever mistakes it has."""
    document = source.document
    cloud: Cloud = CLOUDS.get(get_text_or_empty(get_value_or_none(document, "provider", "type")), "other")
    head = get_text_or_empty(document.get("head_node_type"))
    most = _read_integer(document.get("max_workers"), 2)
    return ClusterFile(
        cloud=cloud,
        source=source,
        root=(),
        nodes=tuple(
            _describe_node(name, get_mapping_or_empty(described), cloud, name == head, most)
            for name, described in get_mapping_or_empty(document.get("available_node_types")).items()
        ),
        max_workers=most,
        idle_minutes=parse_number_or_none(document.get("idle_timeout_minutes")),
        idle_at=("idle_timeout_minutes",),
    )


def _describe_node(name: str, described: Mapping[str, object], cloud: Cloud, head: bool, most: int) -> NodeType:
    path: KeyPath = ("available_node_types", name)
    machine = get_mapping_or_empty(described.get("node_config"))
    key = "machineType" if cloud == "gcp" else "InstanceType"
    image_at: KeyPath = ("disks", 0, "initializeParams", "sourceImage") if "disks" in machine else ("ImageId",)
    resources = {
        kind: parse_number_or_none(count) for kind, count in get_mapping_or_empty(described.get("resources")).items()
    }
    return NodeType(
        name=name,
        path=path,
        machine=(*path, "node_config"),
        instance_at=(*path, "node_config", key),
        instance=get_text_or_empty(machine.get(key)).rsplit("/", 1)[-1],
        head=head,
        spot=_is_spot(machine),
        resources={kind: count for kind, count in resources.items() if count is not None},
        min_workers=_read_integer(described.get("min_workers"), 0),
        max_workers=_read_integer(described.get("max_workers"), 0 if head else most),
        access=bool(machine.get("IamInstanceProfile") or machine.get("serviceAccounts")),
        tagged=bool(machine.get("labels")) or _has_tags(machine),
        image=get_text_or_empty(get_value_or_none(machine, *image_at)),
        image_at=(*path, "node_config", *image_at),
    )


def _is_spot(machine: Mapping[str, object]) -> bool:
    if get_value_or_none(machine, "InstanceMarketOptions", "MarketType") == "spot":
        return True
    scheduling = machine.get("scheduling")
    listed = get_list_or_empty(scheduling) or [scheduling]
    return any(
        get_mapping_or_empty(each).get("preemptible") is True
        or get_mapping_or_empty(each).get("provisioningModel") == "SPOT"
        for each in listed
    )


def _has_tags(machine: Mapping[str, object]) -> bool:
    specifications = map(get_mapping_or_empty, get_list_or_empty(machine.get("TagSpecifications")))
    tags = [
        tag
        for each in specifications
        if each.get("ResourceType") == "instance"
        for tag in get_list_or_empty(each.get("Tags"))
    ]
    return any(get_mapping_or_empty(tag).get("Key") not in (None, "Name") for tag in tags)


def parse_python_version(image: str) -> str | None:
    """Return the Python version in an image's name, or None.

    Names of containers have `py312`; others name the release of Ubuntu.
    """
    named = re.search(r"py(?:thon)?-?3\.?(\d{1,2})\b", image)
    if named:
        return f"3.{named[1]}"
    release = re.search(r"(?<!\d)(2[024])\.?04(?!\d)", image)
    return {"20": "3.8", "22": "3.10", "24": "3.12"}[release[1]] if release else None


def parse_ray_version(image: str) -> str | None:
    """Return the Ray version in a container's name, or None.

    Examples are `rayproject/ray:2.60.0-py312` and `gapctl:1-ray2.60.0`.
    """
    named = re.search(r"ray(?:-ml)?[:-]?(\d+\.\d+\.\d+)", image)
    return named[1] if named else None


def parse_cuda_version(image: str) -> int | None:
    """Return the major version of CUDA in a container's name (`cu13`, `cu128`), 0 for `cpu`, or None."""
    named = re.search(r"[-_:](cpu|cu(\d\d)\d?)(?![a-z0-9])", image)
    return None if named is None else int(named[2] or 0)


def _read_integer(value: object, default: int) -> int:
    found = parse_number_or_none(value)
    return default if found is None or found != found or abs(found) > 1e9 else int(found)


INSTANCE_LABEL: Final = "node.kubernetes.io/instance-type"
SPOT_LABELS: Final = {
    "cloud.google.com/gke-spot": "true",
    "karpenter.sh/capacity-type": "spot",
    "eks.amazonaws.com/capacityType": "SPOT",
    "kubernetes.azure.com/scalesetpriority": "spot",
}
"""Labels of node selectors that request spot machines."""

GPU_RESOURCE: Final = "nvidia.com/gpu"
NO_LIMIT: Final = 10**6


def describe_kuberay(source: YamlSource, root: KeyPath) -> ClusterFile:
    """Return the cluster of a manifest, whatever mistakes it has."""
    spec = get_mapping_or_empty(get_value_or_none(source.document, *root))
    tagged = bool(get_mapping_or_empty(get_value_or_none(source.document, "metadata", "labels")))
    nodes = [
        _describe_kubernetes_node("head", (*root, key), spec[key], tagged) for key in ("headGroupSpec",) if key in spec
    ]
    for index, group in enumerate(get_list_or_empty(spec.get("workerGroupSpecs"))):
        name = get_text_or_empty(get_value_or_none(group, "groupName")) or f"group {index}"
        nodes.append(_describe_kubernetes_node(name, (*root, "workerGroupSpecs", index), group, tagged))
    seconds = parse_number_or_none(get_value_or_none(spec, "autoscalerOptions", "idleTimeoutSeconds"))
    return ClusterFile(
        cloud="kuberay",
        source=source,
        root=root,
        nodes=tuple(nodes),
        max_workers=NO_LIMIT,
        idle_minutes=None if seconds is None else seconds / 60,
        idle_at=(*root, "autoscalerOptions", "idleTimeoutSeconds"),
    )


def locate_container(node: NodeType) -> KeyPath:
    """Return the path of the container that runs Ray, the first of its pod."""
    return (*node.machine, "containers", 0)


def _describe_kubernetes_node(name: str, path: KeyPath, group: object, tagged: bool) -> NodeType:
    pod = get_mapping_or_empty(get_value_or_none(group, "template", "spec"))
    selector = get_mapping_or_empty(pod.get("nodeSelector"))
    machine: KeyPath = (*path, "template", "spec")
    limits = get_mapping_or_empty(get_value_or_none(pod, "containers", 0, "resources", "limits"))
    head = path[-1] == "headGroupSpec"
    least = parse_number_or_none(get_value_or_none(group, "minReplicas")) or 0
    most = parse_number_or_none(get_value_or_none(group, "maxReplicas"))
    # KubeRay wants custom resources as quoted JSON.
    params = get_mapping_or_empty(get_value_or_none(group, "rayStartParams"))
    custom = re.findall(r"(\w+)\\*\"\s*:\s*(\d+(?:\.\d+)?)", get_text_or_empty(params.get("resources")))
    resources = {
        "CPU": parse_number_or_none(params.get("num-cpus", limits.get("cpu"))),
        "GPU": parse_number_or_none(params.get("num-gpus", limits.get(GPU_RESOURCE))),
    }
    resources |= {kind: float(count) for kind, count in custom}
    return NodeType(
        name=name,
        path=path,
        machine=machine,
        instance_at=(*machine, "nodeSelector", INSTANCE_LABEL),
        instance=get_text_or_empty(selector.get(INSTANCE_LABEL)),
        head=head,
        spot=any(get_text_or_empty(selector.get(key)).lower() == value.lower() for key, value in SPOT_LABELS.items()),
        resources={kind: count for kind, count in resources.items() if count is not None},
        min_workers=int(least),
        max_workers=0 if head else NO_LIMIT if most is None else int(most),
        access=get_text_or_empty(pod.get("serviceAccountName")) not in ("", "default"),
        tagged=tagged,
        image=get_text_or_empty(get_value_or_none(pod, "containers", 0, "image")),
        image_at=(*machine, "containers", 0, "image"),
    )


KIND: Final = FileKind(
    "a cluster file", "cluster.yaml", "cluster_name, provider and available_node_types, or manifests of KubeRay"
)


def read_documents(path: Path) -> list[YamlSource]:
    """Parse all documents of a file, with their lines. Raises SpecError if it is no YAML."""
    sources = [parse_yaml(path, text, KIND) for text in _split_documents(read_text(path, KIND))]
    if not sources:
        raise SpecError(f"{path}: found nothing; expected {KIND.noun} with {KIND.keys}")
    return sources


def parse_cluster_documents(sources: list[YamlSource]) -> list[ClusterFile]:
    """Return the clusters in documents. Raises SpecError if there is none."""
    found = list(_iterate_clusters(sources))
    if not found:
        keys = ", ".join(list(sources[0].document)[:5])
        raise SpecError(f"{sources[0].path}: found no cluster, only {keys}; expected {KIND.noun} with {KIND.keys}")
    return found


def _iterate_clusters(sources: list[YamlSource]) -> Iterator[ClusterFile]:
    for source in sources:
        document = source.document
        kind = document.get("kind") if "apiVersion" in document else None
        if "provider" in document or "available_node_types" in document:
            yield describe_ray_up(source)
        elif kind == "RayCluster":
            yield describe_kuberay(source, ("spec",))
        elif kind == "RayJob" and get_value_or_none(document, "spec", "rayClusterSpec") is not None:
            yield describe_kuberay(source, ("spec", "rayClusterSpec"))


def _split_documents(text: str) -> Iterator[str]:
    """Split at lines of `---`, and put as many empty lines before each part as precede it in the file."""
    before, part = 0, list[str]()
    for number, line in enumerate([*text.split("\n"), "---"], start=1):
        if line.rstrip() == "---" or line.startswith("--- "):
            if any(each.strip() and not each.lstrip().startswith("#") for each in part):
                yield "\n" * before + "\n".join(part) + "\n"
            before, part = number, []
        else:
            part.append(line)
