"""`gapctl plan`: list what a sweep would train, what of it is done, and what the rest costs; it runs nothing."""

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import typer

from gapctl.cli.options import DEFAULT_RUNS, JsonOption, RunsOption, ScaleOption, SetOption, SweepFileArgument

if TYPE_CHECKING:
    from rich.console import Console

    from gapctl.cli.sweep import DiskSpace
    from gapctl.ledger.search_record import SearchRecord
    from gapctl.plan.estimate import Cost
    from gapctl.plan.plan import Plan, Trial


@dataclass(frozen=True)
class PlanOverview:
    """A plan, the ids of its trials that a ledger has finished, and the cost of all trials and of the remaining ones.

    `beyond` lists the limits of the file that this exceeds, `rooms` the disks of this machine that it would write to.
    """

    plan: "Plan"
    runs: str
    finished: frozenset[str]
    cost: "Cost"
    left: "Cost"
    beyond: tuple[str, ...] = ()
    rooms: "tuple[DiskSpace, ...]" = ()


def plan_command(
    file: SweepFileArgument,
    scale: ScaleOption = None,
    overrides: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    as_json: JsonOption = False,
) -> None:
    """Trials, samples, FLOPs, hours: what a sweep would do, and how much of it is done."""
    from gapctl.cli.options import load_plan

    plan = load_plan(file, scale, overrides)
    if plan.sweep.spec.search is not None:
        show_search_plan(plan, runs, as_json=as_json)
        return
    planned = _estimate_plan(plan, runs)
    if as_json:
        typer.echo(json.dumps(_build_plan_document(planned), indent=1))
    else:
        _print_plan(planned)


def _estimate_plan(plan: "Plan", runs: str) -> PlanOverview:
    from gapctl.cli.sweep import list_exceeded_limits, measure_disks
    from gapctl.ledger import Ledger
    from gapctl.plan.estimate import count_slots, estimate_cost
    from gapctl.plan.plan import list_remaining_trials

    trainings = plan.trainings
    ledger = Ledger(runs)
    finished = frozenset(ledger.finished([trial.id for trial in trainings]))
    left = list_remaining_trials(plan, finished)
    slots = count_slots(plan, os.cpu_count() or 1)
    cost = estimate_cost(left, slots)
    return PlanOverview(
        plan,
        runs,
        finished,
        estimate_cost(trainings, slots),
        cost,
        tuple(list_exceeded_limits(plan, ledger, cost)),
        tuple(measure_disks(plan, left, ledger, None)) if left else (),
    )


def _build_plan_document(planned: PlanOverview) -> dict[str, Any]:
    from gapctl.plan.power import warn_few_steps

    trials, preparations = (
        [_describe_trial(trial, planned) for trial in listed]
        for listed in (planned.plan.trials, planned.plan.preparations)
    )
    left = {f"left_{name}": value for name, value in asdict(planned.left).items()}
    limits = {"beyond_limits": list(planned.beyond)} if planned.beyond else {}
    few = warn_few_steps(planned.plan)
    steps = {"few_steps": few} if few else {}
    disks = {"disks": [room._asdict() for room in planned.rooms]}
    totals = {**asdict(planned.cost), "finished": len(planned.finished), **left, **disks, **limits, **steps}
    return {"trials": trials, "totals": totals, **({"preparations": preparations} if preparations else {})}


def _describe_trial(trial: "Trial", planned: PlanOverview) -> dict[str, Any]:
    return {
        "id": trial.id,
        "label": trial.label,
        "seed": trial.seed,
        "factors": dict(trial.factors),
        "config": trial.config.model_dump(mode="json"),
        "steps": trial.config.train.steps,
        "finished": trial.id in planned.finished,
    }


