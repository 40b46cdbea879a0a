"""The sweep file: a question, the grid of trainings that answers it, and hypotheses declared beforehand.

`SweepFile` at the end is the whole file. The models above it are its sections: `Search` and `RecipeReplicates` with
their `Domain`s, `Resources`, `Tracking` and `Limits`. The hypotheses are in `hypotheses.py`, and `base`, one training,
is in `trial.py`.
`spec_sha256` and `hypotheses_sha256` hash a file for the ledger.

The docstrings of models become descriptions in `sweeps/schema.json`.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gapctl.config.architectures import MODEL_PATHS, strip_model_folder
from gapctl.config.base import (
    FrozenModel,
    OmitFromHash,
    WrongValueError,
    format_yaml_value,
    hash_value,
    select_hashed_fields,
)
from gapctl.config.cohort import Cohort
from gapctl.config.evaluation_sets import EvaluationSet, complete_definitions, explain_wrong_name
from gapctl.config.hypotheses import SLUG, Hypothesis, Level, Slug
from gapctl.config.trial import Changes, TrialConfig

Ends = Annotated[tuple[float, float], Field(strict=False)]
KINDS = ("log", "uniform", "choice")
SIGNIFICANT_DIGITS: Final = 3


class Domain(FrozenModel):
    """What may be drawn of one value: `uniform` between two numbers, `log` by equal factors, or one of a `choice`."""

    log: Ends | None = None
    uniform: Ends | None = None
    choice: Annotated[list[Level], Field(min_length=2)] | None = None

    @model_validator(mode="after")
    def _require_one_kind(self) -> "Domain":
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            found = f"found {' and '.join(given)}" if given else "found none of its keys"
            raise ValueError(f"{found}; expected one of {', '.join(KINDS)}")
        kind = given[0]
        if kind != "choice":
            low, high = self.ends
            if low >= high:
                raise WrongValueError(kind, f"found {low:g} to {high:g}; expected the smaller number first")
            if kind == "log" and low <= 0:
                raise WrongValueError(kind, f"found {low:g}; expected numbers above 0, as equal factors need")
        return self

    @property
    def kind(self) -> str:
        """The one key that is set: `log`, `uniform` or `choice`."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest number of a range."""
        ends = self.log or self.uniform
        assert ends is not None
        return ends

    @property
    def values(self) -> Sequence[Level]:
        """The choices, or the two ends of the range."""
        return self.choice if self.choice is not None else self.ends

    def round(self, value: Level) -> Level:
        """Round a number drawn from a range to three significant digits, so that a person can type it."""
        if self.choice is not None or not isinstance(value, float):
            return value
        low, high = self.ends
        return min(max(float(f"{value:.{SIGNIFICANT_DIGITS}g}"), low), high)


class StopEarly(FrozenModel):
    """Asynchronous successive halving (arXiv 1810.05934).

    At `after` training samples, and at `reduce` times as many again and again, a training goes on only if it is among
    the best 1/`reduce` of those that came so far.
    """

    after: Annotated[int, Field(ge=1)]
    reduce: Annotated[int, Field(ge=2, le=100)] = 3


class Search(FrozenModel):
    """`trials` points of `space` (dotted paths into base), each trained once, for the best `metric` at the end.

    `tpe` draws where earlier points were good, `random` without looking. What is drawn is a function of `seed`, of how
    many were drawn before, and of what was known of them then.
    """

    metric: str
    direction: Literal["minimize", "maximize"]
    trials: Annotated[int, Field(ge=1, le=1_000)]
    space: Annotated[dict[str, Domain], Field(min_length=1)]
    sampler: Literal["tpe", "random"] = "tpe"
    seed: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    stop_early: StopEarly | None = None


class RecipeReplicates(FrozenModel):
    """`draws` recipes in place of seeds: each arm is trained once by every recipe, so that arms are compared in pairs.

    A recipe is a value for each path of `space` (dotted paths into base), drawn from its domain (`recipes.py`). Its
    number, counted from `first_seed`, is the seed of its trainings.
    """

    over: Literal["recipes"]
    draws: Annotated[int, Field(ge=2, le=1_000)]
    space: Annotated[dict[str, Domain], Field(min_length=1)]


