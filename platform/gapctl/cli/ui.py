"""`gapctl ui`: serve MLflow's pages on the store that a sweep writes to."""

import os
import sys
import time
import webbrowser
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from gapctl.cli.completion import complete_sweeps
from gapctl.cli.console import SafeConsole
from gapctl.cli.options import ScaleOption, load_and_announce_sweep
from gapctl.config.sweep import Tracking
from gapctl.errors import InputError
from gapctl.io.passwords import hide_password
from gapctl.tracking.server import Server, find_free_port, open_mlflow_server
from gapctl.tracking.store import check_uri, find_database_file, is_server_address
from gapctl.tracking.views import (
    find_curves_address,
    find_experiment_page_address,
    format_overview_address,
    format_sweep_address,
)

DESKTOP_PLATFORMS: Final = ("darwin", "win32")
DEFAULT_EXPERIMENT: Final = "Default"
"""The experiment that every store has."""


def ui_command(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A sweep, whose store and experiment are shown.",
            show_default=False,
            metavar="FILE",
            autocompletion=complete_sweeps,
        ),
    ] = None,
    scale: ScaleOption = None,
    uri: Annotated[
        str | None, typer.Option("--uri", help="The store, instead of the sweep file's tracking.uri.")
    ] = None,
    port: Annotated[int, typer.Option("--port", help="The first free one from here on.", min=1, max=65535)] = 5000,
    host: Annotated[str, typer.Option("--host", help="0.0.0.0 lets other machines in.")] = "127.0.0.1",
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser, where there is a desktop.")
    ] = True,
) -> None:
    """Show the runs in MLflow's pages, until Ctrl-C."""
    spec = None if file is None else load_and_announce_sweep(file, scale, None).spec
    name, store = (None, Tracking().uri) if spec is None else (spec.name, spec.tracking.uri)
    store, console = uri or store, SafeConsole()
    check_uri(store)
    if is_server_address(store):
        with console.status(f"asking {hide_password(store)} for the sweep's page"):
            page = find_experiment_page_address(store.rstrip("/"), store, name)
        _show_page(page, console, browser=browser)
        return
    database = find_database_file(store)
    if database is not None and not database.exists():
        raise InputError(
            f"{database}: there is no MLflow database yet; expected one that `gapctl sweep FILE` or "
            "`gapctl track sync FILE` made. Run one of them, or give the store's address with --uri"
        )
    chosen = find_free_port(host, port)
    if chosen != port:
        console.print(f"port {port} is taken; using {chosen}")
    try:
        with open_mlflow_server(store, host, chosen) as server:
            _open_server(server, store, name, console, browser=browser)
    except KeyboardInterrupt:
        console.print("MLflow's pages are closed")


def _open_server(server: Server, uri: str, name: str | None, console: SafeConsole, *, browser: bool) -> None:
    starting = f"starting MLflow's server on {hide_password(uri)} at {server.address}; this takes some seconds"
    console.print(starting, soft_wrap=True)
    began = time.monotonic()
    with console.status("starting"):
        server.wait_until_ready()
        page, curves = _find_pages(server, name)
    _show_page(page, console, browser=browser)
    if curves:
        console.print(f"curves: {curves}", soft_wrap=True)
    console.print(f"ready after {time.monotonic() - began:.0f} s; Ctrl-C closes it")
    server.wait()


def _find_pages(server: Server, name: str | None) -> tuple[str, str | None]:
    """Return the page to open, and the page of a sweep's curves, if any."""
    # Ask also without a name, to find an unreadable store before a browser opens.
    experiment = server.experiment(name or DEFAULT_EXPERIMENT)
    if name is None or experiment is None:
        return format_overview_address(server.address), None
    where = (server.address, experiment.id, experiment.tags)
    return format_sweep_address(*where), find_curves_address(*where)


def _show_page(page: str, console: Console, *, browser: bool) -> None:
    console.print(f"MLflow: {hide_password(page)}", soft_wrap=True)
    # A text browser, where there is no desktop, would take over the terminal.
    desktop = sys.platform in DESKTOP_PLATFORMS or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if browser and console.is_terminal and desktop:
        webbrowser.open(page)
