"""`gapctl data index`: writes the manifest of image-text shards while a person watches."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapctl.cli.options import JsonOption

if TYPE_CHECKING:
    from gapctl.data.pairs.index import Indexed
    from gapctl.data.pairs.manifest import Manifest
    from gapctl.data.pairs.spread import Workers
    from gapctl.data.pairs.stored import Stored

ShardsArgument = Annotated[
    list[str],
    typer.Argument(
        help="Tar shards: files, folders, braces such as {00000..00011}.tar, s3:// or gs:// addresses.",
        metavar="SHARDS...",
        show_default=False,
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes of this machine; by default one per core.")
]
AddressOption = Annotated[
    str | None, typer.Option("--address", help="A running Ray cluster (`auto` on its head); else this machine.")
]


def index_command(
    shards: ShardsArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="By default manifest.parquet beside the shards.", metavar="FILE.parquet"),
    ] = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the manifest of image-text shards: where each sample lies, its sizes, and what is wrong with it.

    Shards are tar files of key.jpg, key.txt and key.json, as img2dataset writes them. Images are not decoded (`gapctl
    data verify` does). The same command again reads only shards that are new, changed or were damaged.
    """
    from gapctl.data.pairs.index import index_shards
    from gapctl.data.pairs.stored import stored_shards
    from gapctl.data.pairs.tally import tally_of
    from gapctl.errors import InputError
    from gapctl.folders import expand_home

    began = time.perf_counter()
    stored = stored_shards(shards)
    target = expand_home(out or usual_manifest(stored))
    if target.suffix != ".parquet":
        raise InputError(f"--out {target}: expected a name that ends in .parquet")
    with bytes_bar("indexing") as show:
        indexed = index_shards(stored, target, workers_of(workers, address), show)
    seconds = time.perf_counter() - began
    if as_json:
        typer.echo(json.dumps(_document(target, indexed, seconds), indent=1))
    else:
        _print(target, indexed, seconds)
    tally_of(indexed.manifest).require_usable(str(target))


def usual_manifest(shards: "Sequence[Stored]") -> Path:
    """Beside the shards where they lie in one folder of this machine, else in the folder that one works in."""
    folders = {str(Path(shard.address).parent) for shard in shards if "://" not in shard.address}
    alone = len(folders) == 1 and all("://" not in shard.address for shard in shards)
    return Path(folders.pop() if alone else ".") / "manifest.parquet"


def workers_of(processes: int | None, address: str | None) -> "Workers":
    """Processes of this machine, or the Ray cluster at an address."""
    from functools import partial

    from gapctl.data.mad.store import available_cores
    from gapctl.data.pairs.spread import Workers
    from gapctl.sweep.address import check_address
    from gapctl.sweep.cluster import ray_session

    check_address(address)
    return Workers(processes or available_cores(), partial(ray_session, address) if address else None)


def shared_keys(manifest: "Manifest") -> int:
    """How many keys name samples of more than one shard; each is told apart by its shard."""
    import polars as pl

    keys = manifest.samples.select("key", "shard").unique().group_by("key").len()
    return int(keys.select((pl.col("len") > 1).sum()).item())


def _document(target: Path, indexed: "Indexed", seconds: float) -> dict[str, Any]:
    from gapctl.data.pairs.tally import tally_of

    found = indexed.manifest
    tally = tally_of(found)
    return {
        "manifest": str(target),
        "fingerprint": found.fingerprint,
        "shards": len(found.shards),
        "read": indexed.read,
        "bytes": sum(shard.bytes for shard in found.shards),
        "samples": tally.samples,
        "usable": tally.usable,
        "problems": dict(tally.problems),
        "ignored": dict(tally.ignored),
        "unused_shards": dict(tally.unused),
        "shared_keys": shared_keys(found),
        "damaged": {address: why for address, (_, why) in tally.damaged.items()},
        "seconds": round(seconds, 3),
    }


def _print(target: Path, indexed: "Indexed", seconds: float) -> None:
    from gapctl.cli.terminal import plain_console
    from gapctl.data.pairs.tally import tally_of

    found, console = indexed.manifest, plain_console()
    tally = tally_of(found)
    size = sum(shard.bytes for shard in found.shards)
    console.print(
        f"{target}: {tally.usable:,} usable of {tally.samples:,} samples in {len(found.shards):,} shards, "
        f"{size / 1e6:,.0f} MB, fingerprint {found.fingerprint}"
    )
    kept = len(found.shards) - indexed.read
    console.print(f"{indexed.read:,} shards read and {kept:,} kept in {seconds:.1f} s")
    for line in tally.lines:
        console.print(line)
    if tally.damaged or tally.problems:
        console.print(f"`gapctl data verify {target}` names each of them, and decodes every image")
    if again := shared_keys(found):
        console.print(f"{again:,} keys stand in more than one shard; such samples are told apart by their shard")


@contextmanager
def bytes_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar over bytes on standard error, gone in the end."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from gapctl.cli.terminal import plain_console

    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = plain_console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None, visible=False)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)
