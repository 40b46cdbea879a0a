"""What several sweeps share, and where they were not made alike: data, recipe, settings, hardware, versions."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Final, NamedTuple

from gapctl.analysis.judged import Judged
from gapctl.spec.parts import parts_of, values_by_path
from gapctl.spec.paths import leaf_values

NOT_RECORDED: Final = "not recorded"
_OF_NO_EFFECT: Final = ("trial", "hardware.memory_mb", "hardware.gpu_memory_mb", "hardware.cores")
"""What a machine had or used, which no number depends on."""


class Shared(NamedTuple):
    """Trials that two sweeps have in common, finished ones only, and how many each of them has."""

    sweeps: tuple[str, str]
    trials: tuple[str, ...]
    of: tuple[int, int]


class Difference(NamedTuple):
    """Something that not all trainings have in common: its values, in each sweep."""

    what: str
    values: Mapping[str, tuple[str, ...]]


def shared_trials(sweeps: Sequence[Judged]) -> tuple[Shared, ...]:
    """A row per pair of sweeps that share trials; their verdicts are no independent evidence."""
    found = []
    for one, other in combinations(sweeps, 2):
        here, there = set(one.analysis.trials["trial"]), set(other.analysis.trials["trial"])
        if both := here & there:
            found.append(Shared((one.name, other.name), tuple(sorted(both)), (len(here), len(there))))
    return tuple(found)


def differences(sweeps: Sequence[Judged]) -> tuple[Difference, ...]:
    """How the trainings were made, wherever sweeps differ in it, or one sweep's trainings among themselves.

    Settings come first, then data, recipe, hardware and versions. A setting that all sweeps vary alike is none.
    """
    settings = _listed([_settings(judged) for judged in sweeps], sweeps, "not there")
    made = _listed([_made(judged) for judged in sweeps], sweeps, NOT_RECORDED)
    return (
        *(found for found in settings if len(set(found.values.values())) > 1),
        *(found for found in made if len({value for values in found.values.values() for value in values}) > 1),
    )


def _listed(found: Sequence[Mapping[str, tuple[str, ...]]], sweeps: Sequence[Judged], absent: str) -> list[Difference]:
    names = dict.fromkeys(name for of_sweep in found for name in of_sweep)
    return [
        Difference(
            name,
            {judged.name: of_sweep.get(name, (absent,)) for judged, of_sweep in zip(sweeps, found, strict=True)},
        )
        for name in names
    ]


def _settings(judged: Judged) -> dict[str, tuple[str, ...]]:
    """Every setting's values by dotted path; where the data lies is said of the trainings."""
    spec = judged.plan.sweep.spec
    base = {path: (str(value),) for path, value in leaf_values(spec.base.model_dump(mode="json")).items()}
    varied = {
        path: tuple(str(level) for level in sorted(levels or (), key=_order))
        for path, levels in values_by_path(parts_of(spec)).items()
    }
    settings = {**base, **varied, "seeds": (str(spec.seeds),), "first_seed": (str(spec.first_seed),)}
    settings.pop("data.source", None)
    return settings


def _made(judged: Judged) -> dict[str, tuple[str, ...]]:
    table = judged.analysis.provenance
    names = [name for name in table.columns if name not in _OF_NO_EFFECT]
    return {
        name: tuple(NOT_RECORDED if value is None else str(value) for value in sorted(set(table[name]), key=_order))
        for name in names
    }


def _order(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, int | float)
    return not number, float(value) if number else 0.0, str(value)
