"""The treatments: every combination of levels, and a trial's configuration under one of them."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from gapctl.spec.problem import KeyPath
from gapctl.spec.sweep import Level, SweepFile
from gapctl.spec.trial import TrialConfig


def arms(spec: SweepFile) -> list[dict[str, Level]]:
    """The full factorial in the file's order; the last factor varies fastest."""
    return [dict(zip(spec.vary, levels, strict=True)) for levels in product(*spec.vary.values())]


def resolve(base: TrialConfig, factors: Mapping[str, Level]) -> TrialConfig:
    """`base` with each dotted path set; raises pydantic's ValidationError where a level or path does not fit."""
    document = base.model_dump()
    for path, level in factors.items():
        document = placed(document, path.split("."), level)
    return TrialConfig.model_validate(document)


def origin(factors: Mapping[str, Level], vary: Mapping[str, Sequence[Level]], path: str) -> KeyPath:
    """Where in a sweep file the value of a dotted path stands that a trial with these factors has."""
    if path in factors:
        return ("vary", path, vary[path].index(factors[path]))
    return ("base", *path.split("."))


def placed(document: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of nested dictionaries with one path set; whatever stands in the way becomes a dictionary."""
    head, *rest = path
    if not rest:
        return {**document, head: value}
    inner = document.get(head)
    return {**document, head: placed(inner if isinstance(inner, Mapping) else {}, rest, value)}


def leaves(document: Mapping[str, Any]) -> list[str]:
    """The dotted paths of all values in nested dictionaries."""
    return list(leaf_values(document))


def leaf_values(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values in nested dictionaries by their dotted path."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        found |= leaf_values(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
