"""What all models of a sweep file share: strictness, located problems, hashes, and dotted paths.

`FrozenModel` is the base of every model. Checks raise `WrongValueError` or yield a `Problem`, and `build_spec_error`
makes one error of many problems. `hash_value` and `select_hashed_fields` define what goes into the ids of trials and
declarations: `OmitFromHash` keeps ids valid when a model gains a field.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, Final, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue

from gapctl.errors import InputError
from gapctl.io.passwords import has_password, hide_password


class FrozenModel(BaseModel):
    """Immutable and strict: a misspelt key is an error, and neither true nor "5" is a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, strict=True, allow_inf_nan=False)


class WrongValueError(ValueError):
    """A problem that the check of a whole model found with one of its keys; `key` may be a dotted path below it."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


KeyPath = tuple[str | int, ...]
LONGEST_VALUE = 60
MOST_LINES = 20


class SpecError(InputError):
    """A sweep file, a scale or an override is wrong; the message has one line for each problem, with its place."""


def build_spec_error(lines: Sequence[str]) -> SpecError:
    """Return one error with a line for each problem, at most `MOST_LINES` of them."""
    more = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return SpecError("\n".join([*lines[:MOST_LINES], *more]))


class Problem(NamedTuple):
    """One thing wrong at `path`; `text` reads `what was found; what was expected` and does not name the place."""

    path: KeyPath
    text: str


def format_key_path(path: KeyPath) -> str:
    """Write a path the way people write it: `hypotheses[0].factor`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "the file"


def format_yaml_value(value: object) -> str:
    """Write a value the way a sweep file writes it, cut to `LONGEST_VALUE` characters."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return cut_text(f"[{', '.join(format_yaml_value(item) for item in value)}]") if value else "an empty list"
    return cut_text(repr(value))


def cut_text(text: str) -> str:
    """Cut a text to the length that a message has room for."""
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


PRIVATE_SECTION: Final = "tracking"
"""The section of a sweep file that holds addresses. No result depends on it, so recorded commands leave it out."""


def is_private_override(override: str) -> bool:
    """Return whether a `--set PATH=VALUE`, as typed, changes the private section."""
    return override.strip().partition("=")[0].partition(".")[0] == PRIVATE_SECTION


def _refuse_password(address: str) -> str:
    if has_password(address):
        raise ValueError(
            f"found {hide_password(address)}, an address with a password, which would be written into the ledger; "
            "expected it without, and the password in the environment"
        )
    return address


NO_PASSWORD: Final = AfterValidator(_refuse_password)
"""Annotation for a path or address: refuse one that contains a password."""

Address = Annotated[str, NO_PASSWORD]


@dataclass(frozen=True, eq=False)
class OmitFromHash:
    """Mark a field that was added to a model later: `Annotated[int, OmitFromHash(before=0)] = 0`.

    New fields must not change old trial ids, so a field at its `before` value is left out of the hash. `before` is the
    JSON value that means what the code did before the field existed. It stays the same when the field's default
    changes, so that results under the two defaults have different hashes.
    """

    before: JsonValue


@dataclass(frozen=True, eq=False)
class HashAs:
    """Mark a field whose values were renamed: `former` are the spellings that ids and hashes are made with."""

    former: Mapping[str, str]


def select_hashed_fields(model: BaseModel) -> dict[str, Any]:
    """Return a model's JSON values as they are hashed: without fields that `OmitFromHash` leaves out, and `HashAs`."""
    return _select_model_fields(model, model.model_dump(mode="json"))


def _select_model_fields(model: BaseModel, plain: dict[str, JsonValue]) -> dict[str, JsonValue]:
    kept = {name: _select_value_fields(getattr(model, name), value) for name, value in plain.items()}
    for name, mark in _find_marks(type(model)).items():
        if isinstance(mark, HashAs):
            kept[name] = mark.former.get(str(kept[name]), kept[name])
        elif kept[name] == mark.before:
            del kept[name]
    return kept


def _select_value_fields(value: object, plain: JsonValue) -> JsonValue:
    """Return the JSON form of a field's value, with models in lists and tables reduced as well."""
    if isinstance(value, BaseModel) and isinstance(plain, dict):
        return _select_model_fields(value, plain)
    if isinstance(value, dict) and isinstance(plain, dict):
        return {key: _select_value_fields(item, plain[key]) for key, item in value.items()}
    if isinstance(value, list | tuple) and isinstance(plain, list):
        return [_select_value_fields(item, other) for item, other in zip(value, plain, strict=True)]
    return plain


@cache
def _find_marks(model: type[BaseModel]) -> dict[str, OmitFromHash | HashAs]:
    marks = {name: field.metadata for name, field in model.model_fields.items()}
    return {name: mark for name, found in marks.items() for mark in found if isinstance(mark, OmitFromHash | HashAs)}


def format_canonical_json(value: BaseModel | Mapping[str, object] | list[object]) -> str:
    """Write a value as JSON with sorted keys and no spaces, so that equal values give equal texts.

    1 and 1.0, and 0.0 and -0.0, are written alike. Later fields at their `before` value are left out (`OmitFromHash`).
    Raise ValueError for numbers that JSON lacks (infinity, not-a-number).
    """
    return json.dumps(
        _convert_to_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def hash_value(value: BaseModel | Mapping[str, object] | list[object]) -> str:
    """Return the sha256 of the canonical JSON, in hex."""
    return hashlib.sha256(format_canonical_json(value).encode()).hexdigest()


def _convert_to_plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return _convert_to_plain(select_hashed_fields(value))
    if isinstance(value, Mapping):
        return {key: _convert_to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_convert_to_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def replace_at_path(document: Mapping[str, object], path: Sequence[str], value: object) -> dict[str, object]:
    """Return a copy of nested dictionaries with one path set; anything in the way becomes a dictionary."""
    head, *rest = path
    if not rest:
        return {**document, head: value}
    inner = document.get(head)
    return {**document, head: replace_at_path(inner if isinstance(inner, Mapping) else {}, rest, value)}


def get_value_at_path(document: object, path: Sequence[str | int]) -> object:
    """Return the value at a path of nested dictionaries and lists, None where there is none."""
    for step in path:
        if isinstance(document, list) and isinstance(step, int) and step < len(document):
            document = document[step]
        else:
            document = document.get(step) if isinstance(document, Mapping) else None
    return document


def list_leaf_paths(document: Mapping[str, object]) -> list[str]:
    """List the dotted paths of all values in nested dictionaries."""
    return list(flatten_document(document))


def flatten_document(document: Mapping[str, object], prefix: str = "") -> dict[str, Any]:
    """Return the values in nested dictionaries by their dotted path."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        found |= flatten_document(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def find_nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is closest, or None where none is close."""
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=0.5)), None)


def format_word_suggestion(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean ...?` where a known word is close, else an empty text."""
    close = find_nearest(word, known)
    return "" if close is None else f"; did you mean {close}?"


def format_choices(word: str, known: Iterable[str], expected: str = "") -> str:
    """Return what was expected instead of a word: the known one that is close, if any, before the list of them all.

    `expected` takes the place of `expected one of a, b`.
    """
    names = list(known)
    listed = expected or f"expected one of {', '.join(names)}"
    close = find_nearest(word, names)
    if close is None:
        return listed
    return f"expected {close}" if names == [close] else f"did you mean {close}? E{listed[1:]}"
