"""What all models of a sweep file share, and how their checks say which key they are about."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, Final, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict

from gapctl.errors import InputError
from gapctl.io.passwords import has_password, hide_password


class FrozenModel(BaseModel):
    """Immutable; a misspelt key is an error, not a silent default, and true or "5" is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, strict=True, allow_inf_nan=False)


class WrongValueError(ValueError):
    """What a check of a whole model finds wrong with one of its keys, or with one below it by its dotted path."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


KeyPath = tuple[str | int, ...]
LONGEST_VALUE = 60
MOST_LINES = 20


class SpecError(InputError):
    """A sweep file, a scale or an override is wrong; the message has one line per problem, each with its place."""


def build_spec_error(lines: Sequence[str]) -> SpecError:
    """The error that tells all of these problems, or the first of very many."""
    more = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return SpecError("\n".join([*lines[:MOST_LINES], *more]))


class Problem(NamedTuple):
    """`text` reads `what was found; what was expected` and says nothing of the place, which `path` tells."""

    path: KeyPath
    text: str


def format_path(path: KeyPath) -> str:
    """A path as a person writes it: `hypotheses[0].factor`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "the file"


def format_value(value: Any) -> str:
    """A value as the file writes it, cut where it is long."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return cut_text(f"[{', '.join(format_value(item) for item in value)}]") if value else "an empty list"
    return cut_text(repr(value))


def cut_text(text: str) -> str:
    """A text that fits into a message."""
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


PRIVATE_SECTION: Final = "tracking"
"""The part of a sweep that holds addresses; no number depends on it, so that what is kept may go without."""


def is_private_override(override: str) -> bool:
    """Whether a `--set PATH=VALUE`, as it was typed, changes that part."""
    return override.strip().partition("=")[0].partition(".")[0] == PRIVATE_SECTION


def _refuse_password(address: str) -> str:
    if has_password(address):
        raise ValueError(
            f"found {hide_password(address)}, an address with a password, which would be written into the ledger; "
            "expected it without, and the password in the environment"
        )
    return address


NO_PASSWORD: Final = AfterValidator(_refuse_password)
"""Of a path or address: one that holds a password is refused."""

Address = Annotated[str, NO_PASSWORD]


@dataclass(frozen=True, eq=False)
class OmitFromHash:
    """Marks a field that the models gained later: `Annotated[int, AddedLater(before=0)] = 0`.

    `before` is the value, as JSON has it, that means what there was before the field. It stays as it is when the
    field's default changes, so that the hashes of what was done under either are told apart.
    """

    before: Any


def select_hashed_fields(model: BaseModel) -> dict[str, Any]:
    """A model's plain values, without fields that were added later and stand at what was so before them."""
    return _select_model_fields(model, model.model_dump(mode="json"))


def _select_model_fields(model: BaseModel, plain: dict[str, Any]) -> dict[str, Any]:
    added = _find_omissions(type(model))
    kept = {name: _select_value_fields(getattr(model, name), value) for name, value in plain.items()}
    return {name: value for name, value in kept.items() if name not in added or value != added[name].before}


def _select_value_fields(value: Any, plain: Any) -> Any:
    """The plain form of a field's value, models in lists and tables included."""
    if isinstance(value, BaseModel):
        return _select_model_fields(value, plain)
    if isinstance(value, dict):
        return {key: _select_value_fields(item, plain[key]) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_select_value_fields(item, other) for item, other in zip(value, plain, strict=True)]
    return plain


@cache
def _find_omissions(model: type[BaseModel]) -> dict[str, OmitFromHash]:
    marks = {name: field.metadata for name, field in model.model_fields.items()}
    return {name: mark for name, found in marks.items() for mark in found if isinstance(mark, OmitFromHash)}


def write_canonical_json(value: BaseModel | Mapping[str, Any] | list[Any]) -> str:
    """Sorted keys, no spaces; equal numbers read the same, so 1 and 1.0, or 0.0 and -0.0, are one text.

    Fields that a model gained later are left out where they do nothing (`OmitFromHash`).
    Raises ValueError for numbers that JSON lacks (infinity, not-a-number).
    """
    return json.dumps(
        _convert_to_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def hash_value(value: BaseModel | Mapping[str, Any] | list[Any]) -> str:
    """The sha256 of the canonical text, in hex."""
    return hashlib.sha256(write_canonical_json(value).encode()).hexdigest()


def _convert_to_plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _convert_to_plain(select_hashed_fields(value))
    if isinstance(value, Mapping):
        return {key: _convert_to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_convert_to_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def set_path(document: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of nested dictionaries with one path set; whatever stands in the way becomes a dictionary."""
    head, *rest = path
    if not rest:
        return {**document, head: value}
    inner = document.get(head)
    return {**document, head: set_path(inner if isinstance(inner, Mapping) else {}, rest, value)}


def list_leaf_paths(document: Mapping[str, Any]) -> list[str]:
    """The dotted paths of all values in nested dictionaries."""
    return list(flatten_document(document))


def flatten_document(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values in nested dictionaries by their dotted path."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        found |= flatten_document(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def find_nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is closest, or None where none is close."""
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=0.5)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` where a known word is close, else nothing."""
    close = find_nearest(word, known)
    return "" if close is None else f"; did you mean {close}?"
