"""What a finished trial leaves behind: the content of `result.json`."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final, TypeVar

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError, with_config

Document = TypeVar("Document")
STRICT_DOCUMENT = ConfigDict(strict=True, extra="forbid")
"""For the records that are documents: no other keys, and no value of another type taken for the right one."""


def parse_document(adapter: TypeAdapter[Document], content: bytes) -> Document:
    """The document in a file's content; raises ValueError with one line that says what is wrong with it."""
    try:
        return adapter.validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from error


RESULT_FILE: Final = "result.json"
"""Written last: it is there if and only if the trial is done."""


def _read_number(found: Any) -> Any:
    return math.nan if found is None else found


@with_config(STRICT_DOCUMENT)
@dataclass(frozen=True)
class Result:
    """The final metrics of a trial by name, and what produced them (`versions`, `hardware`, wall `seconds`)."""

    trial: str
    metrics: dict[str, Annotated[float, BeforeValidator(_read_number)]]
    samples_seen: int
    seconds: float
    versions: dict[str, str]
    hardware: dict[str, str | int]


_RESULT_ADAPTER: Final = TypeAdapter(Result)


def serialize_result(result: Result) -> bytes:
    """Sorted and indented, so that equal results are equal files; a NaN is kept as null."""
    document = asdict(result)
    document["metrics"] = {
        key: value if math.isfinite(value) else None for key, value in sorted(result.metrics.items())
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def parse_result(content: bytes) -> Result:
    """Reads what `serialize_result` wrote; raises ValueError where it is anything else."""
    return parse_document(_RESULT_ADAPTER, content)
