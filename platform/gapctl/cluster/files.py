"""A cluster file: one document for `ray up`, or the several manifests that Kubernetes takes at once."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from gapctl.config.base import KeyPath, SpecError
from gapctl.config.yaml_file import Kind, YamlSource, parse_yaml, read_text

UNITS = {"m": 1e-3, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def at(document: Any, *path: str | int) -> Any:
    """The value at a path, or None."""
    for step in path:
        inside = isinstance(document, dict) and step in document
        inside = inside or (isinstance(document, list) and isinstance(step, int) and step < len(document))
        if not inside:
            return None
        document = document[step]
    return document


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    """The value if it is text, else nothing."""
    return value if isinstance(value, str) else ""


def number(value: Any) -> float | None:
    """A finite number, or a quantity as Kubernetes writes it (`500m`, `8Gi`)."""
    written = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else text(value)
    digits = written.rstrip("mkKMGTi")
    unit = written[len(digits) :]
    try:
        found = float(digits) * (UNITS[unit] if unit else 1.0)
    except (ValueError, KeyError):
        return None
    return found if math.isfinite(found) else None


def texts(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Every text in a document with its path, in their order."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from texts(inner, (*path, index))


Severity = Literal["error", "warning"]


class LintIssue(NamedTuple):
    """An error keeps a sweep from running, or lets strangers in; a warning costs money, time or comfort.

    `rule` is a short name that does not change; `line` counts from 1.
    """

    file: Path
    line: int
    severity: Severity
    rule: str
    risk: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.severity}: {self.risk}; {self.fix}"


Cloud = Literal["aws", "gcp", "kuberay", "other"]


@dataclass(frozen=True)
class NodeType:
    """One kind of machine. Paths say where in the file it is, where its machine is described, and its instance type.

    `resources` are Ray's (CPU, GPU, custom ones); `access` says whether it is given a right to the object store,
    `tagged` whether the bill can tell it apart, `image` what it boots or runs.
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


@dataclass(frozen=True)
class Cluster:
    """A described file: `root` is where the cluster begins in its document, `idle_minutes` when idle workers go."""

    cloud: Cloud
    source: YamlSource
    root: KeyPath
    nodes: tuple[NodeType, ...]
    max_workers: int
    idle_minutes: float | None
    idle_at: KeyPath

    @property
    def heads(self) -> list[NodeType]:
        """The head's kind of machine; none in a file that names none."""
        return [node for node in self.nodes if node.head]

    @property
    def workers(self) -> list[NodeType]:
        """All other kinds."""
        return [node for node in self.nodes if not node.head]

    def most_of(self, node: NodeType) -> int:
        """How many machines of a kind there may be at once."""
        return max(0, min(node.max_workers, self.max_workers))

    def commands(self) -> Iterator[tuple[KeyPath, str]]:
        """Every shell command that runs on a node, with its path; KubeRay's files have none."""
        for key, listed in self.source.document.items():
            if key.endswith("_commands") and isinstance(listed, list):
                yield from (((key, index), line) for index, line in enumerate(listed) if isinstance(line, str))

    def error(self, rule: str, path: KeyPath, risk: str, fix: str) -> LintIssue:
        """A finding at a path of the file."""
        return self._finding("error", rule, path, risk, fix)

    def warning(self, rule: str, path: KeyPath, risk: str, fix: str) -> LintIssue:
        """A lesser one."""
        return self._finding("warning", rule, path, risk, fix)

    def _finding(self, severity: Severity, rule: str, path: KeyPath, risk: str, fix: str) -> LintIssue:
        return LintIssue(self.source.path, self.source.place(path).line, severity, rule, risk, fix)


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


INSTANCE: Final = "node.kubernetes.io/instance-type"
SPOT: Final = {
    "cloud.google.com/gke-spot": "true",
    "karpenter.sh/capacity-type": "spot",
    "eks.amazonaws.com/capacityType": "SPOT",
    "kubernetes.azure.com/scalesetpriority": "spot",
}
"""What a node selector says where it asks for machines that may be taken away."""

GPU: Final = "nvidia.com/gpu"
NO_LIMIT: Final = 10**6


def is_kubernetes(source: YamlSource) -> bool:
    """Whether a document is a manifest of any kind."""
    return "kind" in source.document and "apiVersion" in source.document


def root_of(source: YamlSource) -> KeyPath | None:
    """Where in a manifest a cluster is described; None where none is."""
    kind = source.document.get("kind")
    if kind == "RayCluster":
        return ("spec",)
    if kind == "RayJob" and at(source.document, "spec", "rayClusterSpec") is not None:
        return ("spec", "rayClusterSpec")
    return None


