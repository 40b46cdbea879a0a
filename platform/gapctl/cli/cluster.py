"""`gapctl cluster`: check and price cluster files before `ray up`, and run sweeps as jobs after it.

`cost`, `status`, `stop`, `lint` and `submit` each parse, call `gapctl.cluster`, and print.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapctl.cli.options import DEFAULT_RUNS, JsonOption, RunsOption, ScaleOption, SetOption, SweepFileArgument

if TYPE_CHECKING:
    from gapctl.cluster.cost import CostEstimate, PriceTable
    from gapctl.cluster.files import LintIssue
    from gapctl.cluster.jobs import JobServer, JobState
    from gapctl.plan.plan import Plan, Trial


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
DEFAULT_ADDRESS = "http://127.0.0.1:8265"


def make_sizing_plan(file: Path, scale: str | None, overrides: Sequence[str] | None) -> "Plan":
    """Make a plan for counting trials without reading data, which may lie elsewhere.

    Its fingerprints are the data's addresses, so that its trial ids are not those of the sweep.
    """
    from gapctl.cli.options import open_sweep
    from gapctl.plan.plan import make_plan

    return make_plan(open_sweep(file, scale, overrides), lambda data: data.source)


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
    from gapctl.cluster.cost import estimate_costs, load_shipped_prices, read_prices
    from gapctl.cluster.files import find_clusters, read_documents

    plan, trials = _list_trials_to_pay(sweep, scale, overrides, runs)
    table = read_prices(prices) if prices else load_shipped_prices()
    cluster, *_ = find_clusters(read_documents(file))
    found = estimate_costs(cluster, trials, plan.sweep.spec.resources, table)
    if as_json:
        typer.echo(json.dumps(_build_cost_document(trials, found, table), indent=1))
    else:
        _print_costs(plan, trials, found, table)


def _list_trials_to_pay(
    sweep: Path, scale: str | None, overrides: list[str] | None, runs: str | None
) -> "tuple[Plan, Sequence[Trial]]":
    """Return a plan and the trials to pay for; read the data only where a ledger's ids are needed.

    The points of a search are not known in advance, so all of them count.
    """
    from gapctl.plan.plan import list_planned_trainings

    if runs is None:
        plan = make_sizing_plan(sweep, scale, overrides)
        return plan, list_planned_trainings(plan)
    from gapctl.cli.options import load_plan
    from gapctl.ledger import Ledger
    from gapctl.plan.plan import list_remaining_trials

    plan = load_plan(sweep, scale, overrides)
    if plan.sweep.spec.search is not None:
        return plan, list_planned_trainings(plan)
    return plan, list_remaining_trials(plan, frozenset(Ledger(runs).finished([trial.id for trial in plan.trainings])))


def _build_cost_document(
    trials: "Sequence[Trial]", found: "Sequence[CostEstimate]", table: "PriceTable"
) -> dict[str, Any]:
    from dataclasses import asdict

    from gapctl.plan.estimate import count_trial_flops

    rows = [{key: _round_significant(value) for key, value in asdict(estimate).items()} for estimate in found]
    return {
        "trials": len(trials),
        "flops": _round_significant(float(sum(map(count_trial_flops, trials)))),
        "estimates": rows,
        "prices": table.model_dump(mode="json", include={"as_of", "checked", "currency", "region", "assumptions"}),
    }


def _print_costs(plan: "Plan", trials: "Sequence[Trial]", found: "Sequence[CostEstimate]", table: "PriceTable") -> None:
    from rich.table import Table

    from gapctl.cli.output import make_plain_console
    from gapctl.plan.estimate import count_trial_flops

    console = make_plain_console()
    scale = f", scale {plan.sweep.scale}" if plan.sweep.scale else ""
    flops = sum(map(count_trial_flops, trials))
    console.print(f"{plan.sweep.spec.name}{scale}: {len(trials)} trainings, {flops:.1e} FLOPs")
    columns = ("", "machine", "market", "at once", "hours", "workers", "of it lost", "head", "total")
    shown = Table(*columns, box=None, pad_edge=False)
    for each in found:
        shown.add_row(
            "*" if each.chosen else "",
            each.instance,
            each.market,
            str(each.machines),
            f"{_round_significant(each.hours, 2):g}",
            *(_format_money(amount) for amount in (each.workers, each.lost, each.head, each.total)),
        )
    console.print(shown)
    for line in _explain_estimates(table, {trial.config.model.preset for trial in trials}):
        console.print(line)


def _explain_estimates(table: "PriceTable", presets: set[str]) -> list[str]:
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


def _format_money(amount: float) -> str:
    """Format an amount with two significant digits, and without cents from ten on."""
    if 0 < amount < 0.01:
        return "< 0.01"
    rounded = _round_significant(amount, 2)
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:.2f}"


def _round_significant(value: Any, digits: int = 3) -> Any:
    """Round a float to significant digits; return anything else unchanged."""
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


INTERRUPTED = 130

JobArgument = Annotated[str, typer.Argument(help="The id that `submit` printed.", metavar="JOB", show_default=False)]


def jobs_command(
    job_id: Annotated[
        str | None, typer.Argument(help="One job; all of them if left out.", metavar="JOB", show_default=False)
    ] = None,
    address: DashboardOption = DEFAULT_ADDRESS,
    follow: FollowOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show a cluster's jobs, or one of them; the exit code of one that has ended is that of its sweep."""
    from gapctl.cluster.jobs import JobServer
    from gapctl.errors import InputError

    if follow and (job_id is None or as_json):
        raise InputError("--follow: expected one JOB, and no --json; `gapctl cluster status` lists them")
    server = JobServer(address)
    if job_id is not None and follow:
        follow_job(server, job_id, "" if server.address == DEFAULT_ADDRESS else f" --address {server.address}")
    jobs = server.list_jobs() if job_id is None else [server.get_job(job_id)]
    _show_jobs(jobs, server.address, as_json)
    if job_id is not None and jobs[0].ended and jobs[0].outcome:
        raise typer.Exit(jobs[0].outcome)


