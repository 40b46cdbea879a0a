"""`gapctl cluster`: check and price cluster files before `ray up`, and run sweeps as jobs after it.

`cost`, `status`, `stop`, `lint` and `submit` each parse, call `gapctl.cluster`, and print.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gapctl.cli.console import make_plain_console, make_table
from gapctl.cli.options import (
    DEFAULT_RUNS,
    JsonOption,
    RunsOption,
    ScaleOption,
    SetOption,
    SweepFileArgument,
    announce_shipped_sweep,
    load_and_announce_sweep,
    load_plan,
)
from gapctl.cli.output import describe_counts, print_json_or_text
from gapctl.cli.store_requests import (
    build_request_fields,
    count_nodes_per_trial,
    describe_requests,
    estimate_request_cost,
)
from gapctl.cluster.cluster_files import ClusterFile, parse_cluster_documents, read_documents
from gapctl.cluster.cost import (
    CostAssumptions,
    CostEstimate,
    ImpossibleEstimate,
    PriceTable,
    choose_speed_reference_preset,
    estimate_costs,
    format_money,
    get_loss_rate,
    get_start_hours,
    load_shipped_prices,
    read_prices,
)
from gapctl.cluster.jobs import DEFAULT_ADDRESS, JobServer, JobState, build_job
from gapctl.cluster.lint import lint_cluster_file
from gapctl.cluster.machines import starts_from_image
from gapctl.config.load import load_sweep
from gapctl.errors import INTERRUPTED, InputError
from gapctl.ledger import Ledger
from gapctl.plan.estimate import count_trial_flops
from gapctl.plan.plan import Plan, Trial, list_planned_trainings, list_remaining_trials, make_plan

cluster_app = typer.Typer(
    name="cluster",
    help="Cluster files before `ray up`, and sweeps as jobs after it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)

ClusterFileArgument = Annotated[
    Path, typer.Argument(help="A file for `ray up`, or KubeRay's manifests.", show_default=False, metavar="FILE")
]
PricesOption = Annotated[
    Path | None, typer.Option("--prices", help="A table of prices and machines, instead of gapctl's.", metavar="FILE")
]
DashboardOption = Annotated[
    str,
    typer.Option(
        "--address", help="Ray's dashboard, as `ray dashboard` brings it here.", envvar="RAY_API_SERVER_ADDRESS"
    ),
]
FollowOption = Annotated[
    bool, typer.Option("--follow", help="Show what the job prints until it ends; Ctrl-C leaves it running.")
]


@cluster_app.callback()
def group_cluster_verbs() -> None:
    """Cluster files before `ray up`, and sweeps as jobs after it."""


def _make_sizing_plan(file: Path, scale: str | None, overrides: Sequence[str] | None) -> Plan:
    """Make a plan for counting trials without reading data, which may lie elsewhere.

    Its fingerprints are addresses, of data and of public models, so that its trial ids are not those of the sweep.
    """
    return make_plan(load_and_announce_sweep(file, scale, overrides), lambda data: data.address)


@cluster_app.command("lint")
def lint_command(
    file: ClusterFileArgument,
    sweep: Annotated[
        Path | None,
        typer.Option("--sweep", help="Also hold the machines to what this sweep's trials need.", metavar="SWEEP"),
    ] = None,
    scale: ScaleOption = None,
    overrides: SetOption = None,
    prices: PricesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find what is wrong with a cluster file: Ray's own schema, then what costs money, fails late or is not safe.

    Each finding names its line, the risk and the fix. The exit code is 1 if there is an error, 0 with warnings alone.
    """
    if sweep is None and (scale is not None or overrides):
        raise InputError("--scale and --set change a sweep: expected --sweep SWEEP beside them")
    plan = _make_sizing_plan(sweep, scale, overrides) if sweep else None
    issues = lint_cluster_file(file, plan, read_prices(prices) if prices else None)
    errors = sum(issue.severity == "error" for issue in issues)
    totals = {"error": errors, "warning": len(issues) - errors}
    findings = [{**issue._asdict(), "file": str(issue.file)} for issue in issues]
    lines = [*map(str, issues), f"{file}: {describe_counts(totals) or 'nothing found'}"]
    document = {"file": str(file), "findings": findings, "totals": totals}
    print_json_or_text(document, lambda: make_plain_console().print("\n".join(lines)), as_json)
    if errors:
        raise typer.Exit(1)


