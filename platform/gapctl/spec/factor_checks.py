"""What the factors of a sweep must satisfy: values of `base` that exist, and levels that a training can have."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations as pairs
from itertools import product
from typing import NamedTuple

from pydantic import ValidationError

from gapctl.spec.hypothesis_checks import itself
from gapctl.spec.messages import problems_in
from gapctl.spec.nearest import did_you_mean
from gapctl.spec.parts import Parts, Treatments
from gapctl.spec.paths import leaves, placed
from gapctl.spec.problem import KeyPath, Problem, show
from gapctl.spec.sweep import Level
from gapctl.spec.trial import TrialConfig

MOST_TRIALS = 10_000


class _Setting(NamedTuple):
    """What a level of a factor sets in `base`, and where in the file it stands."""

    place: KeyPath
    changes: Mapping[str, Level]

    def place_of(self, path: str) -> KeyPath:
        """Where a value stands that this level brought."""
        return (*self.place, path) if self.place[0] == "treatments" and path in self.changes else self.place


def factor_problems(parts: Parts) -> Iterator[Problem]:
    """All that is wrong with `vary` and `treatments` where their values have the right types."""
    vary, treatments = parts.vary or {}, parts.treatments or {}
    known = leaves(parts.base.model_dump()) if parts.base else []
    found = [
        *(_unknown(vary, treatments, known) if parts.treatments is not None else ()),
        *_treatment_problems(treatments, vary if parts.vary is not None else None, known),
        *_repeated(vary),
    ]
    yield from found
    wrong = {problem.path[1] for problem in found}
    grid = {factor: levels for factor, levels in vary.items() if levels and factor not in wrong}
    if parts.base and parts.treatments is not None and grid and combinations(grid) <= MOST_TRIALS:
        settings = {factor: _settings(factor, levels, treatments) for factor, levels in grid.items()}
        twice = list(_set_twice(settings))
        yield from twice or _misfits(parts.base, settings)


def combinations(vary: Mapping[str, Sequence[Level]]) -> int:
    """How many arms a full factorial has."""
    return math.prod(len(levels) for levels in vary.values())


def _unknown(
    vary: Mapping[str, Sequence[Level] | None], treatments: Treatments, known: Sequence[str]
) -> Iterator[Problem]:
    for factor in vary:
        if known and factor not in known and factor not in treatments:
            names = [*treatments, *known]
            text = f"no such value in base; expected one of {', '.join(names)}{did_you_mean(factor, names)}"
            yield Problem(("vary", factor), text)


def _treatment_problems(
    treatments: Treatments, vary: Mapping[str, Sequence[Level] | None] | None, known: Sequence[str]
) -> Iterator[Problem]:
    for name, levels in treatments.items():
        if vary is not None and name not in vary:
            yield Problem(("treatments", name), f"nothing varies it; expected vary to list levels of {name}")
        for level, changes in levels.items():
            for path in changes:
                if known and path not in known and not path.startswith("init_from."):
                    text = f"no such value in base; expected one of {', '.join(known)}{did_you_mean(path, known)}"
                    yield Problem(("treatments", name, level, path), text)
        for index, found in enumerate((vary or {}).get(name) or ()):
            if found not in levels:
                text = f"found {show(found)}; expected one of {', '.join(levels)}{did_you_mean(str(found), levels)}"
                yield Problem(("vary", name, index), text)


def _settings(factor: str, levels: Sequence[Level], treatments: Treatments) -> list[_Setting]:
    if factor in treatments:
        return [_Setting(("treatments", factor, str(level)), treatments[factor][str(level)]) for level in levels]
    return [_Setting(("vary", factor, index), {factor: level}) for index, level in enumerate(levels)]


def _set_twice(settings: Mapping[str, Sequence[_Setting]]) -> Iterator[Problem]:
    """Values that two factors set, of which one would have no effect."""
    for one, other in pairs(settings, 2):
        first = {path for setting in settings[one] for path in setting.changes}
        for setting in settings[other]:
            for path in setting.changes:
                if path in first:
                    yield Problem(setting.place_of(path), f"{path} is set by {one} too; expected one factor to set it")


def _misfits(base: TrialConfig, settings: Mapping[str, Sequence[_Setting]]) -> Iterator[Problem]:
    """Levels that no configuration can have, alone or in one of their combinations."""
    plain = base.model_dump()
    for chosen in product(*settings.values()):
        document = plain
        for setting in chosen:
            for path, level in setting.changes.items():
                document = placed(document, path.split("."), level)
        try:
            TrialConfig.model_validate(document)
        except ValidationError as error:
            for problem in problems_in(error, document, TrialConfig):
                yield _blamed(problem, chosen)


def _blamed(problem: Problem, chosen: Sequence[_Setting]) -> Problem:
    """The problem of a configuration as one of the level that brought it."""
    at = ".".join(str(step) for step in problem.path)
    for setting in reversed(chosen):
        for path in setting.changes:
            if path == at or path.startswith(f"{at}."):
                return Problem(setting.place_of(path), problem.text)
    return Problem(chosen[-1].place, problem.text)


def _repeated(vary: Mapping[str, Sequence[Level] | None]) -> Iterator[Problem]:
    for factor, levels in vary.items():
        seen: set[tuple[bool, Level]] = set()
        for index, level in enumerate(levels or ()):
            if itself(level) in seen:
                yield Problem(("vary", factor, index), f"found {show(level)} again; expected each level once")
            seen.add(itself(level))
