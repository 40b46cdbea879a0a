"""`gapctl doctor`: what this machine has and what is missing, with the fix."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from gapctl.cli.options import DEFAULT_RUNS, JsonOption, RunsOption

if TYPE_CHECKING:
    from rich.console import Console

    from gapctl.cli.checkup.check import Check, State

STYLES: "dict[State, str]" = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor_command(
    runs: RunsOption = DEFAULT_RUNS,
    tracking: Annotated[
        str | None, typer.Option("--tracking", help="MLflow's store, if not that of a sweep file without one.")
    ] = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Also import the packages that take seconds each to load.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """What this machine has and what is missing, with the fix.

    Starts nothing and changes nothing. A warning costs time or comfort; a problem stops a sweep, and makes the exit
    code 1.
    """
    from gapctl.cli.safe_console import SafeConsole

    found, console = [], SafeConsole(quiet=as_json)
    with console.status("looking"):
        for check in _checks(runs, tracking, thorough):
            found.append(check)
            _print(check, console)
    totals = {state: sum(check.state == state for check in found) for state in STYLES}
    if as_json:
        typer.echo(json.dumps({"checks": [check._asdict() for check in found], "totals": totals}, indent=1))
    _conclude(totals, console)
    if totals["problem"]:
        raise typer.Exit(1)


def _checks(runs: str, tracking: str | None, thorough: bool) -> "Iterator[Check]":
    """Quick answers first; the imports, which take seconds, run meanwhile."""
    from gapctl.cli.checkup import importing, machine, packages, places
    from gapctl.training.gpu_load import nvidia_driver

    running = importing.Importing(importing.modules_of(_required_packages(), thorough=thorough))
    yield from _guarded("Python", lambda: [packages.python_check()])
    yield from _guarded("packages", packages.package_checks)
    yield from machine.machine_checks()
    yield from _guarded("folders", lambda: places.folder_checks(runs))
    yield from _guarded("MAD's images", lambda: [places.images_check("bundled")])
    yield from _guarded("MLflow", lambda: [places.tracking_check(tracking or places.usual_tracking())])
    imported = running.result()
    yield from importing.import_checks(imported, thorough=thorough)
    yield from importing.torch_checks(imported.torch, nvidia_driver())


def _required_packages() -> list[str]:
    """None where gapctl's metadata cannot be had, which is a problem that another check tells."""
    from gapctl.cli.checkup.packages import required_packages

    try:
        return required_packages()
    except ImportError:
        return []


def _guarded(name: str, look: "Callable[[], Sequence[Check]]") -> "Sequence[Check]":
    """What a look says, or that it cannot be taken since a package is missing."""
    from gapctl.cli.checkup.check import Check

    try:
        return look()
    except ImportError as error:
        return [Check(name, "problem", f"cannot be looked at: {error}", "install gapctl and what it requires")]


def _print(check: "Check", console: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=7)
    line.add_column(width=16, overflow="fold")
    line.add_column(overflow="fold")
    line.add_row(Text(check.state, STYLES[check.state]), Text(check.name), Text(check.found))
    if check.fix and check.state != "ok":
        line.add_row("", "", Text(f"fix: {check.fix}"))
    console.print(line)


def _conclude(totals: "Mapping[State, int]", console: "Console") -> None:
    found = [f"{totals[state]} {state}{'s' * (totals[state] > 1)}" for state in ("problem", "warning") if totals[state]]
    console.print(" and ".join(found) or "everything is in order", highlight=False)
