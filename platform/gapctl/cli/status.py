"""`gapctl status`: list the state of each trial of a sweep, from the ledger."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import typer

from gapctl.cli.options import DEFAULT_RUNS, JsonOption, RunsOption, ScaleOption, SetOption, SweepFileArgument
from gapctl.errors import WorkError

if TYPE_CHECKING:
    from gapctl.ledger import Ledger, Result
    from gapctl.plan.plan import Trial

TrialStateName = Literal["done", "running", "stopped", "failed", "damaged", "missing"]
PROBLEM_STATES: Final[tuple[TrialStateName, ...]] = ("failed", "damaged")


class TrialStatus(NamedTuple):
    """One line of the status table."""

    trial: str
    label: str
    state: TrialStateName
    detail: str


def status_command(
    file: SweepFileArgument,
    scale: ScaleOption = None,
    overrides: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    as_json: JsonOption = False,
) -> None:
    """Which trials are done, running, stopped by a search, failed or missing."""
    from gapctl.cli.options import load_ledger_plan
    from gapctl.ledger import Ledger

    ledger = Ledger(runs)
    plan = load_ledger_plan(file, scale, overrides, ledger)
    rows = read_statuses(ledger, plan.trainings, searched=plan.sweep.spec.search is not None)
    if as_json:
        typer.echo(json.dumps({"trials": [row._asdict() for row in rows], "totals": _count_states(rows)}, indent=1))
    else:
        _print_statuses(rows)
    problems = [row for row in rows if row.state in PROBLEM_STATES]
    for row in problems:
        typer.echo(f"gapctl: {row.label} ({row.trial}) {row.state}: {row.detail}", err=True)
    if problems:
        raise typer.Exit(1)


def read_statuses(ledger: "Ledger", trials: Sequence["Trial"], *, searched: bool) -> list[TrialStatus]:
    """Read the state of each trial from the ledger; only a search stops any."""
    from gapctl.ledger.lease import LEASE_FILE
    from gapctl.ledger.trial import FAILURE, STOPPED

    results = ledger.results([trial.id for trial in trials])
    unfinished = [trial.id for trial, result in zip(trials, results, strict=True) if result is None]
    failures = dict(zip(unfinished, ledger.contents(unfinished, FAILURE), strict=True))
    leases = dict(zip(unfinished, ledger.contents(unfinished, LEASE_FILE), strict=True))
    stops = dict(zip(unfinished, ledger.contents(unfinished, STOPPED), strict=True)) if searched else {}

    def status(trial: "Trial", result: "Result | WorkError | None") -> TrialStatus:
        ended = (
            _read_result_state(result)
            or _read_failure_state(ledger, trial, failures[trial.id])
            or _read_stop_state(stops.get(trial.id))
        )
        return TrialStatus(trial.id, trial.label, *(ended or _read_lease_state(trial, leases[trial.id])))

    return [status(trial, result) for trial, result in zip(trials, results, strict=True)]


def _read_result_state(result: "Result | WorkError | None") -> tuple[TrialStateName, str] | None:
    if result is None:
        return None
    return ("damaged", str(result)) if isinstance(result, WorkError) else ("done", f"{result.seconds:.0f} s")


def _read_failure_state(
    ledger: "Ledger", trial: "Trial", content: bytes | WorkError | None
) -> tuple[TrialStateName, str] | None:
    from gapctl.ledger.trial import FAILURE, decode_failure

    if not isinstance(content, bytes):
        return None if content is None else ("damaged", str(content))
    why = (decode_failure(content).strip() or "for a reason that was not kept").splitlines()[-1]
    return "failed", f"{why}; its traceback is in {ledger.trial(trial.id).path(FAILURE)}"


def _read_stop_state(content: bytes | WorkError | None) -> tuple[TrialStateName, str] | None:
    """Return the state of a trial that a search stopped; None for others."""
    if not isinstance(content, bytes):
        return None
    return "stopped", content.decode(errors="replace").partition(":")[0].removeprefix("stopped ")


def _read_lease_state(trial: "Trial", content: bytes | WorkError | None) -> tuple[TrialStateName, str]:
    from gapctl.ledger.lease import parse_lease

    if isinstance(content, WorkError):
        return "damaged", str(content)
    lease = parse_lease(content)
    if lease is None or not lease.seems_alive:
        return "missing", ""
    return "running", f"{lease.samples_seen / max(1, trial.config.train.samples):.0%}, {lease.held_by}"


def _count_states(rows: list[TrialStatus]) -> dict[str, int]:
    states: tuple[TrialStateName, ...] = ("done", "running", "stopped", "failed", "damaged", "missing")
    return {state: sum(row.state == state for row in rows) for state in states}


def _print_statuses(rows: list[TrialStatus]) -> None:
    from rich.table import Table
    from rich.text import Text

    from gapctl.cli.output import make_plain_console

    table = Table("trial", "treatment", "state", "", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row.trial, Text(row.label), row.state, "" if row.state in PROBLEM_STATES else row.detail)
    console = make_plain_console()
    console.print(table)
    console.print(", ".join(f"{count} {state}" for state, count in _count_states(rows).items() if count))
