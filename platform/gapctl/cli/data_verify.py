"""`gapctl data verify`: reads a folder of shards whole and names all that is wrong with it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gapctl.cli.data_index import AddressOption, WorkersOption
from gapctl.cli.data_verify_pairs import verify_pairs
from gapctl.cli.options import JsonOption

if TYPE_CHECKING:
    from gapctl.data.mad.shards.verify import Verification


def verify_command(
    places: Annotated[
        list[str],
        typer.Argument(
            help="A folder that `gapctl data mad --out` made; or tar shards of pairs, or their manifest.",
            metavar="FOLDER|SHARDS|MANIFEST",
            show_default=False,
        ),
    ],
    workers: WorkersOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read data whole and name all that is wrong with it; the exit code is 1 if anything is.

    Of MAD's shards every byte is compared with its checksum: named are a missing, short, changed or foreign file, and
    a manifest that does not match. Of image-text shards every image is decoded: named are shards that are missing, cut
    short or unlike their manifest, and samples that are undecodable, duplicated, or without a caption.
    """
    if is_pairs(places):
        verify_pairs(places, workers, address, as_json)
    else:
        _verify_mad(Path(places[0]), as_json)


def is_pairs(places: list[str]) -> bool:
    """Whether these name image-text shards or a manifest of them, and not a folder of MAD's shards."""
    from gapctl.data.pairs.stored import shards_in

    path = Path(places[0])
    if len(places) > 1 or "://" in places[0] or "{" in path.name or path.suffix in (".tar", ".parquet"):
        return True
    marks = (path / "mad.json", path / ".making")
    return not any(mark.exists() for mark in marks) and bool(shards_in(path))


def _verify_mad(folder: Path, as_json: bool) -> None:
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
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from gapctl.cli.safe_console import SafeConsole

    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=SafeConsole(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=None, visible=False)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)
