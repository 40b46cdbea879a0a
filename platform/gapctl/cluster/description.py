"""A cluster in terms that all clouds share: kinds of machines, how many there may be, who pays when they idle."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from gapctl.cluster.finding import Finding, Severity
from gapctl.spec.problem import KeyPath
from gapctl.spec.yaml_source import YamlSource

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

    def error(self, rule: str, path: KeyPath, risk: str, fix: str) -> Finding:
        """A finding at a path of the file."""
        return self._finding("error", rule, path, risk, fix)

    def warning(self, rule: str, path: KeyPath, risk: str, fix: str) -> Finding:
        """A lesser one."""
        return self._finding("warning", rule, path, risk, fix)

    def _finding(self, severity: Severity, rule: str, path: KeyPath, risk: str, fix: str) -> Finding:
        return Finding(self.source.path, self.source.place(path).line, severity, rule, risk, fix)
