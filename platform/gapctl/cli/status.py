"""`gapctl status`: what the ledger says of each trial of a sweep."""

import json
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import typer

from gapctl.cli.options import DEFAULT_RUNS, JsonOption, RunsOption, ScaleOption, SetOption, SweepFileArgument

if TYPE_CHECKING:
    from gapctl.ledger import Ledger, TrialFolder
    from gapctl.plan.trials import Trial

State = Literal["done", "running", "failed", "damaged", "missing"]
PROBLEMS: Final[tuple[State, ...]] = ("failed", "damaged")


class TrialStatus(NamedTuple):
    """One line of the status table."""

    trial: str
    label: str
    state: State
    detail: str


def status_command(
    file: SweepFileArgument,
    scale: ScaleOption = None,
    overrides: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    as_json: JsonOption = False,
) -> None:
    """Which trials are done, running, failed or missing."""
    from gapctl.cli.context import plan_for
    from gapctl.ledger import Ledger

    plan, ledger = plan_for(file, scale, overrides), Ledger(runs)
    rows = [status_of(ledger, trial) for trial in plan.trainings]
    if as_json:
        typer.echo(json.dumps({"trials": [row._asdict() for row in rows], "totals": _totals(rows)}, indent=1))
    else:
        _print(rows)
    problems = [row for row in rows if row.state in PROBLEMS]
    for row in problems:
        typer.echo(f"gapctl: {row.label} ({row.trial}) {row.state}: {row.detail}", err=True)
    if problems:
        raise typer.Exit(1)


def status_of(ledger: "Ledger", trial: "Trial") -> TrialStatus:
    """What the ledger says of one trial."""
    from gapctl.errors import WorkError

    try:
        state, detail = _state(ledger.trial(trial.id), trial)
    except WorkError as error:
        state, detail = "damaged", str(error)
    return TrialStatus(trial.id, trial.label, state, detail)


def _state(folder: "TrialFolder", trial: "Trial") -> tuple[State, str]:
    if (result := folder.result()) is not None:
        return "done", f"{result.seconds:.0f} s"
    if (failure := folder.failure()) is not None:
        why = (failure.strip() or "for a reason that was not kept").splitlines()[-1]
        return "failed", f"{why}; its traceback is in {folder.path('failure.txt')}"
    if (samples := folder.samples_being_trained()) is not None:
        return "running", f"{samples / trial.config.train.samples:.0%}"
    return "missing", ""


def _totals(rows: list[TrialStatus]) -> dict[str, int]:
    states: tuple[State, ...] = ("done", "running", "failed", "damaged", "missing")
    return {state: sum(row.state == state for row in rows) for state in states}


def _print(rows: list[TrialStatus]) -> None:
    from rich.table import Table
    from rich.text import Text

    from gapctl.cli.terminal import plain_console

    table = Table("trial", "treatment", "state", "", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row.trial, Text(row.label), row.state, "" if row.state in PROBLEMS else row.detail)
    console = plain_console()
    console.print(table)
    console.print(", ".join(f"{count} {state}" for state, count in _totals(rows).items() if count))
