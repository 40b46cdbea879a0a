"""The treatments: every combination of levels, and a trial's configuration under one of them."""

from collections.abc import Mapping
from itertools import product

from gapctl.spec.paths import placed
from gapctl.spec.problem import KeyPath
from gapctl.spec.sweep import Level, SweepFile
from gapctl.spec.trial import TrialConfig


def arms(spec: SweepFile) -> list[dict[str, Level]]:
    """The full factorial in the file's order; the last factor varies fastest."""
    return [dict(zip(spec.vary, levels, strict=True)) for levels in product(*spec.vary.values())]


def resolved(spec: SweepFile, arm: Mapping[str, Level]) -> TrialConfig:
    """The configuration of an arm; raises pydantic's ValidationError where its levels do not fit."""
    return resolve(spec.base, {path: level for factor in arm for path, level in changes(spec, factor, arm[factor])})


def resolve(base: TrialConfig, values: Mapping[str, Level]) -> TrialConfig:
    """`base` with each dotted path set; raises pydantic's ValidationError where a level or path does not fit."""
    document = base.model_dump()
    for path, level in values.items():
        document = placed(document, path.split("."), level)
    return TrialConfig.model_validate(document)


def changes(spec: SweepFile, factor: str, level: Level) -> list[tuple[str, Level]]:
    """What a factor at this level sets, by dotted path: itself, or all that its treatment of this name lists."""
    return list(spec.treatments[factor][str(level)].items()) if factor in spec.treatments else [(factor, level)]


def origin(spec: SweepFile, arm: Mapping[str, Level], path: str) -> KeyPath:
    """Where in a sweep file the value of a dotted path stands that a trial of this arm has."""
    for factor, level in arm.items():
        if any(path == changed for changed, _ in changes(spec, factor, level)):
            listed = ("vary", factor, spec.vary[factor].index(level))
            return ("treatments", factor, str(level), path) if factor in spec.treatments else listed
    return ("base", *path.split("."))
