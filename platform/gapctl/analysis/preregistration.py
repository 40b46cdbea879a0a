"""What was declared before the first trial, where something else is judged: the file as it stood, and what changed."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gapctl.config.base import canonical_json, lasting
from gapctl.config.sweep import SweepFile
from gapctl.ledger import Declaration
from gapctl.ledger.preregistration import UNDECLARED, declared_text, scale_name, sweep_of
from gapctl.plan.command_line import file_and_scale, ledger_as_typed
from gapctl.plan.plan import Plan, design_sha256

_ABSENT: Final = "nothing"


class Change(NamedTuple):
    """A field of a hypothesis of this id, as it was declared and as it is now; without an id, of the whole file."""

    id: str | None
    field: str
    declared: str
    now: str


@dataclass(frozen=True)
class Declared:
    """The sweep file as first declared, with the scale and the `--set` options of then, and what is different now.

    `added` and `removed` are hypotheses by their ids. `command` judges what was declared; None where that was another
    scale's file.
    """

    file: str
    scale: str | None
    overrides: tuple[str, ...]
    text: str
    command: str | None = None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()

    @property
    def changes(self) -> tuple[str, ...]:
        """What became of the hypotheses since, a clause for each way."""
        of_ids = dict.fromkeys(change.id for change in self.changed if change.id is not None)
        told = ", ".join(f"{name} ({'; '.join(_words(self.changed, name))})" for name in of_ids)
        return (
            *([f"added since: {', '.join(self.added)}"] if self.added else []),
            *([f"removed since: {', '.join(self.removed)}"] if self.removed else []),
            *([f"changed since: {told}"] if told else []),
            *_words(self.changed, None),
        )

    @property
    def asked_with(self) -> str:
        """The file with the options that it was asked for with."""
        options = [*(["--scale", self.scale] if self.scale else [])]
        return shlex.join([self.file, *options, *(word for text in self.overrides for word in ("--set", text))])


def declared_otherwise(plan: Plan, declaration: Declaration, runs: str) -> Declared | None:
    """What was declared instead of this plan; None where its text was not kept, or nothing was declared in time."""
    asked = declared_text(declaration, scale_name(plan))
    if asked is None:
        return None
    then, now = sweep_of(asked).spec, plan.sweep.spec
    own = asked in (declaration.declared.get(scale_name(plan)), declaration.asked.get(scale_name(plan)))
    return Declared(
        file=asked.file,
        scale=asked.scale,
        overrides=tuple(asked.overrides),
        text=asked.text,
        command=_command(plan, runs) if own else None,
        added=_without(now, then),
        removed=_without(then, now),
        changed=_changes(then, now),
    )


def _command(plan: Plan, runs: str) -> str:
    return shlex.join(["gapctl", "analyze", *file_and_scale(plan.sweep), *ledger_as_typed(runs), "--declared"])


def _without(spec: SweepFile, other: SweepFile) -> tuple[str, ...]:
    """The ids of hypotheses that the other file does not have."""
    known = {item.id for item in other.hypotheses}
    return tuple(item.id for item in spec.hypotheses if item.id not in known)


def _changes(then: SweepFile, now: SweepFile) -> tuple[Change, ...]:
    before, after = ({item.id: lasting(item) for item in spec.hypotheses} for spec in (then, now))
    both = [name for name in before if name in after]
    found = [change for name in both for change in _fields(name, before[name], after[name])]
    found += _fields(None, {"alpha": then.alpha}, {"alpha": now.alpha})
    if list(before) != list(after) and set(before) == set(after):
        found.append(Change(None, "order", ", ".join(before), ", ".join(after)))
    return tuple(found)


def _fields(name: str | None, before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    fields = dict.fromkeys([*before, *after])
    values = ((field, _said(before.get(field)), _said(after.get(field))) for field in fields)
    return [Change(name, field, was, now) for field, was, now in values if was != now]


def _said(value: Any) -> str:
    if isinstance(value, str):
        return value
    return _ABSENT if value is None else canonical_json({"": value})[4:-1]


def _words(changes: Sequence[Change], name: str | None) -> list[str]:
    return [f"{change.field} was {change.declared}, is {change.now}" for change in changes if change.id == name]


def deviation(plan: Plan, declaration: Declaration | None) -> str | None:
    """How the plan departs from the declared design so that verdicts only explore; None where it does not.

    Judging other levels, another recipe or fewer seeds than declared chooses among results that could be seen, and
    adding seeds until a verdict falls gives chance several tries (docs/statistics.md has how much that costs). Another
    question lets an answer mean something else.
    """
    if declaration is None:
        return None
    declared = declaration.design_sha256.get(scale_name(plan), UNDECLARED)
    if declared == UNDECLARED:
        return "trainings of this scale had begun before it was declared"
    if declared != design_sha256(plan):
        return "what is trained, at which levels or from which seed on, was changed after the first training began"
    if declaration.declared and declaration.question != plan.sweep.spec.question:
        return f"the question was put otherwise after the first training began; declared was: {declaration.question}"
    seeds = declaration.seeds[scale_name(plan)]
    judged = plan.sweep.spec.seeds
    if judged < seeds:
        return f"{judged} of the {seeds} declared seeds are judged"
    if judged > seeds:
        return (
            f"{judged} seeds are judged where {seeds} were declared, and seeds added after a look are a stopping rule"
        )
    return None