def stop_command(job_id: JobArgument, address: DashboardOption = DEFAULT_ADDRESS) -> None:
    """Ask a job to save its checkpoints and end; the same `submit` goes on from there."""
    from gapctl.cli.output import make_plain_console
    from gapctl.cluster.jobs import JobServer

    stopped = JobServer(address).stop(job_id)
    said = "asked to stop; what is in training writes its checkpoint" if stopped else "had ended before"
    make_plain_console().print(f"{job_id}: {said}")


def follow_job(server: "JobServer", job_id: str, at: str) -> None:
    """Print a job's output and exit with its outcome; Ctrl-C leaves the job running and says so."""
    try:
        state = server.follow_job(job_id, lambda lines: typer.echo(lines, nl=False))
    except KeyboardInterrupt:
        typer.echo(f"\n{job_id} goes on; follow it again: gapctl cluster status {job_id} --follow{at}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(f"{job_id}: {_describe_job(state)}", err=True)
    raise typer.Exit(state.outcome)


def _show_jobs(jobs: "list[JobState]", address: str, as_json: bool) -> None:
    from gapctl.cli.output import make_plain_console

    if as_json:
        listed = [{**job._asdict(), "began": job.began.isoformat() if job.began else None} for job in jobs]
        typer.echo(json.dumps({"address": address, "jobs": listed}, indent=1))
        return
    console = make_plain_console()
    if not jobs:
        console.print(f"{address}: no jobs yet")
    for job in jobs:
        began = job.began.astimezone().strftime("%Y-%m-%d %H:%M") if job.began else "not begun"
        console.print(f"{job.id}  {began}  {_describe_job(job)}  {job.command}")


def _describe_job(job: "JobState") -> str:
    state = job.status.lower()
    if job.status == "FAILED" and job.exit_code is not None:
        state += f" with exit code {job.exit_code}"
    minutes = "" if job.seconds is None else f", {job.seconds / 60:.0f} min"
    return state + minutes


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
    from gapctl.cluster.cost import read_prices
    from gapctl.cluster.lint import lint_cluster_file
    from gapctl.errors import InputError

    if sweep is None and (scale is not None or overrides):
        raise InputError("--scale and --set change a sweep: expected --sweep SWEEP beside them")
    plan = make_sizing_plan(sweep, scale, overrides) if sweep else None
    found = lint_cluster_file(file, plan, read_prices(prices) if prices else None)
    errors = sum(finding.severity == "error" for finding in found)
    if as_json:
        typer.echo(json.dumps(_build_lint_document(file, found, errors), indent=1))
    else:
        _print_lint_issues(file, found, errors)
    if errors:
        raise typer.Exit(1)


def _build_lint_document(file: Path, found: "Sequence[LintIssue]", errors: int) -> dict[str, object]:
    findings = [{**finding._asdict(), "file": str(finding.file)} for finding in found]
    return {"file": str(file), "findings": findings, "totals": {"error": errors, "warning": len(found) - errors}}


def _print_lint_issues(file: Path, found: "Sequence[LintIssue]", errors: int) -> None:
    from gapctl.cli.output import make_plain_console

    console = make_plain_console()
    for finding in found:
        console.print(str(finding))
    counts = {"error": errors, "warning": len(found) - errors}
    said = [f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items() if count]
    console.print(f"{file}: {' and '.join(said) or 'nothing found'}")


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
    from gapctl.cli.options import announce_shipped_sweep
    from gapctl.cli.output import make_plain_console
    from gapctl.cluster.jobs import JobServer, build_job

    job, console = build_job(file, scale, overrides or [], runs), make_plain_console()
    announce_shipped_sweep(file, job.file)
    server = JobServer(address)
    job_id = server.submit(job)
    at = "" if server.address == DEFAULT_ADDRESS else f" --address {server.address}"
    console.print(f"{job_id}: {job.entrypoint}")
    console.print(f"MLflow: {job.tracking}")
    if follow:
        follow_job(server, job_id, at)
    else:
        console.print(f"follow: gapctl cluster status {job_id} --follow{at}")
        console.print(f"stop:   gapctl cluster stop {job_id}{at}")


cluster_app = typer.Typer(
    name="cluster",
    help="Cluster files before `ray up`, and sweeps as jobs after it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)
cluster_app.command("lint")(lint_command)
cluster_app.command("cost")(cost_command)
cluster_app.command("submit")(submit_command)
cluster_app.command("status")(jobs_command)
cluster_app.command("stop")(stop_command)


@cluster_app.callback()
def group_cluster_verbs() -> None:
    """Cluster files before `ray up`, and sweeps as jobs after it."""
