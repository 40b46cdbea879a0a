"""Parse the ledger's JSON documents strictly; the result of a trial, `result.json`."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Annotated, Final, TypeVar

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError, with_config

Document = TypeVar("Document")
STRICT_DOCUMENT = ConfigDict(strict=True, extra="forbid")
"""For records that are documents: reject unknown keys and values of another type."""


def parse_document(adapter: TypeAdapter[Document], content: bytes) -> Document:
    """Return the document in a file's content. Raises ValueError with one line that says what is wrong."""
    try:
        return adapter.validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from error


RESULT_FILE: Final = "result.json"
"""Written last: it exists if and only if the trial is done."""


MetricValue = Annotated[float, BeforeValidator(lambda found: math.nan if found is None else found)]
"""A number of a document, in which null stands for NaN."""


@with_config(STRICT_DOCUMENT)
@dataclass(frozen=True)
class Result:
    """A trial's final metrics by name, and what produced them: `versions`, `hardware`, wall `seconds`."""

    trial: str
    metrics: dict[str, MetricValue]
    samples_seen: int
    seconds: float
    versions: dict[str, str]
    hardware: dict[str, str | int]


_RESULT_ADAPTER: Final = TypeAdapter(Result)


def serialize_result(result: Result) -> bytes:
    """Return the content of `result.json`, sorted so that equal results are equal files. NaN becomes null."""
    document = asdict(result)
    document["metrics"] = {
        key: value if math.isfinite(value) else None for key, value in sorted(result.metrics.items())
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def parse_result(content: bytes) -> Result:
    """Return the result in the content of `result.json`. Raises ValueError if it is damaged."""
    return parse_document(_RESULT_ADAPTER, content)
