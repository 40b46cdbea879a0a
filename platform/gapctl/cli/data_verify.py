"""`gapctl data verify`: reads a folder of shards whole and names all that is wrong with it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gapctl.cli.options import JsonOption

if TYPE_CHECKING:
    from gapctl.data.mad.shards.verify import Verification


def verify_command(
    folder: Annotated[Path, typer.Argument(help="A folder that `gapctl data mad --out` made.", metavar="FOLDER")],
    as_json: JsonOption = False,
) -> None:
    """Compare every byte of a folder of shards with its checksums; the exit code is 1 if anything is wrong.

    Named are a missing, short, changed or foreign file, and a manifest that does not match.
    """
    from gapctl.data.mad.shards.verify import verify_folder

    with _bar() as show:
        found = verify_folder(folder, show)
    if as_json:
        typer.echo(json.dumps(_document(folder, found), indent=1))
    else:
        _print(folder, found)
    if found.problems:
        raise typer.Exit(1)


def _document(folder: Path, found: "Verification") -> dict[str, object]:
    return {
        "folder": str(folder),
        "ok": not found.problems,
        "fingerprint": found.description.request.fingerprint if found.description else None,
        "files": found.files,
        "bytes": found.bytes,
        "problems": [problem._asdict() for problem in found.problems],
    }


def _print(folder: Path, found: "Verification") -> None:
    from gapctl.cli.terminal import plain_console
    from gapctl.data.mad.shards.verify import repairable

    console = plain_console()
    for problem in found.problems:
        console.print(f"{folder / problem.file}: {problem.what}")
    if not found.problems and found.description:
        name = found.description.request.fingerprint
        console.print(f"{folder}: whole: {found.files} files, {found.bytes / 1e6:,.0f} MB, fingerprint {name}")
    elif repairable(found.problems):
        console.print(f"{len(found.problems)} wrong; the `gapctl data mad --out` that made {folder} mends them.")
    else:
        console.print(
            f"{len(found.problems)} wrong; take foreign files away, or delete {folder}, and run the "
            "`gapctl data mad --out` that made it."
        )


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=None, visible=False)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)
