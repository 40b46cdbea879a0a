"""Which arms of a grid a hypothesis looks at, and which of them it may compare with each other."""

from collections.abc import Mapping, Sequence
from itertools import product

from gapctl.spec.hypotheses import Level

Arm = Mapping[str, Level]


def arms_left(vary: Mapping[str, Sequence[Level]], where: Mapping[str, Level]) -> list[Arm]:
    """Every combination of levels in the file's order that has the levels of `where`."""
    kept = [[level for level in levels if path not in where or level == where[path]] for path, levels in vary.items()]
    return [dict(zip(vary, levels, strict=True)) for levels in product(*kept)]


def strata(arms: Sequence[Arm], given: Sequence[str]) -> list[list[int]]:
    """The places of the arms that share the levels of all given factors; names that are no factor are ignored."""
    found: dict[tuple[Level, ...], list[int]] = {}
    for place, arm in enumerate(arms):
        found.setdefault(tuple(arm[name] for name in given if name in arm), []).append(place)
    return list(found.values())
