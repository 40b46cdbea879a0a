"""The `gapctl` command: the table of its verbs, and how errors leave it.

A verb's module is imported when the verb is called: `gapctl --help` and `gapctl plan` wait for no other verb's imports.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from gapctl import __version__
from gapctl.cli.output import escape_controls, guard_output
from gapctl.errors import GapctlError
from gapctl.folders import provide_home, require_working_folder

INTERRUPTED = 130


class Verb(NamedTuple):
    """A verb: its name, the module and function (or Typer app) of its command, and its line in `gapctl --help`."""

    name: str
    module: str
    attribute: str
    help: str

    def load(self) -> Any:
        """Import the verb's module and return its command."""
        target = getattr(import_module(self.module), self.attribute)
        if isinstance(target, typer.Typer):
            return typer.main.get_command(target)
        single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        single.command(self.name)(target)
        return typer.main.get_command(single)


VERBS: Final = (
    Verb(
        "sweep",
        "gapctl.cli.sweep",
        "sweep_command",
        "Train what is left of a sweep on Ray, with MLflow beside it, then judge its hypotheses.",
    ),
    Verb(
        "plan",
        "gapctl.cli.plan",
        "plan_command",
        "Trials, samples, FLOPs, hours: what a sweep would do, and how much of it is done.",
    ),
    Verb(
        "status",
        "gapctl.cli.status",
        "status_command",
        "Which trials are done, running, stopped by a search, failed or missing.",
    ),
    Verb(
        "clean",
        "gapctl.cli.clean",
        "clean_command",
        "Delete what killed writers left of a sweep's trainings, and checkpoints of finished ones.",
    ),
    Verb(
        "train",
        "gapctl.cli.train",
        "train_command",
        "One trial in this process, with the same numbers as in a sweep; before it, what it begins with.",
    ),
    Verb(
        "analyze",
        "gapctl.cli.analyze",
        "analyze_command",
        "Judge sweeps' hypotheses by the trials that are done; several are compared, each with its own verdicts.",
    ),
    Verb(
        "list",
        "gapctl.cli.list",
        "questions_command",
        "The shipped sweeps: what each asks, what it costs, and the verdicts so far in this ledger.",
    ),
    Verb(
        "claims",
        "gapctl.cli.claims",
        "findings_command",
        "The claims of arXiv 2404.07983: our tests, effects, verdicts, and what would change them.",
    ),
    Verb(
        "measure",
        "gapctl.cli.measure",
        "measure_command",
        "Gap, entropy, object bias and quality of embeddings, of a trial, or of any open_clip model.",
    ),
    Verb(
        "intervene",
        "gapctl.cli.intervene",
        "intervene_command",
        "Does closing the gap help here? Interventions on the same inputs that `gapctl measure` takes.",
    ),
    Verb("ui", "gapctl.cli.ui", "ui_command", "Show the runs in MLflow's pages, until Ctrl-C."),
    Verb("doctor", "gapctl.cli.doctor", "doctor_command", "What this machine has and what is missing, with the fix."),
    Verb("data", "gapctl.cli.data_mad", "data_app", "Build and look at data."),
    Verb("track", "gapctl.cli.track", "track_app", "MLflow as a view of the ledger."),
    Verb("cluster", "gapctl.cli.cluster", "cluster_app", "Cluster files before `ray up`, and sweeps as jobs after it."),
)


FORMER_NAMES: Final = {"questions": "list", "findings": "claims"}
"""Verbs that had another name in earlier versions; the former one still works, and says so."""


class UnloadedVerb(TyperCommand):
    """A verb in the list of all verbs; its module is imported when its own arguments are parsed."""

    def __init__(self, verb: Verb, former_name: str | None = None) -> None:
        """Show the verb's name and line, which need no import; under a former name it is not shown."""
        super().__init__(name=former_name or verb.name, help=verb.help, hidden=former_name is not None)
        self._verb = verb

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Load the verb, and parse its arguments."""
        if self.hidden:
            print(f"gapctl {self.name} is now called gapctl {self._verb.name}", file=sys.stderr)
        return self._verb.load().make_context(info_name, args, parent=parent, **extra)


class VerbGroup(TyperGroup):
    """The verbs, of which only the one that is called is imported.

    The group escapes what usage errors quote from the command line, as Typer prints them in colours, past the guard.
    """

    def __init__(self, **settings: Any) -> None:
        """List every verb in the order of `gapctl --help`."""
        super().__init__(**settings)
        self.commands = {verb.name: UnloadedVerb(verb) for verb in VERBS}
        for former, name in FORMER_NAMES.items():
            self.commands[former] = UnloadedVerb(next(verb for verb in VERBS if verb.name == name), former)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all verbs, unsorted."""
        return list(self.commands)

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
    """Run the command line; the entry point of the `gapctl` command.

    Print an error of gapctl as one message on standard error and exit with its code, never with a traceback.
    """
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
