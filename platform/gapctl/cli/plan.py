"""`gapctl plan`: what a sweep would train, what of it is done, and what the rest costs; runs nothing."""

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import typer

from gapctl.cli.options import DEFAULT_RUNS, JsonOption, RunsOption, ScaleOption, SetOption, SweepFileArgument

if TYPE_CHECKING:
    from rich.console import Console

    from gapctl.cli.sweep import Room
    from gapctl.ledger.search_record import SearchRecord
    from gapctl.plan.estimate import Cost
    from gapctl.plan.plan import Plan, Trial


@dataclass(frozen=True)
class Planned:
    """A plan, the ids of its trials that a ledger has finished, and what all of it and what is left of it costs.

    `beyond` says which of the file's limits that exceeds, `rooms` which disks of this machine it would write to.
    """

    plan: "Plan"
    runs: str
    finished: frozenset[str]
    cost: "Cost"
    left: "Cost"
    beyond: tuple[str, ...] = ()
    rooms: "tuple[Room, ...]" = ()


def plan_command(
    file: SweepFileArgument,
    scale: ScaleOption = None,
    overrides: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    as_json: JsonOption = False,
) -> None:
    """Trials, samples, FLOPs, hours: what a sweep would do, and how much of it is done."""
    from gapctl.cli.options import plan_for

    plan = plan_for(file, scale, overrides)
    if plan.sweep.spec.search is not None:
        show_search(plan, runs, as_json=as_json)
        return
    planned = _planned(plan, runs)
    if as_json:
        typer.echo(json.dumps(_document(planned), indent=1))
    else:
        _print(planned)


def _planned(plan: "Plan", runs: str) -> Planned:
    from gapctl.cli.sweep import beyond_limits, rooms_for
    from gapctl.ledger import Ledger
    from gapctl.plan.estimate import cost_of, slots_on
    from gapctl.plan.plan import left_of

    trainings = plan.trainings
    ledger = Ledger(runs)
    finished = frozenset(ledger.finished([trial.id for trial in trainings]))
    left = left_of(plan, finished)
    slots = slots_on(plan, os.cpu_count() or 1)
    cost = cost_of(left, slots)
    return Planned(
        plan,
        runs,
        finished,
        cost_of(trainings, slots),
        cost,
        tuple(beyond_limits(plan, ledger, cost)),
        tuple(rooms_for(plan, left, ledger, None)) if left else (),
    )


def _document(planned: Planned) -> dict[str, Any]:
    from gapctl.plan.power import few_steps

    trials, preparations = (
        [_entry(trial, planned) for trial in listed] for listed in (planned.plan.trials, planned.plan.preparations)
    )
    left = {f"left_{name}": value for name, value in asdict(planned.left).items()}
    limits = {"beyond_limits": list(planned.beyond)} if planned.beyond else {}
    few = few_steps(planned.plan)
    steps = {"few_steps": few} if few else {}
    disks = {"disks": [room._asdict() for room in planned.rooms]}
    totals = {**asdict(planned.cost), "finished": len(planned.finished), **left, **disks, **limits, **steps}
    return {"trials": trials, "totals": totals, **({"preparations": preparations} if preparations else {})}


def _entry(trial: "Trial", planned: Planned) -> dict[str, Any]:
    return {
        "id": trial.id,
        "label": trial.label,
        "seed": trial.seed,
        "factors": dict(trial.factors),
        "config": trial.config.model_dump(mode="json"),
        "steps": trial.config.train.steps,
        "finished": trial.id in planned.finished,
    }


def _print(planned: Planned) -> None:
    from gapctl.cli.output import plain_console
    from gapctl.plan.plan import packed
    from gapctl.plan.power import few_steps, out_of_reach

    plan, console = planned.plan, plain_console()
    console.print(f"{plan.sweep.spec.name}: {plan.sweep.spec.question}")
    _print_trials(planned, console)
    console.print(f"{planned.cost.trials} trials, {costs_words(planned.cost)}")
    if planned.finished:
        console.print(_left(planned))
    for line in (*few_steps(plan), *planned.beyond, *(f"disk: {room.state}" for room in planned.rooms)):
        console.print(line)
    if (most := plan.sweep.spec.resources.pack) > 1:
        count = len(packed(plan.trials, most))
        console.print(
            f"in {count} packs of at most {most} trials that train together; hours are those of trials one by one"
        )
    hashes = f"hypotheses sha256 {plan.sweep.hypotheses_sha256[:12]}, scale {plan.sweep.scale or 'none'}"
    console.print(f"{len(plan.sweep.spec.hypotheses)} hypotheses; {hashes}")
    for line in out_of_reach(plan.sweep.spec):
        console.print(line)


def _print_trials(planned: Planned, console: "Console") -> None:
    """The trials, and which are finished where any is."""
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


def _left(planned: Planned) -> str:
    done = f"{len(planned.finished)} of them finished in {planned.runs}"
    left = planned.left
    return f"{done}; {left.trials} left, {costs_words(left)}" if left.trials else f"{done}; nothing is left to train"


def costs_words(cost: "Cost") -> str:
    """Samples, operations and hours in a line."""
    hours = f"about {_duration(cost.cpu_hours)} of one CPU core, {_duration(cost.wall_hours)} on this machine"
    return f"{cost.samples:,} samples, {cost.flops:.2e} FLOPs: {hours}"


def _duration(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{max(1, round(hours * 60))} min"


def show_search(plan: "Plan", runs: str, *, as_json: bool) -> None:
    """Prints the search of a plan that `plan_for` made."""
    from gapctl.cli.options import record_of
    from gapctl.ledger import Ledger
    from gapctl.plan.estimate import cost_of, slots_on
    from gapctl.plan.plan import to_be_trained

    record = record_of(plan, Ledger(runs))
    cost = cost_of(to_be_trained(plan), slots_on(plan, os.cpu_count() or 1))
    if as_json:
        typer.echo(json.dumps(_search_plan_document(plan, record, cost), indent=1))
    else:
        _print_search_plan(plan, record, cost, runs)


def _search_plan_document(plan: "Plan", record: "SearchRecord | None", cost: "Cost") -> dict[str, Any]:
    from gapctl.plan.plan import search_of

    ended = [] if record is None else [drawn for drawn in record.drawn if drawn.state in ("done", "stopped")]
    search = search_of(plan.sweep).model_dump(mode="json", exclude_none=True)
    return {"search": search, "totals": {**asdict(cost), "ended": len(ended)}}


def _print_search_plan(plan: "Plan", record: "SearchRecord | None", cost: "Cost", runs: str) -> None:
    from gapctl.cli.output import plain_console
    from gapctl.plan.plan import search_of
    from gapctl.report.search_page import standing

    search, spec, console = search_of(plan.sweep), plan.sweep.spec, plain_console()
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
    console.print(f"at most {costs_words(cost)}")
    if record is not None:
        console.print(f"in {runs}: {standing(record)}")
