"""Evaluation sets: labelled or captioned images of others, on which trials and open_clip models are measured by name.

1. `EvaluationSet` is what a sweep file says of a set under `evaluation_sets`; `ShippedSet` adds where others get it.
2. `find_set` looks a name up: in the file first, then among the shipped definitions, then among those of packages.
3. `is_metric_of_set_kind` says which metrics a kind of set has; in trials they are named `<set>/<metric>`.

Shipped definitions are the yaml files of the folder `shipped_sets` beside this one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Final, Literal

import yaml
from pydantic import Field, JsonValue, ValidationError, model_validator

from gapctl.config.base import NO_PASSWORD, Address, FrozenModel, WrongValueError, format_choices
from gapctl.config.hypotheses import SLUG
from gapctl.config.metrics import METRICS, OPTIMUM_EXCESSES, is_analysis_metric, is_posterior_metric
from gapctl.errors import InputError
from gapctl.extensions import ExtensionError, find_extension, list_extensions, raise_as_extension_error
from gapctl.text import join_or

SetKind = Literal["retrieval", "classification", "composition"]
KINDS: Final[tuple[SetKind, ...]] = ("retrieval", "classification", "composition")
SHIPPED_FOLDER: Final = Path(__file__).parent / "shipped_sets"
Count = Annotated[int, Field(ge=1)]
Lines = Address | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
"""A file of lines, or the lines themselves."""


class ExpectedSet(FrozenModel):
    """What a set must have, as its publishers count it; a set with other counts or another checksum is refused.

    `checksum` is the digest of the shards' content that `gapctl data fetch` and `gapctl measure` show.
    """

    images: Count | None = None
    captions: Count | None = None
    classes: Count | None = None
    objects: Count | None = None
    attributes: Count | None = None
    checksum: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None


class CompositionPrompts(FrozenModel):
    """Prompts of an object with an attribute, of the object alone, and of the attribute alone (arXiv 2404.07983)."""

    pair: Annotated[str, Field(min_length=1)] = "an image of a {attribute} {object}"
    object: Annotated[str, Field(min_length=1)] = "an image of a {object}"
    attribute: Annotated[str, Field(min_length=1)] = "an image of a {attribute} object"

    @model_validator(mode="after")
    def _check_places(self) -> "CompositionPrompts":
        for name, words in (("pair", ("object", "attribute")), ("object", ("object",)), ("attribute", ("attribute",))):
            prompt = getattr(self, name)
            found = set(re.findall(r"\{(\w*)\}", prompt))
            if found != set(words):
                needed = " and ".join(f"{{{word}}}" for word in words)
                raise WrongValueError(name, f"found {prompt!r}; expected a prompt with {needed} and no other braces")
        return self


class EvaluationSet(FrozenModel):
    """Images to measure models on: `retrieval` has captions, `classification` classes, `composition` objects and more.

    `source` is whatever `gapctl measure --data` takes. `classes` and `templates` (with `{c}` for the class) are files,
    or lists; without them they are those that lie beside CLIP_benchmark's shards. `label` is the key of an image's json
    that names its class or has its number. For compositions, `object` and `attribute` are the keys of both names;
    `objects` and `attributes` list them (`name = words`), else those of the images are taken. Captions that a model's
    context cuts are counted, or with `cut_captions: refuse` an error.
    """

    kind: SetKind | None = None
    source: Address = ""
    classes: Lines = ""
    templates: Lines = ""
    label: Annotated[str, Field(min_length=1)] = "cls"
    object: Annotated[str, Field(min_length=1)] = "object"
    attribute: Annotated[str, Field(min_length=1)] = "attribute"
    objects: Lines = ""
    attributes: Lines = ""
    prompts: CompositionPrompts = CompositionPrompts()
    cut_captions: Literal["count", "refuse"] = "count"
    expect: ExpectedSet = ExpectedSet()

    @model_validator(mode="after")
    def _check_kind(self) -> "EvaluationSet":
        if self.kind is None:
            raise WrongValueError("kind", f"missing; expected {join_or(list(KINDS))}")
        plain = EvaluationSet.model_fields
        own: Mapping[str, Sequence[str]] = {
            "classification": ("classes", "templates", "label"),
            "composition": ("object", "attribute", "objects", "attributes", "prompts"),
        }
        for kind, names in own.items():
            for name in names if kind != self.kind else ():
                if getattr(self, name) != plain[name].default:
                    raise WrongValueError(name, f"found with kind {self.kind}; expected it with kind {kind} alone")
        return self


class ShippedSet(FrozenModel):
    """A set that comes with gapctl: its definition and title, its licence, and how to get it.

    `hub` is the page of CLIP_benchmark's copy, of which `split` is measured. Without `fetch` its images are not
    downloaded, as their licence asks people to agree to it first.
    """

    title: Annotated[str, Field(min_length=1)]
    definition: dict[str, JsonValue]
    hub: Annotated[str, NO_PASSWORD] = ""
    split: str = "test"
    fetch: bool = False
    licence: Annotated[str, Field(min_length=1)]
    how: Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class NamedSet:
    """A set with the name that metrics carry."""

    name: str
    definition: EvaluationSet

    @property
    def address(self) -> str:
        """The key of its fingerprint among those of data."""
        return f"evaluation set {self.name}"

    @property
    def source(self) -> str:
        """The place of its images."""
        return self.definition.source or self.name


@dataclass(frozen=True)
class PlannedEvaluationSet:
    """A set of a trial: its definition, and the fingerprint of all that decides the numbers on it."""

    definition: EvaluationSet
    fingerprint: str


@cache
def load_shipped_sets() -> Mapping[str, ShippedSet]:
    """Return the shipped definitions by name."""
    found = {}
    for path in sorted(SHIPPED_FOLDER.glob("*.yaml")):
        found[path.stem] = ShippedSet.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    return found


def complete_definitions(found: object) -> object:
    """Return the sets of a sweep file, in which a shipped name takes what it leaves out from its shipped definition."""
    if not isinstance(found, Mapping):
        return found
    shipped = load_shipped_sets()
    return {
        name: {**shipped[name].definition, **item} if name in shipped and isinstance(item, Mapping) else item
        for name, item in found.items()
    }


def explain_wrong_name(name: str) -> str:
    """Explain why a set cannot have this name; return an empty text where it can."""
    if not re.fullmatch(SLUG, name):
        return f"found {name!r}; expected lower-case letters, digits, - and _, with a letter or digit first"
    if name in {metric.group for metric in METRICS.values()}:
        return f"found {name!r}, which is a group of metrics; expected another name, as metrics begin with it"
    return ""


def list_set_names(declared: Iterable[str] = ()) -> list[str]:
    """Return the names of all sets: declared ones first, then shipped ones, then those of packages."""
    return list(dict.fromkeys([*declared, *load_shipped_sets(), *list_extensions("evaluation_sets")]))


def find_set(name: str, declared: Mapping[str, EvaluationSet] | None = None) -> EvaluationSet | None:
    """Return the definition of a name, or None. Raise InputError for one of a package that cannot be used."""
    if declared and name in declared:
        return declared[name]
    if name in load_shipped_sets():
        return EvaluationSet.model_validate(load_shipped_sets()[name].definition)
    extension = find_extension("evaluation_sets", name)
    if extension is None:
        return None
    try:
        with raise_as_extension_error(extension):
            found = extension.function()
    except ExtensionError as error:
        raise InputError(f"{error}; mend or uninstall that package") from error
    if isinstance(found, EvaluationSet):
        return found
    try:
        return EvaluationSet.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{extension.title} returned a wrong definition: {where}{': ' if where else ''}"
            f"{first.get('ctx', {}).get('error', first['msg'])}; expected a mapping as under evaluation_sets"
        ) from error


def require_set(name: str, declared: Mapping[str, EvaluationSet] | None = None) -> EvaluationSet:
    """Return the definition of a name; raise InputError, with the nearest name, where there is none."""
    found = find_set(name, declared)
    if found is None:
        raise InputError(f"{name}: {explain_unknown_set(name, declared or ())}")
    return found


def explain_unknown_set(name: str, declared: Iterable[str]) -> str:
    """Return the message for a name that no set has."""
    return f"no such evaluation set; {format_choices(name, list_set_names(declared))}"


_NEVER: Final = ("train/", "data/", "agreement/", "temperature/", "quality/accuracy_", "captions/words", "captions/sh")
_NEVER_KEYS: Final = frozenset({"captions/empty", *OPTIMUM_EXCESSES})
_PAIRED: Final = ("quality/i2t_recall", "quality/t2i_recall", "quality/mixed_ndcg", "geometry/neighbor_overlap")
_CLASSES: Final = ("quality/v_measure", "quality/flip_rate", "geometry/neighborhood", "quality/object_accuracy")
_CALIBRATED: Final = ("entropy/i2t_nats_at", "entropy/t2i_nats_at")
_ABSENT: Final[Mapping[SetKind, tuple[str, ...]]] = {
    "retrieval": (*_CLASSES, "bias/", "quality/accuracy", "quality/mean_class", "quality/attribute", "quality/pair"),
    "classification": (*_PAIRED, "bias/", "quality/attribute", "quality/pair", "captions/", *_CALIBRATED),
    "composition": ("quality/accuracy", "quality/mean_class", "captions/"),
}
"""Beginnings of the metrics that each kind of set lacks."""


def is_metric_of_set_kind(key: str, kind: SetKind) -> bool:
    """Return whether sets of a kind have a metric, named without the set."""
    computed = is_analysis_metric(key) or is_posterior_metric(key)
    return not key.startswith((*_NEVER, *_ABSENT[kind])) and key not in _NEVER_KEYS and not computed
