"""`gapctl plan` of a file with `search`: what may be drawn, how much of it is, and what all of it costs at most."""

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from gapctl.ledger.search_record import SearchRecord
    from gapctl.plan.cost import Cost
    from gapctl.plan.trials import Plan


def show_search(plan: "Plan", runs: str, *, as_json: bool) -> None:
    """Prints the search of a plan that `plan_for` made."""
    from gapctl.cli.drawn import record_of
    from gapctl.ledger import Ledger
    from gapctl.plan.cost import cost_of, slots_on
    from gapctl.plan.search import to_be_trained

    record = record_of(plan, Ledger(runs))
    cost = cost_of(to_be_trained(plan), slots_on(plan, os.cpu_count() or 1))
    if as_json:
        typer.echo(json.dumps(_document(plan, record, cost), indent=1))
    else:
        _print(plan, record, cost, runs)


def _document(plan: "Plan", record: "SearchRecord | None", cost: "Cost") -> dict[str, Any]:
    from gapctl.plan.search import search_of

    ended = [] if record is None else [drawn for drawn in record.drawn if drawn.state in ("done", "stopped")]
    search = search_of(plan.sweep).model_dump(mode="json", exclude_none=True)
    return {"search": search, "totals": {**asdict(cost), "ended": len(ended)}}


def _print(plan: "Plan", record: "SearchRecord | None", cost: "Cost", runs: str) -> None:
    from gapctl.cli.plan import costs_words
    from gapctl.cli.terminal import plain_console
    from gapctl.plan.search import search_of
    from gapctl.report.search.words import standing

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
