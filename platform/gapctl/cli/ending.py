"""How a command that trains ends: within its limits, with its report kept, its problems told, and its exit code."""

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import typer

from gapctl.errors import WorkError

if TYPE_CHECKING:
    from rich.console import Console

    from gapctl.ledger import Ledger
    from gapctl.plan.trials import Plan
    from gapctl.sweep.allowance import Allowance
    from gapctl.sweep.rounds import Outcome

INTERRUPTED = 130
OURS = re.compile(r"^gapctl\.[\w.]+Error: ")
"""How the last line of a traceback begins that says in words what is wrong."""
ACCIDENT = f"{WorkError.__module__}.{WorkError.__qualname__}: "
"""How the last line of a traceback begins that a ledger brought about which could not be read or written."""


def within(allowance: "Allowance", train: "Callable[[], Outcome]") -> "Outcome":
    """What `train` did; interrupted where the limits were reached, before it or meanwhile."""
    from gapctl.sweep.rounds import Outcome

    if allowance.reached:
        return Outcome(interrupted=True)
    try:
        with allowance:
            return train()
    except KeyboardInterrupt:
        if allowance.reached:
            return Outcome(interrupted=True)
        raise


def keep_report(plan: "Plan", page: bytes, ledger: "Ledger", console: "Console") -> None:
    """Keeps the page in the ledger, and says where it and the runs are to be seen."""
    from gapctl.plan.as_typed import for_ui

    where = ledger.keep_report(plan, page)
    lines = f"report: {where}\nruns in MLflow: {shlex.join(['gapctl', 'ui', *for_ui(plan.sweep)])}"
    console.print(lines, highlight=False, markup=False, soft_wrap=True)


def conclude(
    problems: Iterable[str | None],
    outcome: "Outcome",
    labels: Mapping[str, str],
    stopped: str | None,
    console: "Console",
) -> None:
    """Tells all problems and exits as they ask for; `stopped` says why the limits ended it, if they did."""
    told = [*filter(None, [*problems, stopped])]
    told += [
        f"{labels[trial_id]} ({trial_id}) {_what_became(trial_id, message)}"
        for trial_id, message in outcome.failures.items()
    ]
    for problem in told:
        typer.echo(f"gapctl: {problem}", err=True)
    if outcome.interrupted and stopped is None:
        console.print(
            "Interrupted; the same command goes on from the checkpoints of what was in training",
            highlight=False,
        )
        raise typer.Exit(INTERRUPTED)
    if told:
        raise typer.Exit(1)


def _what_became(trial_id: str, message: str) -> str:
    """A training that was wrong has a traceback to look at; one whose ledger failed it has a reason, and goes on."""
    last = message.strip().splitlines()[-1]
    if last.startswith(ACCIDENT):
        return f"was not finished: {last.removeprefix(ACCIDENT)}"
    last = OURS.sub("", last)
    where = f"its traceback is in {trial_id}/failure.txt of the runs folder"
    return f"failed: {last}; {where}, and the same command tries it again"
