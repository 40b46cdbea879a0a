"""pydantic's validation errors as located problems in plain words.

`list_validation_problems` is the entry. `select_valid_parts` returns what remains of a file with errors, so that the
checks of `checks.py` can run on the valid rest and all problems show at once.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from gapctl.config.base import (
    KeyPath,
    Problem,
    WrongValueError,
    find_nearest,
    flatten_document,
    format_word_suggestion,
    format_yaml_value,
    get_value_at_path,
)
from gapctl.config.cohort import Cohort
from gapctl.config.evaluation_sets import KINDS, SetKind, complete_definitions
from gapctl.config.hypotheses import TESTS, Hypothesis, Level
from gapctl.config.recipes import list_recipes
from gapctl.config.settings import explain_unknown_key, format_mapping_suggestion
from gapctl.config.sweep import SweepFile
from gapctl.config.trial import DATASETS, MODEL_KINDS, TrialConfig
from gapctl.io.passwords import hide_password
from gapctl.text import join_or

EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "too_long": "at most {max_length} entries",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "too_short": "at least one entry",
    "string_too_short": "text that is not empty",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "lower-case letters, digits, - and _, with a letter or digit first",
}
ANY_LEVEL = {"true or false", "a whole number", "a number", "text"}


def list_validation_problems(error: ValidationError, document: object, model: type[BaseModel]) -> list[Problem]:
    """List one problem for each path, the alternatives of a union in one sentence; `model` is what was validated."""
    at_path: dict[KeyPath, list[ErrorDetails]] = {}
    for found in error.errors():
        raised = found.get("ctx", {}).get("error")
        key = raised.key.split(".") if isinstance(raised, WrongValueError) else []
        at_path.setdefault((*_locate_in_document(found, document), *key), []).append(found)
    spelt = _find_misspelt_keys(at_path, model)
    return [
        Problem(path, _describe_problem(path, found, model)) for path, found in at_path.items() if path not in spelt
    ]


def _find_misspelt_keys(at_path: Mapping[KeyPath, Sequence[ErrorDetails]], model: type[BaseModel]) -> set[KeyPath]:
    """Return the keys that are missing because they are misspelt: the unknown key beside them says so."""
    meant: set[KeyPath] = set()
    for path, (first, *_) in at_path.items():
        if first["type"] == "extra_forbidden":
            close = find_nearest(str(path[-1]), _list_sibling_keys(first["loc"], model))
            place = (*path[:-1], str(close))
            if place in at_path and at_path[place][0]["type"] == "missing":
                meant.add(place)
    return meant


def _describe_problem(path: KeyPath, errors: Sequence[ErrorDetails], model: type[BaseModel]) -> str:
    first = errors[0]
    kind, found = first["type"], first["input"]
    if kind == "missing":
        pair = "two numbers" if path[-2:-1] in (("log",), ("uniform",)) else "two levels"
        return f"missing; expected {pair if isinstance(path[-1], int) else 'it here'}"
    if kind == "union_tag_not_found":
        return f"missing; expected {join_or(list(TESTS))}"
    if kind == "extra_forbidden":
        known = _list_sibling_keys(first["loc"], model)
        return f"unknown key; {explain_unknown_key(path, known)}"
    if kind in ("value_error", "assertion_error"):
        return str(first.get("ctx", {}).get("error", first["msg"]))
    wrong = first["ctx"]["tag"] if kind == "union_tag_invalid" else found
    shown = hide_password(wrong) if isinstance(wrong, str) else wrong
    answer = f"found {format_yaml_value(shown)}; expected {_describe_expected(wrong, errors)}"
    if "trend" in first["loc"] and path[-1] == "direction" and wrong == "either":
        return f"{answer}, as a trend has one; a contrast between two levels allows either"
    return answer + format_mapping_suggestion(path, wrong)


def _describe_expected(wrong: object, errors: Sequence[ErrorDetails]) -> str:
    phrases: list[str] = []
    for error in errors:
        context = error.get("ctx", {})
        words = str(context.get("expected", context.get("expected_tags", "")))
        if words:
            named = [word.strip(" '") for word in words.replace(" or ", ",").split(",")]
            phrases += ["image_text" if word == "cc12m" else word for word in named]  # the name to write now
        else:
            template = EXPECTED.get(error["type"])
            if error["type"] == "too_short" and context["min_length"] > 1:
                template = "at least {min_length} entries"
            phrases.append(template.format_map(context) if template else error["msg"])
    if set(phrases) == ANY_LEVEL:
        return "a number, text, true or false"
    return join_or(phrases) + (format_word_suggestion(wrong, phrases) if isinstance(wrong, str) else "")


def _locate_in_document(found: ErrorDetails, document: object) -> KeyPath:
    """Return pydantic's location without the names of union members, which are not in the document."""
    path: list[str | int] = []
    location, missing = found["loc"], found["type"] == "missing"
    for position, step in enumerate(location):
        is_tag = len(path) == 2 and path[0] == "hypotheses" and step in TESTS
        inside = isinstance(document, dict) and step in document
        inside = inside or (isinstance(document, list) and isinstance(step, int) and step < len(document))
        if inside and not is_tag:
            document = get_value_at_path(document, [step])
            path.append(step)
        elif missing and position == len(location) - 1:
            path.append(step)
    if found["type"].startswith("union_tag"):
        path.append("dataset" if path[-1] == "data" else "test")
    return tuple(path)