def describe_kuberay(source: YamlSource, root: KeyPath) -> Cluster:
    """The cluster of a manifest that may be wrong anywhere."""
    spec = mapping(at(source.document, *root))
    tagged = bool(mapping(at(source.document, "metadata", "labels")))
    groups = items(spec.get("workerGroupSpecs"))
    heads = (
        [_kubernetes_node("head", (*root, "headGroupSpec"), spec["headGroupSpec"], tagged)]
        if "headGroupSpec" in spec
        else []
    )
    workers = [
        _kubernetes_node(
            text(at(group, "groupName")) or f"group {index}", (*root, "workerGroupSpecs", index), group, tagged
        )
        for index, group in enumerate(groups)
    ]
    seconds = number(at(spec, "autoscalerOptions", "idleTimeoutSeconds"))
    return Cluster(
        cloud="kuberay",
        source=source,
        root=root,
        nodes=(*heads, *workers),
        max_workers=NO_LIMIT,
        idle_minutes=None if seconds is None else seconds / 60,
        idle_at=(*root, "autoscalerOptions", "idleTimeoutSeconds"),
    )


def container_of(node: NodeType) -> KeyPath:
    """The path of the container that runs Ray, the first of its pod."""
    return (*node.machine, "containers", 0)


def _kubernetes_node(name: str, path: KeyPath, group: Any, tagged: bool) -> NodeType:
    pod = mapping(at(group, "template", "spec"))
    selector = mapping(pod.get("nodeSelector"))
    machine: KeyPath = (*path, "template", "spec")
    limits = mapping(at(pod, "containers", 0, "resources", "limits"))
    head = path[-1] == "headGroupSpec"
    least = number(at(group, "minReplicas")) or 0
    most = number(at(group, "maxReplicas"))
    return NodeType(
        name=name,
        path=path,
        machine=machine,
        instance_at=(*machine, "nodeSelector", INSTANCE),
        instance=text(selector.get(INSTANCE)),
        head=head,
        spot=any(text(selector.get(key)).lower() == value.lower() for key, value in SPOT.items()),
        resources=_resources(limits, text(at(group, "rayStartParams", "resources"))),
        min_workers=int(least),
        max_workers=0 if head else NO_LIMIT if most is None else int(most),
        access=text(pod.get("serviceAccountName")) not in ("", "default"),
        tagged=tagged,
        image=text(at(pod, "containers", 0, "image")),
        image_at=(*machine, "containers", 0, "image"),
    )


def _resources(limits: Mapping[str, Any], custom: str) -> dict[str, float]:
    """What the pod's limits give Ray, and custom resources, which KubeRay wants as JSON within quotes."""
    found = {"CPU": number(limits.get("cpu")), "GPU": number(limits.get(GPU))}
    named = {name: float(count) for name, count in re.findall(r"(\w+)\\*\"\s*:\s*(\d+(?:\.\d+)?)", custom)}
    return {**{kind: count for kind, count in found.items() if count is not None}, **named}


KIND: Final = Kind(
    "a cluster file", "cluster.yaml", "cluster_name, provider and available_node_types, or manifests of KubeRay"
)


def read_documents(path: Path) -> list[YamlSource]:
    """Every document of a file, each with its lines as they are in the file; raises SpecError for what is no YAML."""
    sources = [parse_yaml(path, text, KIND) for text in _documents(read_text(path, KIND))]
    if not sources:
        raise SpecError(f"{path}: found nothing; expected {KIND.noun} with {KIND.keys}")
    return sources


def clusters_in(sources: list[YamlSource]) -> list[Cluster]:
    """The clusters that documents describe; raises SpecError where none does."""
    found = list(_clusters(sources))
    if not found:
        keys = ", ".join(list(sources[0].document)[:5])
        raise SpecError(f"{sources[0].path}: found no cluster, only {keys}; expected {KIND.noun} with {KIND.keys}")
    return found


def _clusters(sources: list[YamlSource]) -> Iterator[Cluster]:
    for source in sources:
        root = root_of(source) if is_kubernetes(source) else None
        if is_ray_up(source):
            yield describe_ray_up(source)
        elif root is not None:
            yield describe_kuberay(source, root)


def _documents(text: str) -> Iterator[str]:
    """The parts between lines of `---`, each behind as many empty lines as stand before it."""
    before, part = 0, list[str]()
    for number, line in enumerate([*text.split("\n"), "---"], start=1):
        if line.rstrip() == "---" or line.startswith("--- "):
            if any(each.strip() and not each.lstrip().startswith("#") for each in part):
                yield "\n" * before + "\n".join(part) + "\n"
            before, part = number, []
        else:
            part.append(line)
