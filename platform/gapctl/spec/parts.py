"""What of a wrong sweep file can still be judged, so that one reading finds as many problems as possible."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from gapctl.spec.hypotheses import Hypothesis
from gapctl.spec.problem import KeyPath, Problem
from gapctl.spec.sweep import Level, SweepFile
from gapctl.spec.trial import TrialConfig


class Parts(NamedTuple):
    """The valid parts of a document: None stands for what is not, `hypotheses` are by their place in the file."""

    base: TrialConfig | None
    vary: Mapping[str, Sequence[Level] | None] | None
    hypotheses: Mapping[int, Hypothesis]


def parts_of(spec: SweepFile) -> Parts:
    """All of a valid file."""
    return Parts(spec.base, spec.vary, dict(enumerate(spec.hypotheses)))


def valid_parts(document: Mapping[str, Any], problems: Sequence[Problem]) -> Parts:
    """The parts of a document that none of its problems lies in."""
    wrong = {problem.path[:length] for problem in problems for length in range(1, len(problem.path) + 1)}
    base = None if ("base",) in wrong else TrialConfig.model_validate(document.get("base"))
    return Parts(base, _vary(document.get("vary"), wrong), _hypotheses(document.get("hypotheses"), wrong))


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
