"""Dotted paths into nested dictionaries."""

from collections.abc import Mapping, Sequence
from typing import Any


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
