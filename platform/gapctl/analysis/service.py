"""Judge sweeps from a ledger alone, each by itself: rebuild their plans from its declarations, and analyse them.

The statistics, which take a second to import, are imported only where there is a sweep to judge.
"""

import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from gapctl.errors import GapctlError, InputError, WorkError
from gapctl.ledger import Declaration, Ledger
from gapctl.ledger.preregistration import rebuild_plan
from gapctl.plan.command_line import build_ledger_arguments, build_plan_arguments
from gapctl.plan.plan import Plan

if TYPE_CHECKING:
    from gapctl.analysis.compare import SweepAnalysis


def rebuild_plans(
    ledger: Ledger,
    names: Iterable[str],
    rebuild: Callable[[Declaration, str, str], Plan],
    problems: list[GapctlError],
) -> list[Plan]:
    """Rebuild the plans of all scales of these sweeps; append the errors of damaged declarations to `problems`."""
    plans: list[Plan] = []
    for name in names:
        try:
            declaration = ledger.read_declaration(name)
        except GapctlError as error:
            problems.append(error)
            continue
        if declaration is None:
            continue
        for scale in declaration.trials:
            try:
                plans.append(rebuild(declaration, scale, ledger.locate_declaration(name)))
            except GapctlError as error:
                problems.append(error)
    return plans


def judge_plans(
    plans: Sequence[Plan],
    ledger: Ledger,
    problems: list[GapctlError],
    *,
    with_history: bool = False,
) -> "list[SweepAnalysis]":
    """Judge the plans one by one; append the errors of those that cannot be judged to `problems`."""
    sweeps: list[SweepAnalysis] = []
    for plan in plans:
        try:
            sweeps.append(_judge_plan(plan, ledger, with_history=with_history))
        except GapctlError as error:
            problems.append(error)
    return sweeps


def _judge_plan(plan: Plan, ledger: Ledger, *, with_history: bool) -> "SweepAnalysis":
    from gapctl.analysis.analyze import analyze_tables
    from gapctl.analysis.compare import SweepAnalysis
    from gapctl.analysis.tables import read_trial_tables

    tables = read_trial_tables(plan, ledger, with_history=with_history)
    if not tables.trials.is_empty():
        return SweepAnalysis(plan, analyze_tables(plan, tables, ledger), tables.damaged, tables.lacking)
    if tables.damaged:
        raise WorkError("\n".join(tables.damaged))
    name, command = plan.sweep.spec.name, shlex.join(["gapctl", "sweep", *build_plan_arguments(plan, ledger.root)])
    scale = "" if plan.sweep.scale is None else f" at scale {plan.sweep.scale}"
    elsewhere = _list_judgeable_scales(plan, ledger)
    judge = "".join(f"; `{_format_analyze_command(plan, ledger, other)}` judges scale {other}" for other in elsewhere)
    raise InputError(
        f"{ledger.root}: no finished trial of {name}{scale}, so there is nothing to judge; run `{command}` first{judge}"
    )


def _list_judgeable_scales(plan: Plan, ledger: Ledger) -> list[str]:
    """List the file's other scales of which the ledger has a finished trial."""
    declaration = ledger.read_declaration(plan.sweep.spec.name)
    planned = {} if declaration is None else declaration.trials
    others = [scale for scale in plan.sweep.spec.scales if scale != plan.sweep.scale]
    return [scale for scale in others if scale in planned and ledger.finished(planned[scale])]


def _format_analyze_command(plan: Plan, ledger: Ledger, scale: str) -> str:
    chosen = [] if scale == plan.sweep.spec.default_scale else ["--scale", scale]
    return shlex.join(["gapctl", "analyze", str(plan.sweep.path), *chosen, *build_ledger_arguments(ledger.root)])


def judge_ledger(
    ledger: Ledger, names: Sequence[str] | None = None, *, with_history: bool = False
) -> "tuple[list[SweepAnalysis], list[str]]":
    """Judge every scale of the ledger's sweeps, or of the named ones, that has finished a training.

    Return the judged sweeps, and why others are not among them.
    """
    known = ledger.list_sweeps()
    problems: list[GapctlError] = []
    plans = rebuild_plans(
        ledger, known if names is None else [name for name in names if name in known], rebuild_plan, problems
    )
    begun = [plan for plan in plans if ledger.finished([trial.id for trial in plan.trials])]
    return judge_plans(begun, ledger, problems, with_history=with_history), list(map(str, problems))