def _list_sibling_keys(location: Sequence[str | int], model: type[BaseModel]) -> list[str]:
    """List the keys that the model around an unknown key has."""
    around: object = model
    for step in location[:-1]:
        if step in TESTS or step in DATASETS or step in MODEL_KINDS:
            around = {**TESTS, **DATASETS, **MODEL_KINDS}[str(step)]
        elif get_origin(around) is dict:
            around = get_args(around)[1]
        elif isinstance(around, type) and issubclass(around, BaseModel) and step in around.model_fields:
            annotation = around.model_fields[str(step)].annotation
            kinds = get_args(annotation)
            around = kinds[0] if kinds[1:] == (type(None),) else annotation  # of `Search | None`
    return sorted(around.model_fields) if isinstance(around, type) and issubclass(around, BaseModel) else []


TreatmentChanges = Mapping[str, Mapping[str, Mapping[str, Level]]]
"""Changes to `base`, by the name of a treatment and of its level."""


class SweepParts(NamedTuple):
    """The valid parts of a document: None stands for an invalid one, `hypotheses` are by their place in the file.

    `kinds` are those of the evaluation sets that the file defines, by name. `recipes` are the values of each recipe.
    """

    base: TrialConfig | None
    treatments: TreatmentChanges | None
    vary: Mapping[str, Sequence[Level] | None] | None
    hypotheses: Mapping[int, Hypothesis]
    kinds: Mapping[str, SetKind | None] = MappingProxyType({})
    cohort: Cohort | None = None
    recipes: Sequence[Mapping[str, Level]] = ()


def collect_parts(spec: SweepFile) -> SweepParts:
    """Return all parts of a valid file."""
    kinds = {name: each.kind for name, each in spec.evaluation_sets.items()}
    recipes = [recipe.values for recipe in list_recipes(spec)]
    hypotheses = dict(enumerate(spec.hypotheses))
    return SweepParts(spec.base, spec.treatments, spec.vary, hypotheses, kinds, spec.cohort, recipes)


def collect_varied_values(parts: SweepParts) -> Mapping[str, Sequence[Level] | None]:
    """Return the values that trainings have, by dotted path, for the paths that differ between trainings."""
    known = flatten_document(parts.base.model_dump()) if parts.base else {}
    found: dict[str, Sequence[Level] | None] = dict(parts.vary or {})
    for levels in (parts.treatments or {}).values():
        for path in {path for changes in levels.values() for path in changes}:
            found[path] = [changes.get(path, known.get(path, "")) for changes in levels.values()]
    models = [model.changes for model in parts.cohort.members] if parts.cohort else parts.recipes
    for path in {path for changes in models for path in changes}:
        found[path] = [changes.get(path, known.get(path, "")) for changes in models]
    return found


def select_valid_parts(document: Mapping[str, object], problems: Sequence[Problem]) -> SweepParts:
    """Return the parts of a document that contain none of its problems."""
    wrong = {problem.path[:length] for problem in problems for length in range(1, len(problem.path) + 1)}
    base = None if ("base",) in wrong or "base" not in document else TrialConfig.model_validate(document.get("base"))
    treatments, vary, listed = (document.get(name) for name in ("treatments", "vary", "hypotheses"))
    cohort = None if ("cohort",) in wrong or not document.get("cohort") else Cohort.model_validate(document["cohort"])
    hypotheses: dict[int, Hypothesis] = {}
    # What hypotheses over a wrong cohort may name is not known.
    if isinstance(listed, list) and (cohort is not None or not document.get("cohort")):
        adapter: TypeAdapter[Hypothesis] = TypeAdapter(Hypothesis)
        valid = [(index, item) for index, item in enumerate(listed) if ("hypotheses", index) not in wrong]
        hypotheses = {index: adapter.validate_python(item) for index, item in valid}
    return SweepParts(
        base,
        None if ("treatments",) in wrong else _flatten_treatments(treatments),
        {path: None if ("vary", path) in wrong else levels for path, levels in vary.items()}
        if isinstance(vary, dict) and vary
        else None,
        hypotheses,
        _read_set_kinds(document.get("evaluation_sets")),
        cohort,
    )


def _read_set_kinds(found: object) -> dict[str, SetKind | None]:
    """Return the kinds of the sets in a document with problems; None stands for a kind that is none."""
    sets = complete_definitions(found)
    named = sets.items() if isinstance(sets, Mapping) else ()
    kinds = {str(name): item.get("kind") if isinstance(item, Mapping) else None for name, item in named}
    return {name: next((kind for kind in KINDS if kind == found), None) for name, found in kinds.items()}


def _flatten_treatments(treatments: object) -> TreatmentChanges:
    """Return the changes of treatments that are valid; none where the document has none."""
    listed = treatments.items() if isinstance(treatments, Mapping) else ()
    return {
        name: {str(level): flatten_document(changes) for level, changes in levels.items()} for name, levels in listed
    }
