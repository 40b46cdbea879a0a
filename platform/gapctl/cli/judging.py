"""Which sweeps `gapctl analyze` judges: those of the files that were named, or all that the ledger keeps."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from gapctl.cli.options import DEFAULT_RUNS
from gapctl.errors import GapctlError, InputError, WorkError

if TYPE_CHECKING:
    from gapctl.analysis.judged import Judged
    from gapctl.ledger import Declaration, Ledger
    from gapctl.plan.trials import Plan


Histories = Literal["never", "of one sweep", "always"]
"""Evaluations over training, which are most of a ledger: when they are read."""


class Wanted(NamedTuple):
    """The sweeps to judge, as they were asked for; no files stand for all that the ledger keeps.

    `declared` asks for them as they stood before their first trials.
    """

    files: tuple[Path, ...]
    scale: str | None
    overrides: tuple[str, ...]
    histories: Histories
    declared: bool = False


class JudgedSweeps(NamedTuple):
    """The sweeps, and why others that were asked for are not among them."""

    sweeps: "tuple[Judged, ...]"
    not_judged: tuple[str, ...]


def judge(wanted: Wanted, ledger: "Ledger") -> JudgedSweeps:
    """Judges each sweep by itself; raises InputError or WorkError where none is left that can be judged."""
    plans, problems = _of_files(wanted, ledger) if wanted.files else _of_ledger(wanted, ledger)
    sweeps = _each(plans, ledger, wanted.histories, problems)
    if not sweeps:
        kind = WorkError if any(isinstance(problem, WorkError) for problem in problems) else InputError
        raise kind("\n".join(map(str, problems)))
    return JudgedSweeps(tuple(sweeps), tuple(map(str, problems)))


def require_sweeps(ledger: "Ledger") -> None:
    """Raises InputError for a ledger that was named and keeps no sweep: most often a slip of the pen."""
    if ledger.root != DEFAULT_RUNS and not ledger.sweep_names():
        expected = "expected a folder that `gapctl sweep FILE --runs` filled"
        raise InputError(f"--runs {ledger.root}: keeps no sweep; {expected}")


def judge_kept(ledger: "Ledger", histories: Histories, names: Sequence[str] | None = None) -> JudgedSweeps:
    """Every scale of the ledger's sweeps, or of those named, that has finished a training; none is no error."""
    from gapctl.ledger.recall import recalled

    known = ledger.sweep_names()
    plans, problems = _kept(ledger, known if names is None else [name for name in names if name in known], recalled)
    begun = [plan for plan in plans if ledger.finished([trial.id for trial in plan.trials])]
    return JudgedSweeps(tuple(_each(begun, ledger, histories, problems)), tuple(map(str, problems)))


def _each(
    plans: "Sequence[Plan]", ledger: "Ledger", histories: Histories, problems: list[GapctlError]
) -> "list[Judged]":
    """The sweeps that can be judged; why others cannot is added to `problems`."""
    alone = len(plans) == 1 and not problems
    with_history = histories == "always" or (histories == "of one sweep" and alone)
    sweeps: list[Judged] = []
    for plan in plans:
        try:
            sweeps.append(_judged(plan, ledger, with_history=with_history))
        except GapctlError as error:
            problems.append(error)
    return sweeps


def _of_files(wanted: Wanted, ledger: "Ledger") -> "tuple[list[Plan], list[GapctlError]]":
    from gapctl.cli.drawn import plan_in

    plans = [plan_in(file, wanted.scale, wanted.overrides, ledger) for file in wanted.files]
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
    return ([_as_declared(plan, ledger) for plan in plans] if wanted.declared else plans), []


def _as_declared(plan: "Plan", ledger: "Ledger") -> "Plan":
    from gapctl.ledger.declaring import scale_name
    from gapctl.ledger.recall import recalled_as_declared

    name = plan.sweep.spec.name
    declaration = ledger.declaration(name)
    if declaration is None:
        raise InputError(
            f"--declared: {ledger.root} has no declaration of {name}; expected {ledger.declaration_path(name)}, as "
            "`gapctl sweep` writes it. Name the ledger with --runs"
        )
    return recalled_as_declared(declaration, scale_name(plan), ledger.declaration_path(name))


def _of_ledger(wanted: Wanted, ledger: "Ledger") -> "tuple[list[Plan], list[GapctlError]]":
    from gapctl.ledger.recall import recalled, recalled_as_declared

    recall = recalled_as_declared if wanted.declared else recalled
    names = ledger.sweep_names()
    if not names:
        raise InputError(
            f"--all: {ledger.root} keeps no sweep; expected files that end in .sweep.json, as `gapctl sweep FILE` "
            "writes them. Name the ledger with --runs"
        )
    return _kept(ledger, names, recall)


def _kept(
    ledger: "Ledger", names: Sequence[str], recall: "Callable[[Declaration, str, str], Plan]"
) -> "tuple[list[Plan], list[GapctlError]]":
    """The plans of all scales of these sweeps as the ledger keeps them."""
    plans: list[Plan] = []
    problems: list[GapctlError] = []
    for name in names:
        for declaration, scale in _scales(ledger, name, problems):
            try:
                plans.append(recall(declaration, scale, ledger.declaration_path(name)))
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
    return Judged(plan, analysis_of(plan, tables, ledger), tables.damaged)


def _nothing(plan: "Plan", ledger: "Ledger", damaged: Sequence[str]) -> GapctlError:
    from gapctl.report.commands import commands_of

    if damaged:
        return WorkError("\n".join(damaged))
    return InputError(
        f"{ledger.root}: no finished trial of {plan.sweep.spec.name}, so there is nothing to judge; run "
        f"`{commands_of(plan, ledger).sweep}` first"
    )
