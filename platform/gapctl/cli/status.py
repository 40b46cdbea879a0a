"""`gapctl status`: what the ledger says of each trial of a sweep."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import typer

from gapctl.cli.options import DEFAULT_RUNS, JsonOption, RunsOption, ScaleOption, SetOption, SweepFileArgument
from gapctl.errors import WorkError

if TYPE_CHECKING:
    from gapctl.ledger import Ledger, Result
    from gapctl.plan.plan import Trial

State = Literal["done", "running", "stopped", "failed", "damaged", "missing"]
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
    """Which trials are done, running, stopped by a search, failed or missing."""
    from gapctl.cli.options import plan_in
    from gapctl.ledger import Ledger

    ledger = Ledger(runs)
    plan = plan_in(file, scale, overrides, ledger)
    rows = statuses(ledger, plan.trainings, searched=plan.sweep.spec.search is not None)
    if as_json:
        typer.echo(json.dumps({"trials": [row._asdict() for row in rows], "totals": _totals(rows)}, indent=1))
    else:
        _print(rows)
    problems = [row for row in rows if row.state in PROBLEMS]
    for row in problems:
        typer.echo(f"gapctl: {row.label} ({row.trial}) {row.state}: {row.detail}", err=True)
    if problems:
        raise typer.Exit(1)


def statuses(ledger: "Ledger", trials: Sequence["Trial"], *, searched: bool) -> list[TrialStatus]:
    """What the ledger says of each trial; only a search stops any."""
    from gapctl.ledger.lease import LEASE
    from gapctl.ledger.trial import FAILURE, STOPPED

    results = ledger.results([trial.id for trial in trials])
    unfinished = [trial.id for trial, result in zip(trials, results, strict=True) if result is None]
    failures = dict(zip(unfinished, ledger.contents(unfinished, FAILURE), strict=True))
    leases = dict(zip(unfinished, ledger.contents(unfinished, LEASE), strict=True))
    stops = dict(zip(unfinished, ledger.contents(unfinished, STOPPED), strict=True)) if searched else {}

    def status(trial: "Trial", result: "Result | WorkError | None") -> TrialStatus:
        ended = _ended(result) or _failed(ledger, trial, failures[trial.id]) or _stopped(stops.get(trial.id))
        return TrialStatus(trial.id, trial.label, *(ended or _going_on(trial, leases[trial.id])))

    return [status(trial, result) for trial, result in zip(trials, results, strict=True)]


def _ended(result: "Result | WorkError | None") -> tuple[State, str] | None:
    if result is None:
        return None
    return ("damaged", str(result)) if isinstance(result, WorkError) else ("done", f"{result.seconds:.0f} s")


def _failed(ledger: "Ledger", trial: "Trial", content: bytes | WorkError | None) -> tuple[State, str] | None:
    from gapctl.ledger.trial import FAILURE, failure_in

    if not isinstance(content, bytes):
        return None if content is None else ("damaged", str(content))
    why = (failure_in(content).strip() or "for a reason that was not kept").splitlines()[-1]
    return "failed", f"{why}; its traceback is in {ledger.trial(trial.id).path(FAILURE)}"


def _stopped(content: bytes | WorkError | None) -> tuple[State, str] | None:
    """By a search, which left it where it was."""
    if not isinstance(content, bytes):
        return None
    return "stopped", content.decode(errors="replace").partition(":")[0].removeprefix("stopped ")


def _going_on(trial: "Trial", content: bytes | WorkError | None) -> tuple[State, str]:
    from gapctl.ledger.lease import lease_in

    if isinstance(content, WorkError):
        return "damaged", str(content)
    lease = lease_in(content)
    if lease is None or not lease.seems_alive:
        return "missing", ""
    return "running", f"{lease.samples_seen / max(1, trial.config.train.samples):.0%}, {lease.held_by}"


def _totals(rows: list[TrialStatus]) -> dict[str, int]:
    states: tuple[State, ...] = ("done", "running", "stopped", "failed", "damaged", "missing")
    return {state: sum(row.state == state for row in rows) for state in states}


def _print(rows: list[TrialStatus]) -> None:
    from rich.table import Table
    from rich.text import Text

    from gapctl.cli.output import plain_console

    table = Table("trial", "treatment", "state", "", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row.trial, Text(row.label), row.state, "" if row.state in PROBLEMS else row.detail)
    console = plain_console()
    console.print(table)
    console.print(", ".join(f"{count} {state}" for state, count in _totals(rows).items() if count))
