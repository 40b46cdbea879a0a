"""`gapctl data reshard`: writes image-text pairs anew while a person watches."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gapctl.cli.data_index import AddressOption, WorkersOption, workers_of
from gapctl.cli.options import JsonOption

if TYPE_CHECKING:
    from gapctl.data.pairs.reshard import Resharded
    from gapctl.data.pairs.tally import Tally

DROPPED_NAMED = 5
SeedType = typer.Option("--seed", min=0, max=2**31 - 1, help="Another shuffle, and another split.")


def reshard_command(
    places: Annotated[
        list[str], typer.Argument(help="Tar shards, or their manifest.", metavar="SHARDS|MANIFEST", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="A new folder.", metavar="FOLDER", show_default=False)],
    per_shard: Annotated[
        int, typer.Option("--per-shard", min=1, max=1_000_000, help="Samples to a shard, the last one excepted.")
    ] = 10_000,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="In a random order instead of the present one.")] = False,
    resize: Annotated[
        int | None, typer.Option("--resize", min=8, help="The shorter side that larger images get, pixels.")
    ] = None,
    validation: Annotated[
        float, typer.Option("--validation", help="Share that goes into validation/, the rest into train/.")
    ] = 0.0,
    seed: Annotated[int, SeedType] = 0,
    workers: WorkersOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the usable pairs of some shards into new ones, in the img2dataset layout, the same bytes each time.

    Samples with a problem are left out. Those that share an image go into the same split. Stopped work goes on where
    it was when the same command is run again.
    """
    from gapctl.data.pairs.read_samples import manifest_at
    from gapctl.data.pairs.reshard import ReshardRequest, reshard
    from gapctl.data.pairs.tally import tally_of
    from gapctl.errors import InputError

    if not 0 <= validation < 1:
        raise InputError(f"--validation {validation:g}: expected a share from 0 to below 1")
    began, who = time.perf_counter(), workers_of(workers, address)
    manifest = manifest_at(places, who)
    if not len(manifest.usable):
        raise InputError(f"{places[0]}: no sample that can be used; `gapctl data verify` says why")
    request = ReshardRequest(manifest.fingerprint, per_shard, seed if shuffle else None, resize, validation, seed)
    with _bar() as show:
        done = reshard(manifest, request, out, who, show)
    tally = tally_of(manifest)
    if as_json:
        problems = {"left_out": tally.samples - tally.usable, "problems": dict(tally.problems)}
        document = {"folder": str(out), **problems, **vars(done), "seconds": time.perf_counter() - began}
        typer.echo(json.dumps(document, indent=1))
    else:
        _print(out, done, tally, time.perf_counter() - began)


def _print(out: Path, done: "Resharded", tally: "Tally", seconds: float) -> None:
    from gapctl.cli.terminal import plain_console

    console = plain_console()
    for split, shards in done.shards.items():
        folder = out / split if len(done.shards) > 1 else out
        console.print(f"{folder}: {done.samples[split]:,} samples in {shards:,} shards")
        console.print(f"  `gapctl data index {folder}` makes it a source for sweeps", highlight=False)
    console.print(f"{done.made:,} shards written in {seconds:.1f} s, {sum(done.shards.values()) - done.made:,} kept")
    if tally.problems:
        left_out = tally.samples - tally.usable
        console.print(f"{left_out:,} samples with a problem were left out; `gapctl data verify` names them")
    for line in tally.lines:
        console.print(line)
    if done.dropped:
        names = ", ".join(done.dropped[:DROPPED_NAMED])
        console.print(f"{len(done.dropped):,} images could not be decoded and were left out: {names}")


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from gapctl.cli.terminal import plain_console

    columns = (TextColumn("writing samples"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = plain_console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("writing", total=None, visible=False)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)
