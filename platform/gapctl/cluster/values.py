"""Reading a document that may hold anything anywhere: what is not as expected counts as not there."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from gapctl.spec.problem import KeyPath

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
