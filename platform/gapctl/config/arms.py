"""The treatments: every combination of levels, and a trial's configuration under one of them."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Final

from gapctl.config.base import KeyPath, set_path
from gapctl.config.hypotheses import Level
from gapctl.config.sweep import SweepFile
from gapctl.config.trial import TrialConfig


def list_arms(spec: SweepFile) -> list[dict[str, Level]]:
    """The full factorial in the file's order; the last factor varies fastest."""
    return [dict(zip(spec.vary, levels, strict=True)) for levels in product(*spec.vary.values())]


def resolve_arm(spec: SweepFile, arm: Mapping[str, Level]) -> TrialConfig:
    """The configuration of an arm; raises pydantic's ValidationError where its levels do not fit."""
    return resolve_config(
        spec.base, {path: level for factor in arm for path, level in list_changes(spec, factor, arm[factor])}
    )


def resolve_config(base: TrialConfig, values: Mapping[str, Level]) -> TrialConfig:
    """`base` with each dotted path set; raises pydantic's ValidationError where a level or path does not fit."""
    document = base.model_dump()
    for path, level in values.items():
        document = set_path(document, path.split("."), level)
    return TrialConfig.model_validate(document)


def list_changes(spec: SweepFile, factor: str, level: Level) -> list[tuple[str, Level]]:
    """What a factor at this level sets, by dotted path: itself, or all that its treatment of this name lists."""
    return list(spec.treatments[factor][str(level)].items()) if factor in spec.treatments else [(factor, level)]


def find_origin(spec: SweepFile, arm: Mapping[str, Level], path: str) -> KeyPath:
    """Where in a sweep file the value of a dotted path stands that a trial of this arm has."""
    for factor, level in arm.items():
        if any(path == changed for changed, _ in list_changes(spec, factor, level)):
            listed = ("vary", factor, spec.vary[factor].index(level))
            return ("treatments", factor, str(level), path) if factor in spec.treatments else listed
    return ("base", *path.split("."))


Arm = Mapping[str, Level]
MOST_COUNTED: Final = 5_040
"""Deals up to which a correlation's p counts them all."""
RANDOM_DEALS: Final = 2_999
"""How many it draws where there are more."""


def select_arms(vary: Mapping[str, Sequence[Level]], where: Mapping[str, Level]) -> list[Arm]:
    """Every combination of levels in the file's order that has the levels of `where`."""
    kept = [[level for level in levels if path not in where or level == where[path]] for path, levels in vary.items()]
    return [dict(zip(vary, levels, strict=True)) for levels in product(*kept)]


@dataclass(frozen=True)
class ArmGrid:
    """The arms of a correlation: a full grid with so many levels of each factor, the last factor's moving fastest.

    Arms that differ in a factor that is `given` are not compared.
    """

    levels: tuple[int, ...]
    given: tuple[bool, ...]

    @property
    def arms(self) -> int:
        """How many there are."""
        return math.prod(self.levels)

    @cached_property
    def strata(self) -> tuple[tuple[int, ...], ...]:
        """The places of the arms that share the levels of all given factors."""
        found: dict[tuple[int, ...], list[int]] = {}
        for place, arm in enumerate(product(*map(range, self.levels))):
            held = tuple(level for level, given in zip(arm, self.given, strict=True) if given)
            found.setdefault(held, []).append(place)
        return tuple(map(tuple, found.values()))

    @property
    def pairs(self) -> int:
        """How many pairs of arms may be compared."""
        return sum(math.comb(len(arms), 2) for arms in self.strata)

    @property
    def orders(self) -> int:
        """In how many ways the levels of the factors that are not given can be dealt anew."""
        free = (count for count, given in zip(self.levels, self.given, strict=True) if not given)
        return math.prod(map(math.factorial, free))

    @property
    def counted(self) -> int:
        """How many of them p is counted over, the one that was found among them."""
        return self.orders if self.orders <= MOST_COUNTED else RANDOM_DEALS + 1

    def compute_least_p(self, sides: int) -> float:
        """The smallest p of one or two sides that so many deals can give, whatever the trainings say."""
        return min(1.0, sides / self.counted)


def build_arm_grid(vary: Mapping[str, Sequence[Level]], where: Mapping[str, Level], given: Collection[str]) -> ArmGrid:
    """The grid that is left of `vary` at the levels of `where`; names that are no factor are ignored."""
    kept = {path: [level for level in vary[path] if path not in where or level == where[path]] for path in vary}
    return ArmGrid(tuple(map(len, kept.values())), tuple(path in given for path in vary))
