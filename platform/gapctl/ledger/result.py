"""What a finished trial leaves behind: the content of `result.json`."""

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Result:
    """The final metrics of a trial by name, and what produced them (`versions`, `hardware`, wall `seconds`)."""

    trial: str
    metrics: dict[str, float]
    samples_seen: int
    seconds: float
    versions: dict[str, str]
    hardware: dict[str, str | int]


def to_json(result: Result) -> bytes:
    """Sorted and indented, so that equal results are equal files; a NaN is kept as null."""
    document = asdict(result)
    document["metrics"] = {
        key: value if math.isfinite(value) else None for key, value in sorted(result.metrics.items())
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def from_json(content: bytes) -> Result:
    """Reads what `to_json` wrote; raises ValueError where it is anything else."""
    document = json.loads(content)
    if not isinstance(document, dict) or set(document) != {field.name for field in fields(Result)}:
        raise ValueError(f"expected the keys {', '.join(field.name for field in fields(Result))}")
    return Result(**{**document, "metrics": _metrics(document["metrics"])})


def _metrics(found: Any) -> dict[str, float]:
    if not isinstance(found, dict):
        raise ValueError("expected `metrics` to map names to numbers")
    return {str(key): math.nan if value is None else float(value) for key, value in found.items()}
