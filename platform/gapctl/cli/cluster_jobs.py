"""`gapctl cluster status` and `stop`: the jobs of a running cluster."""

from typing import TYPE_CHECKING, Annotated

import typer

from gapctl.cli.cluster_options import DEFAULT_ADDRESS, DashboardOption, FollowOption
from gapctl.cli.options import JsonOption

if TYPE_CHECKING:
    from gapctl.cluster.jobs import JobServer, JobState

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
    jobs = server.jobs() if job_id is None else [server.job(job_id)]
    _show(jobs, server.address, as_json)
    if job_id is not None and jobs[0].ended and jobs[0].outcome:
        raise typer.Exit(jobs[0].outcome)


def stop_command(job_id: JobArgument, address: DashboardOption = DEFAULT_ADDRESS) -> None:
    """Ask a job to save its checkpoints and end; the same `submit` goes on from there."""
    from gapctl.cli.terminal import plain_console
    from gapctl.cluster.jobs import JobServer

    stopped = JobServer(address).stop(job_id)
    said = "asked to stop; what is in training writes its checkpoint" if stopped else "had ended before"
    plain_console().print(f"{job_id}: {said}")


def follow_job(server: "JobServer", job_id: str, at: str) -> None:
    """Shows what a job prints and leaves with its outcome; Ctrl-C leaves the job running and says so."""
    try:
        state = server.follow(job_id, lambda lines: typer.echo(lines, nl=False))
    except KeyboardInterrupt:
        typer.echo(f"\n{job_id} goes on; follow it again: gapctl cluster status {job_id} --follow{at}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(f"{job_id}: {_words(state)}", err=True)
    raise typer.Exit(state.outcome)


def _show(jobs: "list[JobState]", address: str, as_json: bool) -> None:
    import json

    from gapctl.cli.terminal import plain_console

    if as_json:
        listed = [{**job._asdict(), "began": job.began.isoformat() if job.began else None} for job in jobs]
        typer.echo(json.dumps({"address": address, "jobs": listed}, indent=1))
        return
    console = plain_console()
    if not jobs:
        console.print(f"{address}: no jobs yet")
    for job in jobs:
        began = job.began.astimezone().strftime("%Y-%m-%d %H:%M") if job.began else "not begun"
        console.print(f"{job.id}  {began}  {_words(job)}  {job.command}")


def _words(job: "JobState") -> str:
    state = job.status.lower()
    if job.status == "FAILED" and job.exit_code is not None:
        state += f" with exit code {job.exit_code}"
    minutes = "" if job.seconds is None else f", {job.seconds / 60:.0f} min"
    return state + minutes
