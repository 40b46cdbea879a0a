"""What a person has to add to the page of one ledger: the answer, what each claim comes to elsewhere, and notes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import yaml
from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError, with_config

from gapctl.errors import InputError
from gapctl.report.findings.claims import claims
from gapctl.spec.yaml_loader import parse

TEXTS: Final = ("ledger", "answer", "would change our mind", "had wrong before")
"""Keys beside those of claims: each a text in Markdown. `ledger` heads the column of what the ledger itself says."""


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"found {value!r}; expected a text in Markdown")
    return value.strip()


Text = Annotated[str, BeforeValidator(_text)]


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class ClaimNotes:
    """`answer` in a few words; `number` names the row that the key number is of, as SWEEP/HYPOTHESIS.

    `elsewhere` is what the claim comes to where the ledger does not reach, by the column of the table. `note` stands
    below the claim.
    """

    answer: Text | None = None
    number: Text | None = None
    elsewhere: Mapping[str, Text] = field(default_factory=dict)
    note: Text | None = None


@dataclass(frozen=True)
class Notes:
    """Markdown by `TEXTS`, what is noted of claims by their number, such as `claim 1`, and what messages call it."""

    texts: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, ClaimNotes] = field(default_factory=dict)
    name: str = "--notes"


def notes_of(text: str, name: str) -> Notes:
    """The notes that a file's text holds; `name` is what messages call the file.

    A text alone is the note of its claim. Raises InputError where a key or a value is none of these.
    """
    try:
        _, document = parse(text)
    except yaml.YAMLError as error:
        raise InputError(f"{name}: is not YAML that gapctl reads: {' '.join(str(error).split())}") from error
    numbers = [claim.number for claim in claims()]
    known = [*numbers, *TEXTS]
    if not isinstance(document, dict):
        raise InputError(f"{name}: found no mapping; expected a text for some of {', '.join(known)}")
    for key in document:
        if key not in known:
            raise InputError(f"{name}: found {key!r}; expected one of {', '.join(known)}")
    return Notes(
        {key: _read(Text, document[key], f"{name}: {key}") for key in TEXTS if key in document},
        {number: _claim_notes(document[number], f"{name}: {number}") for number in numbers if number in document},
        name,
    )


def _claim_notes(value: Any, where: str) -> ClaimNotes:
    if not isinstance(value, dict):
        return ClaimNotes(note=_read(Text, value, where))
    found: ClaimNotes = _read(ClaimNotes, value, where)
    return found


def _read(kind: Any, value: Any, where: str) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = "".join(f": {part}" for part in first["loc"] if _is_key(part))
        raise InputError(f"{where}{path}: {_reason(first)}") from error


def _is_key(part: int | str) -> bool:
    """Whether a part of an error's place is a key, and not a name that pydantic gives to a kind of value."""
    return isinstance(part, str) and not part.startswith("function-")


def _reason(error: Any) -> str:
    if error["type"] == "unexpected_keyword_argument":
        return "is no key; expected some of answer, number, elsewhere, note"
    return str(error["msg"]).removeprefix("Value error, ")
