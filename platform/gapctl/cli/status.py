"""`gapctl status`: list the state of each trial of a sweep, from the ledger."""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, get_args

from gapctl.cli.console import make_plain_console, make_table
from gapctl.cli.options import (
    DEFAULT_RUNS,
    JsonOption,
    RunsOption,
    ScaleOption,
    SetOption,
    SweepFileArgument,
    load_ledger_plan,
)
from gapctl.cli.output import emit, exit_on_problems
from gapctl.errors import WorkError
from gapctl.ledger import Ledger, Result
from gapctl.ledger.lease import LEASE_FILE, parse_lease
from gapctl.ledger.trial import FAILURE, STOPPED, decode_failure
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
    ledger = Ledger(runs)
    plan = load_ledger_plan(file, scale, overrides, ledger)
    rows = _read_statuses(ledger, plan.trainings, searched=plan.sweep.spec.search is not None)
    totals = {state: sum(row.state == state for row in rows) for state in get_args(TrialStateName)}
    emit({"trials": [row._asdict() for row in rows], "totals": totals}, lambda: _print_statuses(rows, totals), as_json)
    exit_on_problems(
        f"{row.label} ({row.trial}) {row.state}: {row.detail}" for row in rows if row.state in PROBLEM_STATES
    )


def _read_statuses(ledger: Ledger, trials: Sequence[Trial], *, searched: bool) -> list[TrialStatus]:
    """Read the state of each trial from the ledger; only a search stops any."""
    results = ledger.results([trial.id for trial in trials])
    unfinished = [trial.id for trial, result in zip(trials, results, strict=True) if result is None]
    failures = dict(zip(unfinished, ledger.contents(unfinished, FAILURE), strict=True))
    leases = dict(zip(unfinished, ledger.contents(unfinished, LEASE_FILE), strict=True))
    stops = dict(zip(unfinished, ledger.contents(unfinished, STOPPED), strict=True)) if searched else {}

    rows = []
    for trial, result in zip(trials, results, strict=True):
        if isinstance(result, Result):
            state: tuple[TrialStateName, str] = "done", f"{result.seconds:.0f} s"
        elif result is not None:
            state = "damaged", str(result)
        else:
            ended = _read_failure_state(ledger, trial, failures[trial.id])
            if ended is None and isinstance(stop := stops.get(trial.id), bytes):
                reason = stop.decode(errors="replace").partition(":")[0]
                ended = "stopped", reason.removeprefix("stopped ")
            state = ended or _read_lease_state(trial, leases[trial.id])
        rows.append(TrialStatus(trial.id, trial.label, *state))
    return rows


def _read_failure_state(
    ledger: Ledger, trial: Trial, content: bytes | WorkError | None
) -> tuple[TrialStateName, str] | None:
    if not isinstance(content, bytes):
        return None if content is None else ("damaged", str(content))
    why = (decode_failure(content).strip() or "for a reason that was not kept").splitlines()[-1]
    return "failed", f"{why}; its traceback is in {ledger.trial(trial.id).path(FAILURE)}"


def _read_lease_state(trial: Trial, content: bytes | WorkError | None) -> tuple[TrialStateName, str]:
    if isinstance(content, WorkError):
        return "damaged", str(content)
    lease = parse_lease(content)
    if lease is None or not lease.seems_alive:
        return "missing", ""
    return "running", f"{lease.samples_seen / max(1, trial.config.train.samples):.0%}, {lease.held_by}"


def _print_statuses(rows: list[TrialStatus], totals: dict[str, int]) -> None:
    table = make_table("trial", "treatment", "state", "")
    for row in rows:
        table.add_row(row.trial, row.label, row.state, "" if row.state in PROBLEM_STATES else row.detail)
    console = make_plain_console()
    console.print(table)
    console.print(", ".join(f"{count} {state}" for state, count in totals.items() if count))
