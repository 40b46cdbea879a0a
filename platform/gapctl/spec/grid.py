"""The treatments: every combination of levels, and a trial's configuration under one of them."""

from collections.abc import Mapping, Sequence
from itertools import product

from gapctl.spec.paths import placed
from gapctl.spec.problem import KeyPath
from gapctl.spec.sweep import Level, SweepFile
from gapctl.spec.trial import TrialConfig


def arms(spec: SweepFile) -> list[dict[str, Level]]:
    """The full factorial in the file's order; the last factor varies fastest."""
    return [dict(zip(spec.vary, levels, strict=True)) for levels in product(*spec.vary.values())]


def resolve(base: TrialConfig, factors: Mapping[str, Level]) -> TrialConfig:
    """`base` with each dotted path set; raises pydantic's ValidationError where a level or path does not fit."""
    document = base.model_dump()
    for path, level in factors.items():
        document = placed(document, path.split("."), level)
    return TrialConfig.model_validate(document)


def origin(factors: Mapping[str, Level], vary: Mapping[str, Sequence[Level]], path: str) -> KeyPath:
    """Where in a sweep file the value of a dotted path stands that a trial with these factors has."""
    if path in factors:
        return ("vary", path, vary[path].index(factors[path]))
    return ("base", *path.split("."))
