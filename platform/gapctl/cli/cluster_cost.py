"""`gapctl cluster cost`: hours and money of a sweep on each kind of machine of a cluster file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapctl.cli.cluster_options import ClusterFileArgument, PricesOption, plan_to_size
from gapctl.cli.options import JsonOption, ScaleOption, SetOption

if TYPE_CHECKING:
    from gapctl.cluster.cost import Estimate
    from gapctl.cluster.prices import Prices
    from gapctl.plan.trials import Plan, Trial


def cost_command(
    file: ClusterFileArgument,
    sweep: Annotated[
        Path, typer.Option("--sweep", help="The sweep: a file, or a name such as imbalance.", metavar="SWEEP")
    ],
    scale: ScaleOption = None,
    overrides: SetOption = None,
    runs: Annotated[
        str | None, typer.Option("--runs", help="A ledger, whose finished trials are not counted.", metavar="DIR")
    ] = None,
    prices: PricesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate hours and money of a sweep, per kind of machine, on the spot market and on demand.

    Each line is the whole sweep on that kind of machine alone, with the head, the start of machines, and the work that
    preemptions are expected to waste. Disks, traffic and the object store are not in it.
    """
    from gapctl.cluster.cost import estimates
    from gapctl.cluster.prices import read_prices, shipped_prices
    from gapctl.cluster.read import clusters_in, read_documents

    plan, trials = _trials(sweep, scale, overrides, runs)
    table = read_prices(prices) if prices else shipped_prices()
    cluster, *_ = clusters_in(read_documents(file))
    found = estimates(cluster, trials, plan.sweep.spec.resources, table)
    if as_json:
        typer.echo(json.dumps(_document(trials, found, table), indent=1))
    else:
        _print(plan, trials, found, table)


def _trials(
    sweep: Path, scale: str | None, overrides: list[str] | None, runs: str | None
) -> "tuple[Plan, Sequence[Trial]]":
    """A plan and the trials to pay for; only a ledger needs their true ids, and so their data.

    Of a search, whose points are not known before, all.
    """
    from gapctl.plan.search import to_be_trained

    if runs is None:
        plan = plan_to_size(sweep, scale, overrides)
        return plan, to_be_trained(plan)
    from gapctl.cli.context import plan_for
    from gapctl.ledger import Ledger
    from gapctl.plan.left import left_of

    plan = plan_for(sweep, scale, overrides)
    if plan.sweep.spec.search is not None:
        return plan, to_be_trained(plan)
    return plan, left_of(plan, frozenset(Ledger(runs).finished([trial.id for trial in plan.trainings])))


def _document(trials: "Sequence[Trial]", found: "Sequence[Estimate]", table: "Prices") -> dict[str, Any]:
    from dataclasses import asdict

    from gapctl.plan.cost import trial_flops

    rows = [{key: _rounded(value) for key, value in asdict(estimate).items()} for estimate in found]
    return {
        "trials": len(trials),
        "flops": _rounded(float(sum(map(trial_flops, trials)))),
        "estimates": rows,
        "prices": table.model_dump(mode="json", include={"as_of", "checked", "currency", "region", "assumptions"}),
    }


def _print(plan: "Plan", trials: "Sequence[Trial]", found: "Sequence[Estimate]", table: "Prices") -> None:
    from rich.table import Table

    from gapctl.cli.terminal import plain_console
    from gapctl.plan.cost import trial_flops

    console = plain_console()
    scale = f", scale {plan.sweep.scale}" if plan.sweep.scale else ""
    flops = sum(map(trial_flops, trials))
    console.print(f"{plan.sweep.spec.name}{scale}: {len(trials)} trainings, {flops:.1e} FLOPs")
    columns = ("", "machine", "market", "at once", "hours", "workers", "of it lost", "head", "total")
    shown = Table(*columns, box=None, pad_edge=False)
    for each in found:
        shown.add_row(
            "*" if each.chosen else "",
            each.instance,
            each.market,
            str(each.machines),
            f"{_rounded(each.hours, 2):g}",
            *(_money(amount) for amount in (each.workers, each.lost, each.head, each.total)),
        )
    console.print(shown)
    for line in _notes(table, {trial.config.model.preset for trial in trials}):
        console.print(line)


def _notes(table: "Prices", presets: set[str]) -> list[str]:
    assumed = table.assumptions
    reached = ", ".join(f"{assumed.gpu_mfu[name]:.0%} ({name})" for name in sorted(presets)) or "some"
    state = "checked" if table.checked else "typed in and not checked: compare them with the clouds' lists"
    regions = ", ".join(f"{region} ({cloud})" for cloud, region in table.region.items())
    assumptions = (
        f"Assumed: GPUs reach {reached} of their peak, a machine takes {assumed.start_minutes:g} min to "
        f"start, a spot machine is taken away {assumed.preemptions_per_hour:g} times an hour."
    )
    return [
        "* is how the file buys; each line is the whole sweep on that kind alone, and the head meanwhile.",
        f"Prices in {table.currency} of {table.as_of}, {regions}; {state}.",
        assumptions,
        "Disks, traffic and the object store are not in it.",
    ]


def _money(amount: float) -> str:
    """Two digits that mean something, and no cent where there are hundreds."""
    if 0 < amount < 0.01:
        return "< 0.01"
    rounded = _rounded(amount, 2)
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:.2f}"


def _rounded(value: Any, digits: int = 3) -> Any:
    """A float to so many significant digits; anything else as it is."""
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
