"""`gapctl data fetch`: downloads MNIST's files, checked, or says how to get them without a network."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gapctl.cli.options import JsonOption

if TYPE_CHECKING:
    from gapctl.data.fetch.download import Fetched


def fetch_command(
    what: Annotated[str, typer.Argument(help="`mnist`.", metavar="DATASET")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to; by default `mnist` in the cache.", metavar="FOLDER")
    ] = None,
    mirror: Annotated[
        list[str] | None,
        typer.Option("--mirror", help="An address to try instead of the usual ones; may be repeated.", metavar="URL"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Download MNIST's four files and check them; a download that broke off is continued.

    Without a network it says which files to put where, and how to check them.
    """
    from gapctl.data.fetch.download import fetch_files
    from gapctl.data.fetch.mnist import FILES, MIRRORS
    from gapctl.errors import InputError, WorkError

    if what != "mnist":
        raise InputError(f"{what}: no such data set; expected mnist")
    folder = out or _usual_folder()
    try:
        with _bars() as show:
            fetched = fetch_files(FILES, mirror or MIRRORS, folder, show)
    except WorkError as error:
        raise WorkError(f"{error}\n{_by_hand(folder)}") from error
    if as_json:
        typer.echo(json.dumps(_document(folder, fetched), indent=1))
    else:
        _print(folder, fetched)


def _usual_folder() -> Path:
    from gapctl.folders import cache_root

    return cache_root() / "mnist"


def _by_hand(folder: Path) -> str:
    from gapctl.data.fetch.mnist import FILES

    files = [f"  {file.name}  (unzipped {file.bytes:,} bytes, sha256 {file.sha256})" for file in FILES]
    return "\n".join(
        [
            "Without a network, copy these files, gzipped or not, from a machine that has one, and run this again:",
            *files,
            f"into {folder}. To check one: gzip -dc FILE | sha256sum. Another mirror: --mirror URL.",
        ]
    )


def _document(folder: Path, fetched: "Sequence[Fetched]") -> dict[str, object]:
    files = [{"file": file.path.name, "bytes": file.path.stat().st_size, "mirror": file.mirror} for file in fetched]
    return {"folder": str(folder), "files": files}


def _print(folder: Path, fetched: "Sequence[Fetched]") -> None:
    from gapctl.cli.terminal import plain_console

    console = plain_console()
    for file in fetched:
        console.print(f"{file.path.name}: {f'from {file.mirror}' if file.mirror else 'was there'}, checked")
    console.print(f"All of MAD: gapctl data mad --source {folder} --out FOLDER")


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int | None], None]]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    from gapctl.cli.safe_console import SafeConsole

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=SafeConsole(stderr=True), transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done, total=total)

        yield show