SCALE_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
LONGEST_SCALE_NAME: Final = 80
HYPOTHESES_HASH: Final = r"^[0-9a-f]{8,64}$"


def _check_scale_name(name: str) -> str:
    """Return a scale's name unchanged; raise ValueError where it cannot be part of a file name."""
    if len(name) > LONGEST_SCALE_NAME:
        raise ValueError(f"found {format_yaml_value(name)}; expected at most {LONGEST_SCALE_NAME} characters")
    if not re.fullmatch(SCALE_NAME, name):
        raise ValueError(
            f"found {format_yaml_value(name)}; expected letters, digits, ., - and _, with a letter or digit first"
        )
    return name


ScaleName = Annotated[str, AfterValidator(_check_scale_name)]
"""Checked by a function, not by a pattern, so that its schema leaves room for what a scale may hold."""


def _check_first_question(asked: str) -> str:
    """Return `NAME@DAY` or `NAME@HASH` unchanged; raise ValueError for any other text."""
    name, _, when = asked.partition("@")
    with suppress(ValueError):
        is_date = date.fromisoformat(when).isoformat() == when
        if is_date and re.fullmatch(SLUG, name):
            return asked
    if re.fullmatch(SLUG, name) and re.fullmatch(HYPOTHESES_HASH, when):
        return asked
    raise ValueError(
        f"found {format_yaml_value(asked)}; expected the sweep that it replaces and the day it was asked, or the "
        "beginning of its hypotheses' sha256: object_attribute@2026-11-25, or object_attribute@0123456789ab"
    )


FirstQuestionName = Annotated[str, AfterValidator(_check_first_question)]


class Resources(FrozenModel):
    """What one trial gets: `cpus` is also its thread count; `gpus: auto` takes one where the machine has one.

    `pack` trials of one shape share these and train together as one batched model. Each of `workers` that train one
    trial on image-text pairs gets them for itself. `readers` are CPUs with which Ray Data reads the pairs of each of
    them; 0 leaves that to a thread beside its training.
    """

    cpus: Annotated[int, Field(ge=1, le=1024)] = 1
    gpus: Literal["auto"] | Annotated[float, Field(ge=0.0, le=1024.0)] = "auto"
    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    pack: Annotated[int, Field(ge=1, le=256)] = 1
    readers: Annotated[int, Field(ge=0, le=1024)] = 0


class Tracking(FrozenModel):
    """Where MLflow keeps its runs: a database or server address."""

    uri: Annotated[str, Field(min_length=1)] = "sqlite:///mlflow.db"


Amount = Annotated[float, Field(gt=0.0, le=1e6)]


class Limits(FrozenModel):
    """When a sweep stops by itself, with its checkpoints written.

    It stops after so many `hours` of its runs, or when the machines that it ran on have cost so much, in the currency
    of the table of prices (`gapctl cluster cost`).

    Both are summed over all runs of the sweep's scale. `price_per_hour` is that of each machine of which no price is
    known, such as one's own.
    """

    hours: Amount | None = None
    cost: Amount | None = None
    price_per_hour: Amount | None = None

    @property
    def any(self) -> bool:
        """Whether any limit is set."""
        return self.hours is not None or self.cost is not None


NO_LIMITS: Final = {"hours": None, "cost": None, "price_per_hour": None}


def _check_set_name(name: str) -> str:
    if why := explain_wrong_name(name):
        raise ValueError(why)
    return name


SetName = Annotated[str, AfterValidator(_check_set_name)]


