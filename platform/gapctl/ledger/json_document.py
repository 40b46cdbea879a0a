"""Reading back what the ledger wrote as JSON, with every type checked."""

from typing import TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

Document = TypeVar("Document")
AS_WRITTEN = ConfigDict(strict=True, extra="forbid")
"""For the records that are documents: no other keys, and no value of another type taken for the right one."""


def parsed(adapter: TypeAdapter[Document], content: bytes) -> Document:
    """The document in a file's content; raises ValueError with one line that says what is wrong with it."""
    try:
        return adapter.validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from error
