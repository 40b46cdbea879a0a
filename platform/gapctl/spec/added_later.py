"""Fields that came after files had been hashed and trials trained: no hash knows of them where they do nothing."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel


@dataclass(frozen=True, eq=False)
class AddedLater:
    """Marks a field that the models gained later: `Annotated[int, AddedLater(before=0)] = 0`.

    `before` is the value, as JSON has it, that means what there was before the field. It stays as it is when the
    field's default changes, so that the hashes of what was done under either are told apart.
    """

    before: Any


def lasting(model: BaseModel) -> dict[str, Any]:
    """A model's plain values, without fields that were added later and stand at what was so before them."""
    return _of_model(model, model.model_dump(mode="json"))


def _of_model(model: BaseModel, plain: dict[str, Any]) -> dict[str, Any]:
    added = _added(type(model))
    kept = {name: _of_value(getattr(model, name), value) for name, value in plain.items()}
    return {name: value for name, value in kept.items() if name not in added or value != added[name].before}


def _of_value(value: Any, plain: Any) -> Any:
    """The plain form of a field's value, models in lists and tables included."""
    if isinstance(value, BaseModel):
        return _of_model(value, plain)
    if isinstance(value, dict):
        return {key: _of_value(item, plain[key]) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_of_value(item, other) for item, other in zip(value, plain, strict=True)]
    return plain


@cache
def _added(model: type[BaseModel]) -> dict[str, AddedLater]:
    marks = {name: field.metadata for name, field in model.model_fields.items()}
    return {name: mark for name, found in marks.items() for mark in found if isinstance(mark, AddedLater)}
