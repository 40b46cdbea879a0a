"""The sweep file: a question, the grid of trainings that answers it, and hypotheses written down beforehand."""

import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from gapctl.spec.added_later import AddedLater
from gapctl.spec.frozen import Frozen
from gapctl.spec.hypotheses import SLUG, Hypothesis, Slug
from gapctl.spec.hypotheses import Level as Level
from gapctl.spec.paths import leaf_values
from gapctl.spec.problem import show
from gapctl.spec.search import Search
from gapctl.spec.trial import TrialConfig

SCALE_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
LONGEST_SCALE_NAME: Final = 80
HYPOTHESES_HASH: Final = r"^[0-9a-f]{8,64}$"


def _scale_name(name: str) -> str:
    """A scale's name, which becomes part of file names, as it is; raises ValueError where it could not."""
    if len(name) > LONGEST_SCALE_NAME:
        raise ValueError(f"found {show(name)}; expected at most {LONGEST_SCALE_NAME} characters")
    if not re.fullmatch(SCALE_NAME, name):
        raise ValueError(f"found {show(name)}; expected letters, digits, ., - and _, with a letter or digit first")
    return name


def _by_dotted_path(changes: Any) -> Any:
    return leaf_values(changes) if isinstance(changes, Mapping) else changes


Changes = Annotated[dict[str, Level], BeforeValidator(_by_dotted_path)]
"""Values of a training by their dotted path into `base`."""

ScaleName = Annotated[str, AfterValidator(_scale_name)]
"""Checked by a function, not by a pattern, so that its schema leaves room for what a scale may hold."""


def _first_question(asked: str) -> str:
    """A sweep's name and what tells its question from others of that name, as it is; raises ValueError else."""
    name, _, when = asked.partition("@")
    if re.fullmatch(SLUG, name) and (re.fullmatch(HYPOTHESES_HASH, when) or _is_date(when)):
        return asked
    raise ValueError(
        f"found {show(asked)}; expected the sweep that it replaces and the day it was asked, or the beginning of its "
        "hypotheses' sha256: object_attribute@2026-11-25, or object_attribute@0123456789ab"
    )


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


FirstQuestionName = Annotated[str, AfterValidator(_first_question)]


class Resources(Frozen):
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


class Tracking(Frozen):
    """Where MLflow keeps its runs: a database or server address."""

    uri: Annotated[str, Field(min_length=1)] = "sqlite:///mlflow.db"


Amount = Annotated[float, Field(gt=0.0, le=1e6)]


class Limits(Frozen):
    """When a sweep stops by itself, checkpoints written: after so many `hours` of its runs, or when the machines it ran
    on have cost so much, in the currency of the table of prices (`gapctl cluster cost`).

    Both are summed over all runs of the sweep's scale. `price_per_hour` is that of each machine of which no price is
    known, such as one's own.
    """

    hours: Amount | None = None
    cost: Amount | None = None
    price_per_hour: Amount | None = None

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return self.hours is not None or self.cost is not None


NO_LIMITS: Final = {"hours": None, "cost": None, "price_per_hour": None}


class SweepFile(Frozen):
    """A whole sweep file, before a scale or an override is applied: a grid (`vary`), or a search and no hypotheses.

    `vary` lists the levels of factors, which are dotted paths into `base` or names of `treatments`. The levels of those
    have names too, and each is a set of changes to `base`: so what cannot be varied by one value alone can be.

    Trials are replicated over `seeds` seeds from `first_seed` on: a question that is asked anew begins where the
    trainings that it was asked of end.

    `asks_again` names the question that this one replaces, whose answer had been seen: its sweep, and the day it was
    asked or its hypotheses' hash. Verdicts are then marked *redesigned*.
    """

    name: Slug
    question: Annotated[str, Field(min_length=1)]
    asks_again: Annotated[FirstQuestionName | None, AddedLater(before=None)] = None
    base: TrialConfig
    treatments: Annotated[dict[Slug, dict[str, Changes]], AddedLater(before={})] = Field(default_factory=dict)
    vary: dict[str, Annotated[list[Level], Field(min_length=1)]] = Field(
        default_factory=dict, min_length=1, validate_default=False
    )
    search: Annotated[Search | None, AddedLater(before=None)] = None
    seeds: Annotated[int, Field(ge=1, le=1000)] = 1
    first_seed: Annotated[int, Field(ge=0, le=1_000_000), AddedLater(before=0)] = 0
    hypotheses: list[Hypothesis] = Field(default_factory=list)
    alpha: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    scales: dict[ScaleName, dict[str, Any]] = Field(default_factory=dict)
    default_scale: str | None = None
    resources: Resources = Resources()
    tracking: Tracking = Tracking()
    limits: Annotated[Limits, AddedLater(before=NO_LIMITS)] = Limits()

    @property
    def replicates(self) -> range:
        """The seeds of every arm."""
        return range(self.first_seed, self.first_seed + self.seeds)
