"""`gapctl status`: what the ledger says of each trial of a sweep."""

import json
from typing import TYPE_CHECKING, Literal, NamedTuple

import typer

from gapctl.cli.options import DEFAULT_RUNS, JsonOption, RunsOption, ScaleOption, SetOption, SweepFileArgument

if TYPE_CHECKING:
    from gapctl.ledger import Ledger
    from gapctl.plan.trials import Trial

State = Literal["done", "running", "failed", "damaged", "missing"]


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
    rows = [status_of(ledger, trial) for trial in plan.trials]
    if as_json:
        typer.echo(json.dumps({"trials": [row._asdict() for row in rows], "totals": _totals(rows)}, indent=1))
    else:
        _print(rows)
    if any(row.state in ("failed", "damaged") for row in rows):
        raise typer.Exit(1)


def status_of(ledger: "Ledger", trial: "Trial") -> TrialStatus:
    """What the ledger says of one trial."""
    from gapctl.ledger.ledger import damaged

    folder = ledger.trial(trial.id)
    if (reason := damaged(ledger, trial.id)) is not None:
        return TrialStatus(trial.id, trial.label, "damaged", reason)
    if (result := folder.result()) is not None:
        return TrialStatus(trial.id, trial.label, "done", f"{result.seconds:.0f} s")
    if (failure := folder.failure()) is not None:
        return TrialStatus(trial.id, trial.label, "failed", failure.strip().splitlines()[-1])
    if (samples := folder.samples_being_trained()) is not None:
        share = samples / trial.config.train.samples
        return TrialStatus(trial.id, trial.label, "running", f"{share:.0%}")
    return TrialStatus(trial.id, trial.label, "missing", "")


def _totals(rows: list[TrialStatus]) -> dict[str, int]:
    states: tuple[State, ...] = ("done", "running", "failed", "damaged", "missing")
    return {state: sum(row.state == state for row in rows) for state in states}


def _print(rows: list[TrialStatus]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("trial", "treatment", "state", "", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row.trial, row.label, row.state, row.detail)
    console = Console()
    console.print(table)
    console.print(", ".join(f"{count} {state}" for state, count in _totals(rows).items() if count), highlight=False)
