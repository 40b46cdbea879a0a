"""`gapctl ui`: MLflow's pages on the store that a sweep writes to."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gapctl.cli.options import ScaleOption

if TYPE_CHECKING:
    from rich.console import Console

    from gapctl.tracking.server import Server


def ui_command(
    file: Annotated[
        Path | None,
        typer.Argument(help="A sweep file, whose store and experiment are shown.", show_default=False, metavar="FILE"),
    ] = None,
    scale: ScaleOption = None,
    uri: Annotated[
        str | None, typer.Option("--uri", help="The store, instead of the sweep file's tracking.uri.")
    ] = None,
    port: Annotated[int, typer.Option("--port", help="The first free one from here on.", min=1, max=65535)] = 5000,
    host: Annotated[str, typer.Option("--host", help="0.0.0.0 lets other machines in.")] = "127.0.0.1",
) -> None:
    """Show the runs in MLflow's pages, until Ctrl-C."""
    from rich.console import Console

    from gapctl.tracking.page import page_address
    from gapctl.tracking.uri import check_uri, is_server

    name, store = _sweep(file, scale)
    store, console = uri or store, Console()
    check_uri(store)
    if is_server(store):
        _point_at(page_address(store.rstrip("/"), store, name), console)
    else:
        _serve(store, name, host, port, console)


def _sweep(file: Path | None, scale: str | None) -> tuple[str | None, str]:
    """The sweep's name, if there is a file, and its store."""
    from gapctl.spec.load import load_sweep
    from gapctl.spec.sweep import Tracking

    if file is None:
        return None, Tracking().uri
    spec = load_sweep(file, scale).spec
    return spec.name, spec.tracking.uri


def _serve(uri: str, name: str | None, host: str, port: int, console: "Console") -> None:
    from gapctl.errors import InputError
    from gapctl.tracking.server import free_port, serving
    from gapctl.tracking.uri import database_file

    database = database_file(uri)
    if database is not None and not database.exists():
        raise InputError(
            f"{database}: there is no MLflow database yet; expected one that `gapctl sweep FILE` or "
            "`gapctl track sync FILE` made. Run one of them, or give the store's address with --uri"
        )
    chosen = free_port(host, port)
    if chosen != port:
        console.print(f"port {port} is taken; using {chosen}", highlight=False)
    try:
        with serving(uri, host, chosen) as server:
            _open_to_visitors(server, uri, name, console)
    except KeyboardInterrupt:
        console.print("MLflow's pages are closed", highlight=False)


def _open_to_visitors(server: "Server", uri: str, name: str | None, console: "Console") -> None:
    from gapctl.tracking.page import page_address

    with console.status("starting MLflow's server"):
        page = page_address(server.address, uri, name)
        server.wait_until_ready()
    _point_at(page, console)
    console.print("Ctrl-C closes it", highlight=False)
    server.wait()


def _point_at(page: str, console: "Console") -> None:
    console.print(f"MLflow: {page}", highlight=False, markup=False, soft_wrap=True)
