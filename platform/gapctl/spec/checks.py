"""What a sweep file must satisfy beyond the types of its values."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from pydantic import ValidationError

from gapctl.spec.hypotheses import Hypothesis
from gapctl.spec.hypothesis_checks import hypothesis_problems, itself
from gapctl.spec.logged import unlogged
from gapctl.spec.messages import problems_in
from gapctl.spec.nearest import did_you_mean
from gapctl.spec.parts import Parts, parts_of, valid_parts
from gapctl.spec.paths import leaves, placed
from gapctl.spec.problem import Problem, show
from gapctl.spec.resource_checks import resource_problems
from gapctl.spec.sweep import Level, SweepFile
from gapctl.spec.trial import TrialConfig

MOST_TRIALS = 10_000


def examine(document: dict[str, Any]) -> tuple[SweepFile | None, list[Problem]]:
    """The file that a document describes, None if a value has the wrong type, and all that is wrong with it."""
    try:
        spec = SweepFile.model_validate(document)
    except ValidationError as error:
        found = problems_in(error, document, SweepFile)
        return None, [*found, *_meaning(valid_parts(document, found))]
    return spec, [*_size(spec), *resource_problems(spec), *_meaning(parts_of(spec))]


def _size(spec: SweepFile) -> Iterator[Problem]:
    arms = _combinations(spec.vary)
    if arms * spec.seeds > MOST_TRIALS:
        asked = f"asks for {arms * spec.seeds:,} trials ({arms:,} combinations, seeds: {spec.seeds})"
        yield Problem(("vary",), f"{asked}; expected at most {MOST_TRIALS:,}")


def _combinations(vary: Mapping[str, Sequence[Level]]) -> int:
    return math.prod(len(levels) for levels in vary.values())


def _meaning(parts: Parts) -> list[Problem]:
    found = [*_factors(parts), *_repeated_ids(parts.hypotheses)]
    wrong = {problem.path[1] for problem in found if problem.path[0] == "vary"}
    # What a hypothesis asks of levels that are wrong themselves would only be noise.
    vary = parts.vary and {path: None if path in wrong else levels for path, levels in parts.vary.items()}
    for index, hypothesis in parts.hypotheses.items():
        found += hypothesis_problems(hypothesis, ("hypotheses", index), vary)
        if parts.base and vary:
            found += unlogged(hypothesis, ("hypotheses", index), parts.base, vary)
    return list(dict.fromkeys(found))


def _factors(parts: Parts) -> Iterator[Problem]:
    known = leaves(parts.base.model_dump()) if parts.base else []
    vary = parts.vary or {}
    for path, levels in vary.items():
        if known and path not in known:
            yield Problem(
                ("vary", path), f"no such value in base; expected one of {', '.join(known)}{did_you_mean(path, known)}"
            )
        for index in _repeated(levels or ()):
            yield Problem(("vary", path, index), f"found {show((levels or ())[index])} again; expected each level once")
    grid = {path: levels for path, levels in vary.items() if levels and path in known}
    if parts.base and grid and _combinations(grid) <= MOST_TRIALS:
        yield from _misfits(parts.base, grid)


def _misfits(base: TrialConfig, grid: Mapping[str, Sequence[Level]]) -> Iterator[Problem]:
    """Levels that no configuration can have, alone or in one of their combinations."""
    plain = base.model_dump()
    for indices in product(*(range(len(levels)) for levels in grid.values())):
        document, chosen = plain, dict(zip(grid, indices, strict=True))
        for path, index in chosen.items():
            document = placed(document, path.split("."), grid[path][index])
        try:
            TrialConfig.model_validate(document)
        except ValidationError as error:
            for problem in problems_in(error, document, TrialConfig):
                yield _blamed(problem, chosen)


def _blamed(problem: Problem, chosen: Mapping[str, int]) -> Problem:
    """The problem of a configuration as one of the level that brought it."""
    at = ".".join(str(step) for step in problem.path)
    inside = [path for path in chosen if path == at or path.startswith(f"{at}.")]
    path = (inside or list(chosen))[-1]
    return Problem(("vary", path, chosen[path]), problem.text)


def _repeated_ids(hypotheses: Mapping[int, Hypothesis]) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, hypothesis in hypotheses.items():
        if hypothesis.id in seen:
            yield Problem(("hypotheses", index, "id"), f"found {show(hypothesis.id)} again; expected each id once")
        seen.add(hypothesis.id)


def _repeated(levels: Sequence[Level]) -> Iterator[int]:
    seen: set[tuple[bool, Level]] = set()
    for index, level in enumerate(levels):
        if itself(level) in seen:
            yield index
        seen.add(itself(level))
