"""The ledger's JSON documents, parsed strictly; the result of a trial, `result.json`."""

import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Final, Generic, TypeVar

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError, with_config

from gapctl.errors import WorkError

Document = TypeVar("Document")
STRICT_DOCUMENT = ConfigDict(strict=True, extra="forbid")
"""For records that are documents: reject unknown keys and values of another type."""


class DocumentKind(Generic[Document]):
    """One kind of JSON document: a dataclass or a list of them, and what to do where a file of it is damaged."""

    def __init__(self, adapter: TypeAdapter[Document], remedy: str) -> None:
        self._adapter, self._remedy = adapter, remedy

    def serialize(self, document: Document) -> bytes:
        """Return the file's content, in which null stands for NaN and infinity."""
        plain = [asdict(each) for each in document] if isinstance(document, list) else asdict(document)  # type: ignore[call-overload]
        return (json.dumps(_replace_not_finite(plain), indent=1) + "\n").encode()

    def parse(self, content: bytes) -> Document:
        """Return the document in a file's content. Raise ValueError with one line that says what is wrong."""
        try:
            return self._adapter.validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(step) for step in first["loc"])
            raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from error

    def parse_file(self, content: bytes, path: str) -> Document:
        """Return the document in a file. Raise WorkError, with the remedy, if it is damaged."""
        try:
            return self.parse(content)
        except ValueError as error:
            raise WorkError(f"{path}: damaged: {error}; expected what `gapctl sweep` wrote. {self._remedy}") from error


def _replace_not_finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _replace_not_finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace_not_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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


RESULT: Final = DocumentKind(TypeAdapter(Result), "")


def serialize_result(result: Result) -> bytes:
    """Return the content of `result.json`, with sorted metrics so that equal results are equal files."""
    return RESULT.serialize(replace(result, metrics=dict(sorted(result.metrics.items()))))
