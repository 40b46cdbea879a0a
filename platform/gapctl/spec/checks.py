"""What a sweep file must satisfy beyond the types of its values."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from gapctl.spec.factor_checks import MOST_TRIALS, combinations, factor_problems
from gapctl.spec.hypotheses import Hypothesis
from gapctl.spec.hypothesis_checks import hypothesis_problems
from gapctl.spec.logged import unlogged
from gapctl.spec.messages import problems_in
from gapctl.spec.parts import Parts, parts_of, valid_parts, values_by_path
from gapctl.spec.problem import Problem, show
from gapctl.spec.resource_checks import resource_problems
from gapctl.spec.search_checks import search_problems
from gapctl.spec.sweep import SweepFile
from gapctl.spec.unused import unused


def examine(document: dict[str, Any]) -> tuple[SweepFile | None, list[Problem]]:
    """The file that a document describes, None if a value has the wrong type, and all that is wrong with it."""
    try:
        spec = SweepFile.model_validate(document)
    except ValidationError as error:
        found = problems_in(error, document, SweepFile)
        return None, [*found, *_meaning(valid_parts(document, found))]
    return spec, [
        *_size(spec),
        *resource_problems(spec),
        *search_problems(spec),
        *_drawn(spec),
        *_meaning(parts_of(spec)),
    ]


def _size(spec: SweepFile) -> Iterator[Problem]:
    arms = combinations(spec.vary)
    if arms * spec.seeds > MOST_TRIALS:
        asked = f"asks for {arms * spec.seeds:,} trials ({arms:,} combinations, seeds: {spec.seeds})"
        yield Problem(("vary",), f"{asked}; expected at most {MOST_TRIALS:,}")


def _drawn(spec: SweepFile) -> Iterator[Problem]:
    """Choices and ends of ranges that no configuration can have."""
    space = {} if spec.search is None else spec.search.space
    for problem in factor_problems(Parts(spec.base, {}, {path: domain.values for path, domain in space.items()}, {})):
        if len(problem.path) > 2:  # a path that is not in base is told by the search's own checks
            _, path, index = problem.path
            yield Problem(("search", "space", path, space[str(path)].kind, index), problem.text)


def _meaning(parts: Parts) -> list[Problem]:
    found = [*factor_problems(parts), *_repeated_ids(parts.hypotheses)]
    wrong = {problem.path[1] for problem in found if problem.path[0] in ("vary", "treatments")}
    # What a hypothesis asks of levels that are wrong themselves would only be noise.
    vary = parts.vary and {path: None if path in wrong else levels for path, levels in parts.vary.items()}
    for index, hypothesis in parts.hypotheses.items():
        found += hypothesis_problems(hypothesis, ("hypotheses", index), vary)
        if parts.base and vary:
            found += unlogged(hypothesis, ("hypotheses", index), parts.base, values_by_path(parts))
    found += unused(parts)
    return list(dict.fromkeys(found))


def _repeated_ids(hypotheses: Mapping[int, Hypothesis]) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, hypothesis in hypotheses.items():
        if hypothesis.id in seen:
            yield Problem(("hypotheses", index, "id"), f"found {show(hypothesis.id)} again; expected each id once")
        seen.add(hypothesis.id)
