"""Which sweeps `gapctl analyze` judges: those of the files that were named, or all that the ledger keeps."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gapctl.errors import GapctlError, InputError, WorkError

if TYPE_CHECKING:
    from gapctl.analysis.judged import Judged
    from gapctl.ledger import Declaration, Ledger
    from gapctl.plan.trials import Plan


class Wanted(NamedTuple):
    """The sweeps to judge, as they were asked for; no files stand for all that the ledger keeps."""

    files: tuple[Path, ...]
    scale: str | None
    overrides: tuple[str, ...]
    with_history: bool


class JudgedSweeps(NamedTuple):
    """The sweeps, and why others that were asked for are not among them."""

    sweeps: "tuple[Judged, ...]"
    not_judged: tuple[str, ...]


def judge(wanted: Wanted, ledger: "Ledger") -> JudgedSweeps:
    """Judges each sweep by itself; raises InputError or WorkError where none is left that can be judged."""
    plans, problems = _of_files(wanted) if wanted.files else _of_ledger(ledger)
    sweeps: list[Judged] = []
    for plan in plans:
        try:
            sweeps.append(_judged(plan, ledger, with_history=wanted.with_history))
        except GapctlError as error:
            problems.append(error)
    if not sweeps:
        kind = WorkError if any(isinstance(problem, WorkError) for problem in problems) else InputError
        raise kind("\n".join(map(str, problems)))
    return JudgedSweeps(tuple(sweeps), tuple(map(str, problems)))


def _of_files(wanted: Wanted) -> "tuple[list[Plan], list[GapctlError]]":
    from gapctl.cli.context import plan_for

    plans = [plan_for(file, wanted.scale, wanted.overrides) for file in wanted.files]
    first: dict[str, Path] = {}
    for plan in plans:
        name, path = plan.sweep.spec.name, plan.sweep.path
        if name in first:
            raise InputError(
                f"{path}: its sweep is named {name}, as that of {first[name]} is; expected a name for each, since the "
                "ledger keeps what was declared by name. Name one of the files, or change a name and run that sweep: "
                "trials that are done are kept"
            )
        first[name] = path
    return plans, []


def _of_ledger(ledger: "Ledger") -> "tuple[list[Plan], list[GapctlError]]":
    from gapctl.ledger.recall import recalled

    names = ledger.sweep_names()
    if not names:
        raise InputError(
            f"--all: {ledger.root} keeps no sweep; expected files that end in .sweep.json, as `gapctl sweep FILE` "
            "writes them. Name the ledger with --runs"
        )
    plans: list[Plan] = []
    problems: list[GapctlError] = []
    for name in names:
        for declaration, scale in _scales(ledger, name, problems):
            try:
                plans.append(recalled(declaration, scale, ledger.path(f"{name}.sweep.json")))
            except GapctlError as error:
                problems.append(error)
    return plans, problems


def _scales(ledger: "Ledger", name: str, problems: "list[GapctlError]") -> "list[tuple[Declaration, str]]":
    """Every scale that a sweep was run at; a damaged declaration is added to `problems`."""
    try:
        declaration = ledger.declaration(name)
    except GapctlError as error:
        problems.append(error)
        return []
    return [(declaration, scale) for scale in declaration.trials] if declaration else []


def _judged(plan: "Plan", ledger: "Ledger", *, with_history: bool) -> "Judged":
    # The statistics take a second to import, and a wrong file should not wait for them.
    from gapctl.analysis.analyze import analysis_of
    from gapctl.analysis.judged import Judged
    from gapctl.analysis.table import read_tables

    tables = read_tables(plan, ledger, with_history=with_history)
    if tables.trials.is_empty():
        raise _nothing(plan, ledger, tables.damaged)
    declaration = ledger.declaration(plan.sweep.spec.name)
    return Judged(plan, analysis_of(plan, tables, declaration, ledger.root), tables.damaged)


def _nothing(plan: "Plan", ledger: "Ledger", damaged: Sequence[str]) -> GapctlError:
    from gapctl.report.commands import commands_of

    if damaged:
        return WorkError("\n".join(damaged))
    return InputError(
        f"{ledger.root}: no finished trial of {plan.sweep.spec.name}, so there is nothing to judge; run "
        f"`{commands_of(plan, ledger).sweep}` first"
    )
