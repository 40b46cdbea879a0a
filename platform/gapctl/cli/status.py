"""`gapctl status`: list the state of each trial of a sweep, or the states of all sweeps, from the ledger.

1. `status_command` reads the states of one sweep's trials, or, without a file, calls `_report_all_sweeps`.
2. `_read_statuses` gives each trial its state: by its result, its failure, its stop or its lease, in that order.
3. `_list_sweep_statuses` counts them for each scale that a declaration of the ledger lists, and
   `_list_search_statuses` for searches.
"""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple, get_args

import typer

from gapctl.analysis.service import rebuild_plans
from gapctl.cli.completion import complete_sweeps
from gapctl.cli.console import make_plain_console, make_table
from gapctl.cli.options import (
    DEFAULT_RUNS,
    JsonOption,
    RunsOption,
    ScaleOption,
    SetOption,
    load_plan_or_drawn_points,
)
from gapctl.cli.output import exit_on_problems, print_json_or_text
from gapctl.errors import GapctlError, InputError, WorkError
from gapctl.ledger import Ledger, LedgerSnapshot, Result
from gapctl.ledger.lease import LEASE_FILE, parse_lease
from gapctl.ledger.preregistration import rebuild_plan
from gapctl.ledger.search_record import SearchRecord
from gapctl.ledger.trial import FAILURE, STOPPED, decode_failure
from gapctl.plan.command_line import build_ledger_arguments, build_plan_arguments
from gapctl.plan.plan import Trial

TrialStateName = Literal["done", "running", "stopped", "failed", "damaged", "missing"]
PROBLEM_STATES: Final[tuple[TrialStateName, ...]] = ("failed", "damaged")


class TrialStatus(NamedTuple):
    """One line of the status table."""

    trial: str
    label: str
    state: TrialStateName
    detail: str


class SweepStatus(NamedTuple):
    """A sweep at one scale: how many of its trials are in each state, and the arguments that name it."""

    sweep: str
    scale: str
    totals: Mapping[str, int]
    arguments: Sequence[str]


def status_command(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A sweep: a file, or a name such as imbalance; every sweep of the ledger if left out.",
            show_default=False,
            metavar="FILE",
            autocompletion=complete_sweeps,
        ),
    ] = None,
    scale: ScaleOption = None,
    overrides: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    as_json: JsonOption = False,
) -> None:
    """Which trials are done, running, stopped by a search, failed or missing; of one sweep or of all."""
    ledger = LedgerSnapshot(runs)
    if file is None:
        if scale is not None or overrides:
            raise InputError("--scale and --set belong to a sweep; expected its file or name before them")
        _report_all_sweeps(ledger, as_json=as_json)
        return
    plan = load_plan_or_drawn_points(file, scale, overrides, ledger)
    rows = _read_statuses(ledger, plan.trainings, searched=plan.sweep.spec.search is not None)
    totals = {state: sum(row.state == state for row in rows) for state in get_args(TrialStateName)}
    print_json_or_text(
        {"trials": [row._asdict() for row in rows], "totals": totals}, lambda: _print_statuses(rows, totals), as_json
    )
    exit_on_problems(
        f"{row.label} ({row.trial}) {row.state}: {row.detail}" for row in rows if row.state in PROBLEM_STATES
    )


def _report_all_sweeps(ledger: Ledger, *, as_json: bool) -> None:
    problems: list[GapctlError] = []
    sweeps = [*_list_sweep_statuses(ledger, problems), *_list_search_statuses(ledger, problems)]
    if not sweeps and not problems:
        raise InputError(
            f"{ledger.root}: keeps no sweep; expected a folder that `gapctl sweep FILE` wrote to. Run one, or name the "
            "ledger with --runs"
        )
    document = [{"sweep": each.sweep, "scale": each.scale, "totals": dict(each.totals)} for each in sweeps]
    print_json_or_text({"sweeps": document}, lambda: _print_sweep_statuses(sweeps), as_json)
    exit_on_problems([*map(str, problems), *(line for each in sweeps for line in _explain_problems(each))])


def _list_sweep_statuses(ledger: Ledger, problems: list[GapctlError]) -> Iterator[SweepStatus]:
    for plan in rebuild_plans(ledger, ledger.list_sweeps(), rebuild_plan, problems):
        states = Counter(row.state for row in _read_statuses(ledger, plan.trainings, searched=False))
        totals = {state: states[state] for state in get_args(TrialStateName)}
        arguments = build_plan_arguments(plan, ledger.root)
        yield SweepStatus(plan.sweep.spec.name, plan.sweep.scale_name_or_base, totals, arguments)


def _list_search_statuses(ledger: Ledger, problems: list[GapctlError]) -> Iterator[SweepStatus]:
    for name in ledger.list_searches():
        try:
            record = ledger.search(name)
        except GapctlError as error:
            problems.append(error)
            continue
        if record is None or name.endswith(f".{record.study.replace('/', '_')}"):  # another study came after it
            continue
        sweep, _, scale = name.partition(".")
        totals = _count_points(ledger, record)
        yield SweepStatus(sweep, scale, totals, [sweep, "--scale", scale, *build_ledger_arguments(ledger.root)])


def _count_points(ledger: Ledger, record: SearchRecord) -> dict[str, int]:
    """Count a search's points by state; one whose training was killed is missing, as those not drawn yet are."""
    running = [drawn.trial for drawn in record.drawn if drawn.state == "running"]
    leases = [parse_lease(content) for content in ledger.contents(running, LEASE_FILE) if isinstance(content, bytes)]
    states = Counter(drawn.state for drawn in record.drawn)
    states["running"] = sum(lease is not None and lease.seems_alive for lease in leases)
    totals = {state: states.get(state, 0) for state in get_args(TrialStateName)}
    return totals | {"missing": max(0, record.asked - sum(totals.values()))}


def _print_sweep_statuses(sweeps: Sequence[SweepStatus]) -> None:
    table = make_table("sweep", "scale", "done", "")
    for each in sweeps:
        others = [f"{count} {state}" for state, count in each.totals.items() if count and state != "done"]
        done = f"{each.totals['done']} of {sum(each.totals.values())}"
        table.add_row(each.sweep, each.scale, done, ", ".join(others))
    console = make_plain_console()
    console.print(table)
    console.print("gapctl status FILE says it of each trial.")


def _explain_problems(each: SweepStatus) -> Iterator[str]:
    counts = [f"{each.totals[state]} {state}" for state in PROBLEM_STATES if each.totals[state]]
    if counts:
        command = shlex.join(["gapctl", "status", *each.arguments])
        yield f"{each.sweep}, scale {each.scale}: {' and '.join(counts)}; `{command}` says why"


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
