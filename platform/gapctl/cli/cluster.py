"""`gapctl cluster`: cluster files before `ray up`, and sweeps as jobs after it."""

import typer

from gapctl.cli.cluster_cost import cost_command
from gapctl.cli.cluster_jobs import jobs_command, stop_command
from gapctl.cli.cluster_lint import lint_command
from gapctl.cli.cluster_submit import submit_command

cluster_app = typer.Typer(
    name="cluster", help="Cluster files before `ray up`, and sweeps as jobs after it.", no_args_is_help=True
)
cluster_app.command("lint")(lint_command)
cluster_app.command("cost")(cost_command)
cluster_app.command("submit")(submit_command)
cluster_app.command("status")(jobs_command)
cluster_app.command("stop")(stop_command)


@cluster_app.callback()
def cluster() -> None:
    """Cluster files before `ray up`, and sweeps as jobs after it."""
