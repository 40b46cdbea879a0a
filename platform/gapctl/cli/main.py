"""The `gapctl` command: its verbs, and how errors leave it."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gapctl import __version__
from gapctl.cli.analyze import analyze_command
from gapctl.cli.clean import clean_command
from gapctl.cli.cluster import cluster_app
from gapctl.cli.data_mad import data_app
from gapctl.cli.doctor import doctor_command
from gapctl.cli.findings import findings_command
from gapctl.cli.intervene import intervene_command
from gapctl.cli.measure import measure_command
from gapctl.cli.output import escape_controls, guard_output
from gapctl.cli.plan import plan_command
from gapctl.cli.questions import questions_command
from gapctl.cli.status import status_command
from gapctl.cli.sweep import sweep_command
from gapctl.cli.track import track_app
from gapctl.cli.train import train_command
from gapctl.cli.ui import ui_command
from gapctl.errors import GapctlError
from gapctl.folders import provide_home, require_working_folder

INTERRUPTED = 130


class VerbGroup(TyperGroup):
    """Escapes what usage errors quote from the command line: Typer prints them in colours, past the guard."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb that the command line names."""
        try:
            return super().invoke(ctx)
        except typer.TyperException as error:
            error.message = escape_controls(error.message)
            raise


app = typer.Typer(
    name="gapctl",
    cls=VerbGroup,
    help="Test by experiment what causes the modality gap, object bias and entropy of CLIP models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("sweep")(sweep_command)
app.command("plan")(plan_command)
app.command("status")(status_command)
app.command("clean")(clean_command)
app.command("train")(train_command)
app.command("analyze")(analyze_command)
app.command("questions")(questions_command)
app.command("findings")(findings_command)
app.command("measure")(measure_command)
app.command("intervene")(intervene_command)
app.add_typer(data_app)
app.command("ui")(ui_command)
app.add_typer(track_app)
app.add_typer(cluster_app)
app.command("doctor")(doctor_command)


@app.callback(invoke_without_command=True)
def start_gapctl(
    version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
) -> None:
    """Test by experiment what causes the modality gap, object bias and entropy of CLIP models."""
    if version:
        typer.echo(f"gapctl {__version__}")
        raise typer.Exit()
    require_working_folder()
    provide_home()


def run(arguments: Sequence[str] | None = None) -> None:
    """The entry point: an error of ours is one message on standard error and an exit code, never a traceback."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    guard_output()
    try:
        app(args=arguments)
    except GapctlError as error:
        print(f"gapctl: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("gapctl: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
