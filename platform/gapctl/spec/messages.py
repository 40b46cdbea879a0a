"""pydantic's findings in plain words, with the place in the file."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from gapctl.spec.nearest import did_you_mean
from gapctl.spec.sweep import Contrast, SweepFile, Trend
from gapctl.spec.yaml_source import Path_, dotted

TAGS = {"trend": Trend, "contrast": Contrast}
EXPECTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list of two",
}


def explain(problem: ErrorDetails, document: Mapping[str, Any], locate: Callable[[Path_], str]) -> str:
    """`place: key: what was found; what was expected`."""
    path = _without_tags(problem["loc"], document)
    return f"{locate(path)}: {dotted(path) or 'the file'}: {_text(problem, path)}"


def _text(problem: ErrorDetails, path: Path_) -> str:
    kind, found, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "missing":
        return "missing; expected it in the file"
    if kind == "extra_forbidden":
        known = _keys_beside(path)
        return f"unknown key; expected one of {', '.join(known)}{did_you_mean(str(path[-1]), known)}"
    if kind in ("literal_error", "union_tag_invalid"):
        expected = context.get("expected") or context.get("expected_tags", "")
        words = [word.strip(" '") for word in str(expected).replace(" or ", ",").split(",")]
        wrong = context.get("tag", found)
        return f"found {wrong!r}; expected {' or '.join(words)}{did_you_mean(str(wrong), words)}"
    if kind == "union_tag_not_found":
        return "missing `test`; expected trend or contrast"
    if kind in EXPECTED:
        return f"found {found!r}; expected {EXPECTED[kind]}"
    if kind == "value_error":
        return str(context.get("error", problem["msg"]))
    return f"found {found!r}; {_bound(problem['msg'])}"


def _bound(message: str) -> str:
    return (
        message.replace("Input should be", "expected")
        .replace("String should", "expected it to")
        .replace("List should", "expected it to")
    )


def _without_tags(location: tuple[int | str, ...], document: Mapping[str, Any]) -> Path_:
    """pydantic's location less the names of union members, which are not in the file."""
    path: list[int | str] = []
    for step in location:
        inside_hypothesis = len(path) == 2 and path[0] == "hypotheses"
        union_member = isinstance(step, str) and step in (
            "bool",
            "int",
            "float",
            "str",
            "literal['auto']",
            "constrained-float",
        )
        if (inside_hypothesis and step in TAGS) or (union_member and path):
            continue
        path.append(step)
    return tuple(path)


def _keys_beside(path: Path_) -> list[str]:
    """The keys that the model around an unknown key does have."""
    model: Any = SweepFile
    for step in path[:-1]:
        if isinstance(step, int):
            return sorted({*Trend.model_fields, *Contrast.model_fields})
        field = model.model_fields.get(step) if isinstance(model, type) and issubclass(model, BaseModel) else None
        model = field.annotation if field is not None else None
    return sorted(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
