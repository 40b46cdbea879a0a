"""Runs a verb by itself the way `gapctl` runs it, whether or not the command line lists it."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import typer

from command_line import Answer, gapctl
from gapctl.cli import main


def run_verb(verb: Callable[..., Any] | typer.Typer, *arguments: str) -> Answer:
    """Runs a command or a group of commands; the first of a group's arguments names the command."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    if isinstance(verb, typer.Typer):
        app.add_typer(verb, name="verb")
    else:
        app.command("verb")(verb)
        app.callback()(lambda: None)
    with patch.object(main, "app", app):
        return gapctl("verb", *arguments)
