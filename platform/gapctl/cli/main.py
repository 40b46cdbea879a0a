"""The `gapctl` command: the table of its verbs, and how errors leave it.

A verb's module, `gapctl.cli.<verb>`, is imported when the verb is called: `gapctl --help` and `gapctl plan` wait for no
other verb's imports. The module has the function `<verb>_command`, or `<verb>_app` for a group of commands.
"""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from gapctl import __version__
from gapctl.cli.output import build_address_error, escape_controls, guard_output, print_problems
from gapctl.errors import INTERRUPTED, GapctlError, is_installed, make_missing_package_error
from gapctl.folders import provide_home, require_working_folder
from gapctl.imports import import_without_garbage_collection

VERBS: Final = {
    "sweep": "Train what is left of a sweep on Ray, with MLflow beside it, then judge its hypotheses.",
    "plan": "Trials, samples, FLOPs, hours: what a sweep would do, and how much of it is done.",
    "status": "Which trials are done, running, stopped by a search, failed or missing; of one sweep or of all.",
    "clean": "Delete what killed writers left of a sweep's trainings, and checkpoints of finished ones.",
    "train": "One trial in this process, with the same numbers as in a sweep; before it, what it begins with.",
    "analyze": "Judge sweeps' hypotheses by the trials that are done; several are compared, each with its own "
    "verdicts.",
    "new": "A copy of a sweep to edit: its comments are kept, and its name is the file's.",
    "list": "The shipped sweeps: what each asks, what it costs, and the verdicts so far in this ledger.",
    "metrics": "Every metric with its unit and meaning, by group, or those that a text names.",
    "claims": "The claims of arXiv 2404.07983: our tests, effects, verdicts, and what would change them.",
    "measure": "Gap, entropy, object bias and quality of embeddings, of a trial, or of any open_clip model.",
    "intervene": "Does closing the gap help here? Interventions on the same inputs that `gapctl measure` takes.",
    "ui": "Show the runs in MLflow's pages, until Ctrl-C.",
    "doctor": "What this machine has and what is missing, with the fix.",
    "data": "Build and look at data.",
    "track": "MLflow as a view of the ledger.",
    "cluster": "Cluster files before `ray up`, and sweeps as jobs after it.",
}
"""Each verb with its line in `gapctl --help`, in that order."""
PATH_OF_ADDRESS: Final = re.compile(r"^([A-Za-z][\w+.-]+):/")
"""How an address begins after `pathlib` made one slash of its two."""
LOCAL_TEXTS: Final = frozenset({"--embeddings", "--against", "--pretrained", "--source"})
"""Options whose texts may be paths of this machine, besides those that are paths by their type."""
FORMER_NAMES: Final = {"questions": "list", "findings": "claims"}
"""Verbs that had another name in earlier versions; the former one still works, and says so."""


def refuse_addresses(command: Any) -> None:
    """Let each option of a command that takes a path of this machine refuse an address.

    A path would turn `s3://bucket/a` into a local folder called `s3:`. Options that take addresses are texts.
    """
    for parameter in command.params:
        if parameter.callback is None:
            parameter.callback = _require_local_paths
    for each in getattr(command, "commands", {}).values():
        refuse_addresses(each)


def _require_local_paths(context: Any, parameter: Any, value: Any) -> Any:
    name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar or parameter.name
    for given in value if isinstance(value, list | tuple) else (value,):
        address = PATH_OF_ADDRESS.sub(r"\1://", str(given)) if isinstance(given, Path) else given
        if (isinstance(given, Path) or name in LOCAL_TEXTS) and "://" in str(address):
            raise build_address_error(name, str(address))
    return value


class UnloadedVerb(TyperCommand):
    """A verb in the list of all verbs; its module is imported when its own arguments are parsed."""

    def __init__(self, verb: str, former_name: str | None = None) -> None:
        """Show the verb's name and line, which need no import; under a former name it is not shown."""
        super().__init__(name=former_name or verb, help=VERBS[verb], hidden=former_name is not None)
        self._verb = verb

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Load the verb, and parse its arguments."""
        if self.hidden:
            print(f"gapctl {self.name} is now called gapctl {self._verb}", file=sys.stderr)
        module = import_without_garbage_collection(f"gapctl.cli.{self._verb}")
        group = getattr(module, f"{self._verb}_app", None)
        if group is None:
            group = typer.Typer(add_completion=False, rich_markup_mode="markdown")
            group.command(self._verb)(getattr(module, f"{self._verb}_command"))
        command = typer.main.get_command(group)
        refuse_addresses(command)
        return command.make_context(info_name, args, parent=parent, **extra)


class VerbGroup(TyperGroup):
    """The verbs, of which only the one that is called is imported.

    The group escapes what usage errors quote from the command line, as Typer prints them in colours, past the guard.
    """

    def __init__(self, **settings: Any) -> None:
        """List every verb in the order of `gapctl --help`."""
        super().__init__(**settings)
        self.commands = {verb: UnloadedVerb(verb) for verb in VERBS}
        self.commands |= {former: UnloadedVerb(verb, former) for former, verb in FORMER_NAMES.items()}

    def list_commands(self, ctx: object) -> list[str]:
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


def _exit_with_error(error: GapctlError) -> NoReturn:
    print_problems([str(error)])
    sys.exit(error.exit_code)


def run(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the entry point of the `gapctl` command.

    Print an error of gapctl as one message on standard error and exit with its code, never with a traceback.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else it looks into every installed package for some
    guard_output()
    try:
        app(args=arguments)
    except GapctlError as error:
        _exit_with_error(error)
    except ModuleNotFoundError as error:
        if error.name is None or is_installed(error.name):
            raise
        _exit_with_error(make_missing_package_error(error.name))
    except KeyboardInterrupt:
        print_problems(["interrupted"])
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