@cluster_app.command("cost")
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
    workers: Annotated[
        list[int] | None,
        typer.Option(
            "--workers", help="Workers of a trial, instead of the sweep's; repeat it to compare.", metavar="N"
        ),
    ] = None,
    prices: PricesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate hours and money of a sweep, per kind of machine, on the spot market and on demand.

    Each line is the whole sweep on that kind of machine alone, with the head, the start of machines, the network where
    several train one trial, and what losses of machines are expected to waste. Disks and the object store are left out.
    Where there is no estimate, a line says what was found; the exit code is 2 if there is none at all.
    """
    plan, trials = _list_trials_to_pay(sweep, scale, overrides, runs)
    table = read_prices(prices) if prices else load_shipped_prices()
    cluster, *_ = parse_cluster_documents(read_documents(file))
    changes = [(*(overrides or ()), f"resources.workers={number}") for number in workers or ()]
    asked = [load_sweep(sweep, scale, each).spec.resources for each in changes] or [plan.sweep.spec.resources]
    found = [estimate_costs(cluster, trials, resources, table) for resources in asked]
    estimates = [each for possible, _ in found for each in possible]
    impossible = [each for _, others in found for each in others]
    if not estimates:
        none = f"{file}: found no kind of worker that could train the sweep; expected one"
        raise InputError("\n".join([none, *map(str, impossible)]))
    flops = sum(count_trial_flops(trial) or 0 for trial in trials)
    nodes = count_nodes_per_trial(cluster, estimates, asked[0])
    requests = estimate_request_cost(trials, table, nodes)
    rows = [
        {key: _round_significant(value) if isinstance(value, float) else value for key, value in asdict(each).items()}
        for each in estimates
    ]
    print_json_or_text(
        {
            **build_request_fields(requests, table),
            "trials": len(trials),
            "flops": _round_significant(float(flops)),
            "estimates": rows,
            "impossible": [asdict(each) for each in impossible],
            "prices": table.model_dump(mode="json", include={"as_of", "checked", "currency", "region", "assumptions"}),
        },
        lambda: _print_costs(cluster, plan, trials, flops, estimates, impossible, table),
        as_json,
    )
    if not as_json:
        for line in describe_requests(requests, table):
            make_plain_console().print(line)


def _list_trials_to_pay(
    sweep: Path, scale: str | None, overrides: list[str] | None, runs: str | None
) -> tuple[Plan, Sequence[Trial]]:
    """Return a plan and the trials to pay for; read the data only where a ledger's ids are needed.

    The points of a search are not known in advance, so all of them count.
    """
    if runs is None:
        plan = _make_sizing_plan(sweep, scale, overrides)
        return plan, list_planned_trainings(plan)
    plan = load_plan(sweep, scale, overrides)
    if plan.sweep.spec.search is not None:
        return plan, list_planned_trainings(plan)
    return plan, list_remaining_trials(plan, frozenset(Ledger(runs).finished([trial.id for trial in plan.trainings])))


def _print_costs(
    cluster: ClusterFile,
    plan: Plan,
    trials: Sequence[Trial],
    flops: int,
    estimates: Sequence[CostEstimate],
    impossible: Sequence[ImpossibleEstimate],
    prices: PriceTable,
) -> None:
    console = make_plain_console()
    scale = f", scale {plan.sweep.scale}" if plan.sweep.scale else ""
    console.print(f"{plan.sweep.spec.name}{scale}: {len(trials)} trainings, {flops:.1e} FLOPs")
    headings = ("", "machine", "market", "trial", "count", "hours", "net", "workers", "lost", "head", "total")
    table = make_table(*headings)
    for each in estimates:
        network = each.network_hours / (each.machine_hours or 1.0)
        table.add_row(
            "*" if each.chosen else "",
            each.instance,
            each.market,
            str(each.trial_workers),
            str(each.machines),
            f"{_round_significant(each.hours, 2):g}",
            f"{network:.0%}",
            *map(format_money, (each.workers, each.lost, each.head, each.total)),
        )
    console.print(table)
    for other in impossible:
        console.print(f"no estimate for {other}")
    console.print("* is how the file buys; each line is the whole sweep on that kind alone, and the head meanwhile.")
    console.print(
        "trial: workers of each; count: machines at once; net: hours in which they wait for each other's data;"
    )
    console.print("lost: of the workers' money, for restarts, work done again, and checkpoints.")
    for line in _list_cost_assumptions(cluster, trials, estimates, prices):
        console.print(line)


def _list_cost_assumptions(
    cluster: ClusterFile, trials: Sequence[Trial], estimates: Sequence[CostEstimate], prices: PriceTable
) -> list[str]:
    """Say what the estimates rest on, and what is not in them."""
    assumed = prices.assumptions
    presets = sorted({choose_speed_reference_preset(trial.config.model) for trial in trials})
    reached = ", ".join(f"{assumed.gpu_mfu[name]:.0%} ({name})" for name in presets) or "some"
    state = "checked" if prices.checked else "typed in and not checked: compare them with the clouds' lists"
    regions = ", ".join(f"{region} ({cloud})" for cloud, region in prices.region.items())
    kinds = {each.instance: prices.instances[each.instance] for each in estimates}
    rates = sorted({get_loss_rate(machine, "spot", assumed) for machine in kinds.values()})
    spot = " to ".join(f"{rate:g}" for rate in (rates[0], *rates[1:][-1:]))
    starts, failures = _describe_starts(cluster, estimates, assumed), assumed.failures_per_hour
    lines = [
        f"Prices in {prices.currency} of {prices.as_of}, {regions}; {state}.",
        f"Assumed: GPUs reach {reached} of their peak; a machine takes {starts};",
        f"of 1 machine, {spot} are lost an hour on the spot market, and {failures:g} on demand.",
    ]
    if widest := max((each.zone_traffic for each in estimates), default=0.0):
        sent = max(each.traffic_gb for each in estimates)
        lines.append(
            f"Several machines that train one trial send each other up to {format_money(sent)} GB. Between zones that "
            f"would cost up to {format_money(widest)} more: name one zone, or take machines with several GPUs."
        )
    return [*lines, "Disks and the object store are not in it."]


def _describe_starts(cluster: ClusterFile, estimates: Sequence[CostEstimate], assumed: CostAssumptions) -> str:
    """Say how long machines take to start, for those with an environment from an image and for others."""
    estimated = {each.node for each in estimates}
    nodes = [node for node in cluster.workers if node.name in estimated]
    of_image = [node for node in nodes if starts_from_image(cluster, node)]
    installing = [node for node in nodes if node not in of_image]
    ways = {"its environment from an image": of_image, "installation": installing}
    told = [
        f"{60 * get_start_hours(cluster, kinds[0], assumed):g} min to start with {way}"
        + (f" ({', '.join(node.name for node in kinds)})" if of_image and installing else "")
        for way, kinds in ways.items()
        if kinds
    ]
    return ", ".join(told)


def _round_significant(value: float, digits: int = 3) -> float:
    return float(f"{value:.{digits}g}")


@cluster_app.command("submit")
def submit_command(
    file: SweepFileArgument,
    address: DashboardOption = DEFAULT_ADDRESS,
    scale: ScaleOption = None,
    overrides: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    follow: FollowOption = False,
) -> None:
    """Run a sweep as a job on a cluster's head; it survives this command and this machine.

    The sweep file is sent along; data and ledger must lie where all nodes see them. Without a tracking server in the
    file, runs go to MLflow on the head. With --follow the exit code is the sweep's.
    """
    job, console = build_job(file, scale, overrides or [], runs), make_plain_console()
    announce_shipped_sweep(file, job.file)
    server = JobServer(address)
    job_id, at = server.submit(job), _format_address(server)
    console.print(f"{job_id}: {job.entrypoint}")
    console.print(f"MLflow: {job.tracking}")
    if follow:
        _follow_job(server, job_id)
    console.print(f"follow: gapctl cluster status {job_id} --follow{at}")
    console.print(f"stop:   gapctl cluster stop {job_id}{at}")


def _format_address(server: JobServer) -> str:
    """Return the option that other commands need to find the server; empty for the default."""
    return "" if server.address == DEFAULT_ADDRESS else f" --address {server.address}"


def _follow_job(server: JobServer, job_id: str) -> NoReturn:
    """Print a job's output and exit with its outcome; Ctrl-C leaves the job running and says so."""
    try:
        state = server.follow_job(job_id, lambda lines: typer.echo(lines, nl=False))
    except KeyboardInterrupt:
        again = f"gapctl cluster status {job_id} --follow{_format_address(server)}"
        typer.echo(f"\n{job_id} goes on; follow it again: {again}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(f"{job_id}: {_describe_job(state)}", err=True)
    raise typer.Exit(state.outcome)


@cluster_app.command("status")
def jobs_command(
    job_id: Annotated[
        str | None, typer.Argument(help="One job; all of them if left out.", metavar="JOB", show_default=False)
    ] = None,
    address: DashboardOption = DEFAULT_ADDRESS,
    follow: FollowOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show a cluster's jobs, or one of them; the exit code of one that has ended is that of its sweep."""
    if follow and (job_id is None or as_json):
        raise InputError("--follow: expected one JOB, and no --json; `gapctl cluster status` lists them")
    server = JobServer(address)
    if job_id is not None and follow:
        _follow_job(server, job_id)
    jobs = server.list_jobs() if job_id is None else [server.get_job(job_id)]
    listed = [{**job._asdict(), "began": job.began.isoformat() if job.began else None} for job in jobs]
    print_json_or_text({"address": server.address, "jobs": listed}, lambda: _print_jobs(jobs, server.address), as_json)
    if job_id is not None and jobs[0].ended and jobs[0].outcome:
        raise typer.Exit(jobs[0].outcome)


def _print_jobs(jobs: Sequence[JobState], address: str) -> None:
    console = make_plain_console()
    if not jobs:
        console.print(f"{address}: no jobs yet")
    for job in jobs:
        began = job.began.astimezone().strftime("%Y-%m-%d %H:%M") if job.began else "not begun"
        console.print(f"{job.id}  {began}  {_describe_job(job)}  {job.command}")


def _describe_job(job: JobState) -> str:
    state = job.status.lower()
    if job.status == "FAILED" and job.exit_code is not None:
        state += f" with exit code {job.exit_code}"
    minutes = "" if job.seconds is None else f", {job.seconds / 60:.0f} min"
    return state + minutes


@cluster_app.command("stop")
def stop_command(
    job_id: Annotated[str, typer.Argument(help="The id that `submit` printed.", metavar="JOB", show_default=False)],
    address: DashboardOption = DEFAULT_ADDRESS,
) -> None:
    """Ask a job to save its checkpoints and end; the same `submit` goes on from there."""
    stopped = JobServer(address).stop(job_id)
    said = "asked to stop; what is in training writes its checkpoint" if stopped else "had ended before"
    make_plain_console().print(f"{job_id}: {said}")