def _print_plan(planned: PlanOverview) -> None:
    from gapctl.cli.output import make_plain_console
    from gapctl.plan.plan import pack_trials
    from gapctl.plan.power import find_undecidable, warn_few_steps

    plan, console = planned.plan, make_plain_console()
    console.print(f"{plan.sweep.spec.name}: {plan.sweep.spec.question}")
    _print_trials(planned, console)
    console.print(f"{planned.cost.trials} trials, {describe_cost(planned.cost)}")
    if planned.finished:
        console.print(_describe_remaining(planned))
    for line in (*warn_few_steps(plan), *planned.beyond, *(f"disk: {room.state}" for room in planned.rooms)):
        console.print(line)
    if (most := plan.sweep.spec.resources.pack) > 1:
        count = len(pack_trials(plan.trials, most))
        console.print(
            f"in {count} packs of at most {most} trials that train together; hours are those of trials one by one"
        )
    hashes = f"hypotheses sha256 {plan.sweep.hypotheses_sha256[:12]}, scale {plan.sweep.scale or 'none'}"
    console.print(f"{len(plan.sweep.spec.hypotheses)} hypotheses; {hashes}")
    for line in find_undecidable(plan.sweep.spec):
        console.print(line)


def _print_trials(planned: PlanOverview, console: "Console") -> None:
    """Print the trials, and which are finished where any is."""
    from rich.table import Table
    from rich.text import Text

    columns = ["trial", "treatment", "samples", "steps", *(["state"] if planned.finished else [])]
    table = Table(*columns, box=None, pad_edge=False)
    for trial in planned.plan.trainings:
        state = ["finished" if trial.id in planned.finished else ""] if planned.finished else []
        table.add_row(
            trial.id, Text(trial.label), f"{trial.config.train.samples:,}", f"{trial.config.train.steps:,}", *state
        )
    console.print(table)


def _describe_remaining(planned: PlanOverview) -> str:
    done = f"{len(planned.finished)} of them finished in {planned.runs}"
    left = planned.left
    return f"{done}; {left.trials} left, {describe_cost(left)}" if left.trials else f"{done}; nothing is left to train"


def describe_cost(cost: "Cost") -> str:
    """Describe samples, operations and hours in a line."""
    hours = f"about {_format_hours(cost.cpu_hours)} of one CPU core, {_format_hours(cost.wall_hours)} on this machine"
    return f"{cost.samples:,} samples, {cost.flops:.2e} FLOPs: {hours}"


def _format_hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{max(1, round(hours * 60))} min"


def show_search_plan(plan: "Plan", runs: str, *, as_json: bool) -> None:
    """Print the search of a plan that `load_plan` made."""
    from gapctl.cli.options import read_search_record
    from gapctl.ledger import Ledger
    from gapctl.plan.estimate import count_slots, estimate_cost
    from gapctl.plan.plan import list_planned_trainings

    record = read_search_record(plan, Ledger(runs))
    cost = estimate_cost(list_planned_trainings(plan), count_slots(plan, os.cpu_count() or 1))
    if as_json:
        typer.echo(json.dumps(_build_search_document(plan, record, cost), indent=1))
    else:
        _print_search_plan(plan, record, cost, runs)


def _build_search_document(plan: "Plan", record: "SearchRecord | None", cost: "Cost") -> dict[str, Any]:
    from gapctl.plan.plan import get_search

    ended = [] if record is None else [drawn for drawn in record.drawn if drawn.state in ("done", "stopped")]
    search = get_search(plan.sweep).model_dump(mode="json", exclude_none=True)
    return {"search": search, "totals": {**asdict(cost), "ended": len(ended)}}


def _print_search_plan(plan: "Plan", record: "SearchRecord | None", cost: "Cost", runs: str) -> None:
    from gapctl.cli.output import make_plain_console
    from gapctl.plan.plan import get_search
    from gapctl.report.search_page import summarise_search

    search, spec, console = get_search(plan.sweep), plan.sweep.spec, make_plain_console()
    console.print(f"{spec.name}: {spec.question}")
    console.print(
        f"a search: {search.trials} points for the best {search.metric} ({search.direction}), drawn by {search.sampler}"
    )
    for path, domain in search.space.items():
        console.print(f"  {path}: {domain.kind} {', '.join(map(str, domain.values))}")
    samples = spec.base.train.samples
    if search.stop_early is not None:
        after, best = search.stop_early.after, search.stop_early.reduce
        console.print(f"from {after:,} of {samples:,} samples on, what is not among the best 1/{best} is stopped")
    console.print(f"at most {describe_cost(cost)}")
    if record is not None:
        console.print(f"in {runs}: {summarise_search(record)}")