class SweepFile(FrozenModel):
    """A whole sweep file, before a scale or an override is applied: a grid (`vary`), or a search and no hypotheses.

    `vary` lists the levels of factors, which are dotted paths into `base` or names of `treatments`. The levels of those
    have names too, and each is a set of changes to `base`: so what cannot be varied by one value alone can be.

    Trials are replicated over `seeds` seeds from `first_seed` on: a question that is asked anew begins where the
    trainings that it was asked of end.

    `replicates` stands in place of `seeds`: each replicate is a recipe, drawn from declared ranges.

    A `cohort` stands in place of `seeds`: its models are the replicates, each trained or measured once in every arm,
    with the seed `first_seed`.

    `evaluation_sets` are images of others, by a name that `base.evaluate.sets` lists. A name that comes with gapctl,
    such as `coco`, takes what its entry leaves out from there, so that `coco: {source: FOLDER}` is enough.

    `asks_again` names the question that this one replaces, whose answer had been seen: its sweep, and the day it was
    asked or its hypotheses' hash. Verdicts are then marked *redesigned*.
    """

    name: Slug
    question: Annotated[str, Field(min_length=1)]
    asks_again: Annotated[FirstQuestionName | None, OmitFromHash(before=None)] = None
    base: TrialConfig
    evaluation_sets: Annotated[
        dict[SetName, EvaluationSet], BeforeValidator(complete_definitions), OmitFromHash(before={})
    ] = Field(default_factory=dict)
    treatments: Annotated[dict[Slug, dict[str, Changes]], OmitFromHash(before={})] = Field(default_factory=dict)
    vary: dict[str, Annotated[list[Level], Field(min_length=1)]] = Field(
        default_factory=dict, min_length=1, validate_default=False
    )
    search: Annotated[Search | None, OmitFromHash(before=None)] = None
    cohort: Annotated[Cohort | None, OmitFromHash(before=None)] = None
    replicates: Annotated[RecipeReplicates | None, OmitFromHash(before=None)] = None
    seeds: Annotated[int, Field(ge=1, le=1000)] = 1
    first_seed: Annotated[int, Field(ge=0, le=1_000_000), OmitFromHash(before=0)] = 0
    hypotheses: list[Hypothesis] = Field(default_factory=list)
    alpha: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    scales: dict[ScaleName, dict[str, object]] = Field(default_factory=dict)
    default_scale: str | None = None
    resources: Resources = Resources()
    tracking: Tracking = Tracking()
    limits: Annotated[Limits, OmitFromHash(before=NO_LIMITS)] = Limits()

    @property
    def replicate_numbers(self) -> range:
        """The seeds at which every arm is trained, which are also recipes' numbers, or those of a cohort's models."""
        if self.cohort is not None:
            return range(len(self.cohort.members))
        count = self.seeds if self.replicates is None else self.replicates.draws
        return range(self.first_seed, self.first_seed + count)

    @property
    def replicate_noun(self) -> str:
        """What a replicate is."""
        return "model" if self.cohort is not None else "recipe" if self.replicates is not None else "seed"


_NOT_IN_HASH: Final = ("asks_again", "resources", "tracking", "limits", "scales", "default_scale")


def spec_sha256(spec: SweepFile) -> str:
    """Hash what decides a sweep's results.

    Resources, tracking, limits and the scales that were not chosen are left out.
    """
    return hash_value({name: value for name, value in select_hashed_fields(spec).items() if name not in _NOT_IN_HASH})


def hypotheses_sha256(spec: SweepFile) -> str:
    """Hash the hypotheses, in their order, and alpha, as a declaration in the ledger records them."""
    hypotheses = [_strip_model_folders(select_hashed_fields(item)) for item in spec.hypotheses]
    return hash_value({"hypotheses": hypotheses, "alpha": spec.alpha})


def _strip_model_folders(hypothesis: dict[str, object]) -> dict[str, object]:
    """Return a hypothesis with files of models by their name, so that a moved folder keeps the hash."""
    found = dict(hypothesis)
    if found.get("factor") in MODEL_PATHS and "between" in found:
        found["between"] = strip_model_folder(found["between"])
    if found.get("mediator") in MODEL_PATHS:
        found |= {arm: strip_model_folder(found[arm]) for arm in ("free", "fixed")}
    if isinstance(where := found.get("where"), dict):
        found["where"] = {
            path: strip_model_folder(level) if path in MODEL_PATHS else level for path, level in where.items()
        }
    return found
