"""One text for one meaning: what hashes of configurations are taken of."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel


def canonical_json(value: BaseModel | dict[str, Any] | list[Any]) -> str:
    """Sorted keys, no spaces; a model's numbers have the type of their field, so 1 and 1.0 read the same."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256_of(value: BaseModel | dict[str, Any] | list[Any]) -> str:
    """The sha256 of the canonical text, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
