"""`gapctl plan`: what a sweep would train and what that costs; runs nothing."""

import json
import os
from typing import Any

import typer

from gapctl.cli.options import JsonOption, ScaleOption, SetOption, SweepFileArgument


def plan_command(
    file: SweepFileArgument,
    scale: ScaleOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trials, samples, FLOPs, hours: what a sweep would do."""
    from gapctl.cli.context import plan_for
    from gapctl.plan.cost import cost_of, slots_on

    plan = plan_for(file, scale, overrides)
    cost = cost_of(plan.trainings, slots_on(plan, os.cpu_count() or 1))
    if as_json:
        typer.echo(json.dumps(_document(plan, cost), indent=1))
    else:
        _print(plan, cost)


def _document(plan: Any, cost: Any) -> dict[str, Any]:
    from dataclasses import asdict

    trials = [
        {
            "id": trial.id,
            "label": trial.label,
            "seed": trial.seed,
            "factors": dict(trial.factors),
            "config": trial.config.model_dump(mode="json"),
        }
        for trial in plan.trials
    ]
    return {"trials": trials, "totals": asdict(cost)}


def _print(plan: Any, cost: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    from gapctl.cli.terminal import plain_console
    from gapctl.plan.packs import packed
    from gapctl.plan.reach import out_of_reach

    table = Table("trial", "treatment", "samples", box=None, pad_edge=False)
    for trial in plan.trainings:
        table.add_row(trial.id, Text(trial.label), f"{trial.config.train.samples:,}")
    console = plain_console()
    console.print(f"{plan.sweep.spec.name}: {plan.sweep.spec.question}")
    console.print(table)
    console.print(
        f"{cost.trials} trials, {cost.samples:,} samples, {cost.flops:.2e} FLOPs: "
        f"about {_duration(cost.cpu_hours)} of one CPU core, {_duration(cost.wall_hours)} on this machine"
    )
    if (most := plan.sweep.spec.resources.pack) > 1:
        count = len(packed(plan.trials, most))
        console.print(
            f"in {count} packs of at most {most} trials that train together; hours are those of trials one by one"
        )
    hashes = f"hypotheses sha256 {plan.sweep.hypotheses_sha256[:12]}, scale {plan.sweep.scale or 'none'}"
    console.print(f"{len(plan.sweep.spec.hypotheses)} hypotheses; {hashes}")
    for line in out_of_reach(plan.sweep.spec):
        console.print(line)


def _duration(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{max(1, round(hours * 60))} min"
