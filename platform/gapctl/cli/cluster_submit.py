"""`gapctl cluster submit`: a sweep as a job of a running cluster, which goes on when this machine is closed."""

from gapctl.cli.cluster_jobs import follow_job
from gapctl.cli.cluster_options import DEFAULT_ADDRESS, DashboardOption, FollowOption
from gapctl.cli.options import DEFAULT_RUNS, RunsOption, ScaleOption, SetOption, SweepFileArgument


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
    from gapctl.cli.context import tell_shipped
    from gapctl.cli.terminal import plain_console
    from gapctl.cluster.job import job_of
    from gapctl.cluster.jobs import JobServer

    job, console = job_of(file, scale, overrides or [], runs), plain_console()
    tell_shipped(file, job.file)
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
