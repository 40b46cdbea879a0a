"""Compare a plan with its declaration: what was declared before the first trial, and what changed since.

`compare_plan_with_declaration` lists the changed hypotheses, for the report. `explain_deviation_from_declaration`
decides whether the design changed in a way that makes the verdicts exploratory.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from gapctl.config.base import format_canonical_json, select_hashed_fields
from gapctl.config.sweep import SweepFile
from gapctl.ledger import Declaration
from gapctl.ledger.preregistration import UNDECLARED, find_declared_file, load_recorded_sweep
from gapctl.plan.command_line import build_file_arguments, build_ledger_arguments
from gapctl.plan.plan import Plan, hash_design

_ABSENT: Final = "nothing"


class DeclarationChange(NamedTuple):
    """A changed field of the hypothesis with this id, as declared and now; without an id, of the whole file."""

    id: str | None
    field: str
    declared: str
    now: str


@dataclass(frozen=True)
class DeclarationDiff:
    """The sweep file as first declared, with its scale and `--set` options, and how the hypotheses differ now.

    `added` and `removed` are hypotheses by their ids. `command` judges the declared file; None where that was declared
    for another scale.
    """

    file: str
    scale: str | None
    overrides: tuple[str, ...]
    text: str
    command: str | None = None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[DeclarationChange, ...] = ()

    @property
    def changes(self) -> tuple[str, ...]:
        """The changes of the hypotheses since the declaration, one clause for each kind."""
        of_ids = dict.fromkeys(change.id for change in self.changed if change.id is not None)
        told = ", ".join(f"{name} ({'; '.join(_describe_changes(self.changed, name))})" for name in of_ids)
        return (
            *([f"added since: {', '.join(self.added)}"] if self.added else []),
            *([f"removed since: {', '.join(self.removed)}"] if self.removed else []),
            *([f"changed since: {told}"] if told else []),
            *_describe_changes(self.changed, None),
        )

    @property
    def asked_with(self) -> str:
        """The declared file with its options, as a command line has them."""
        options = [*(["--scale", self.scale] if self.scale else [])]
        return shlex.join([self.file, *options, *(word for text in self.overrides for word in ("--set", text))])


def compare_plan_with_declaration(plan: Plan, declaration: Declaration, runs: str) -> DeclarationDiff | None:
    """Return the differences between the declaration and this plan.

    Return None where the ledger has no text of the declaration, or nothing was declared in time.
    """
    asked = find_declared_file(declaration, plan.sweep.scale_name_or_base)
    if asked is None:
        return None
    then, now = load_recorded_sweep(asked).spec, plan.sweep.spec
    own = asked in (
        declaration.declared.get(plan.sweep.scale_name_or_base),
        declaration.asked.get(plan.sweep.scale_name_or_base),
    )
    arguments = [*build_file_arguments(plan.sweep), *build_ledger_arguments(runs)]
    judging = ["gapctl", "analyze", *arguments, "--declared"]
    return DeclarationDiff(
        file=asked.file,
        scale=asked.scale,
        overrides=tuple(asked.overrides),
        text=asked.text,
        command=shlex.join(judging) if own else None,
        added=_list_missing_ids(now, then),
        removed=_list_missing_ids(then, now),
        changed=_list_changes(then, now),
    )


def _list_missing_ids(spec: SweepFile, other: SweepFile) -> tuple[str, ...]:
    """List the ids of hypotheses of `spec` that the other file does not have."""
    known = {item.id for item in other.hypotheses}
    return tuple(item.id for item in spec.hypotheses if item.id not in known)


def _list_changes(then: SweepFile, now: SweepFile) -> tuple[DeclarationChange, ...]:
    before, after = ({item.id: select_hashed_fields(item) for item in spec.hypotheses} for spec in (then, now))
    both = [name for name in before if name in after]
    found = [change for name in both for change in _compare_fields(name, before[name], after[name])]
    found += _compare_fields(None, {"alpha": then.alpha}, {"alpha": now.alpha})
    if list(before) != list(after) and set(before) == set(after):
        found.append(DeclarationChange(None, "order", ", ".join(before), ", ".join(after)))
    return tuple(found)


def _compare_fields(
    name: str | None, before: Mapping[str, object], after: Mapping[str, object]
) -> list[DeclarationChange]:
    fields = dict.fromkeys([*before, *after])
    values = ((field, _format_value(before.get(field)), _format_value(after.get(field))) for field in fields)
    return [DeclarationChange(name, field, was, now) for field, was, now in values if was != now]


def _format_value(value: object) -> str:
    if isinstance(value, str):
        return value
    return _ABSENT if value is None else format_canonical_json({"": value})[4:-1]


def _describe_changes(changes: Sequence[DeclarationChange], name: str | None) -> list[str]:
    return [f"{change.field} was {change.declared}, is {change.now}" for change in changes if change.id == name]


def explain_deviation_from_declaration(plan: Plan, declaration: Declaration | None) -> str | None:
    """Explain how the plan departs from the declared design, which makes verdicts exploratory; None where it does not.

    Judging other levels, another recipe or fewer seeds than declared chooses among results that could be seen. Adding
    seeds until a verdict changes gives chance several tries (docs/statistics.md has the cost). Another question gives
    an answer another meaning.
    """
    if declaration is None:
        return None
    declared = declaration.design_sha256.get(plan.sweep.scale_name_or_base, UNDECLARED)
    if declared == UNDECLARED:
        return "trainings of this scale had begun before it was declared"
    if declared != hash_design(plan):
        return "what is trained, at which levels or from which seed on, was changed after the first training began"
    if declaration.declared and declaration.question != plan.sweep.spec.question:
        return f"the question was put otherwise after the first training began; declared was: {declaration.question}"
    seeds, noun = declaration.seeds[plan.sweep.scale_name_or_base], plan.sweep.spec.replicate_noun
    judged = len(plan.sweep.spec.replicate_numbers)
    if judged < seeds:
        return f"{judged} of the {seeds} declared {noun}s are judged"
    if judged > seeds:
        added = f"{noun}s added after a look are a stopping rule"
        return f"{judged} {noun}s are judged where {seeds} were declared, and {added}"
    return None
