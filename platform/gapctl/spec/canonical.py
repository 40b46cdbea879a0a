"""One text for one meaning: what hashes of configurations are taken of."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from gapctl.spec.added_later import lasting


def canonical_json(value: BaseModel | Mapping[str, Any] | list[Any]) -> str:
    """Sorted keys, no spaces; equal numbers read the same, so 1 and 1.0, or 0.0 and -0.0, are one text.

    Fields that a model gained later are left out where they do nothing (`added_later`).
    Raises ValueError for numbers that JSON lacks (infinity, not-a-number).
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256_of(value: BaseModel | Mapping[str, Any] | list[Any]) -> str:
    """The sha256 of the canonical text, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _plain(lasting(value))
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
