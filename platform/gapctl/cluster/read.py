"""A cluster file: one document for `ray up`, or the several manifests that Kubernetes takes at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gapctl.cluster.description import Cluster
from gapctl.cluster.kuberay import describe_kuberay, is_kubernetes, root_of
from gapctl.cluster.ray_up import describe_ray_up, is_ray_up
from gapctl.spec.problem import SpecError
from gapctl.spec.yaml_source import Kind, YamlSource, parse_yaml, read_text

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
