"""What of a wrong sweep file can still be judged, so that one reading finds as many problems as possible."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from gapctl.spec.hypotheses import Hypothesis
from gapctl.spec.paths import leaf_values
from gapctl.spec.problem import KeyPath, Problem
from gapctl.spec.sweep import Level, SweepFile
from gapctl.spec.trial import TrialConfig

Treatments = Mapping[str, Mapping[str, Mapping[str, Level]]]
"""Sets of changes to `base`, by the name of a factor and of its level."""


class Parts(NamedTuple):
    """The valid parts of a document: None stands for what is not, `hypotheses` are by their place in the file."""

    base: TrialConfig | None
    treatments: Treatments | None
    vary: Mapping[str, Sequence[Level] | None] | None
    hypotheses: Mapping[int, Hypothesis]


def parts_of(spec: SweepFile) -> Parts:
    """All of a valid file."""
    return Parts(spec.base, spec.treatments, spec.vary, dict(enumerate(spec.hypotheses)))


def values_by_path(parts: Parts) -> Mapping[str, Sequence[Level] | None]:
    """Every value that some training of the sweep has, by dotted path, where it differs between trainings."""
    known = leaf_values(parts.base.model_dump()) if parts.base else {}
    found: dict[str, Sequence[Level] | None] = dict(parts.vary or {})
    for levels in (parts.treatments or {}).values():
        for path in {path for changes in levels.values() for path in changes}:
            found[path] = [changes.get(path, known.get(path, "")) for changes in levels.values()]
    return found


def valid_parts(document: Mapping[str, Any], problems: Sequence[Problem]) -> Parts:
    """The parts of a document that none of its problems lies in."""
    wrong = {problem.path[:length] for problem in problems for length in range(1, len(problem.path) + 1)}
    base = None if ("base",) in wrong else TrialConfig.model_validate(document.get("base"))
    treatments = None if ("treatments",) in wrong else _treatments(document.get("treatments", {}))
    return Parts(base, treatments, _vary(document.get("vary"), wrong), _hypotheses(document.get("hypotheses"), wrong))


def _treatments(treatments: Any) -> Treatments:
    return {
        name: {str(level): leaf_values(changes) for level, changes in levels.items()}
        for name, levels in treatments.items()
    }


def _vary(vary: Any, wrong: set[KeyPath]) -> Mapping[str, Sequence[Level] | None] | None:
    if not isinstance(vary, dict) or not vary:
        return None
    return {path: None if ("vary", path) in wrong else levels for path, levels in vary.items()}


def _hypotheses(hypotheses: Any, wrong: set[KeyPath]) -> Mapping[int, Hypothesis]:
    if not isinstance(hypotheses, list):
        return {}
    valid = [index for index in range(len(hypotheses)) if ("hypotheses", index) not in wrong]
    adapter: TypeAdapter[Hypothesis] | None = TypeAdapter(Hypothesis) if valid else None
    return {index: adapter.validate_python(hypotheses[index]) for index in valid if adapter}
