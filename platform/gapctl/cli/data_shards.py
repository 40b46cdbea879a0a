"""`gapctl data mad --out`: makes a folder of MAD's shards while a person watches."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

if TYPE_CHECKING:
    from gapctl.data.mad.shards.layout import Format
    from gapctl.data.mad.shards.make import Made
    from gapctl.data.mad.source import Split


class ShardOptions(NamedTuple):
    """What the command line asks for; `digits` of each split at most, None for all."""

    source: str
    out: Path
    splits: "tuple[Split, ...]"
    digits: int | None
    seed: int
    form: "Format"
    workers: int | None


def make_shards(options: ShardOptions, as_json: bool) -> None:
    """Make what the folder lacks and say what it holds."""
    from gapctl.cli.local_ray import local_ray
    from gapctl.data.mad.shards.make import make_folder

    began = time.perf_counter()
    with _bars() as show:
        made = make_folder(
            options.source,
            options.out,
            local_ray,
            splits=options.splits,
            limit=options.digits,
            seed=options.seed,
            form=options.form,
            workers=options.workers,
            on_progress=show,
        )
    seconds = time.perf_counter() - began
    if as_json:
        typer.echo(json.dumps(_document(options, made, seconds), indent=1))
    else:
        _print(options, made, seconds)


def chosen_splits(text: str) -> "tuple[Split, ...]":
    """Return the splits of `--splits`, in their usual order; raises InputError for another name."""
    from gapctl.data.mad.source import SPLITS
    from gapctl.errors import InputError
    from gapctl.spec.nearest import did_you_mean

    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in SPLITS:
            close = did_you_mean(name, SPLITS)
            raise InputError(f"--splits {text}: no split {name!r}; expected {', '.join(SPLITS)} or one of them{close}")
    return tuple(split for split in SPLITS if split in names)


def chosen_format(text: str) -> "Format":
    """Return the format of `--format`; raises InputError for another name."""
    from gapctl.data.mad.shards.layout import FORMATS
    from gapctl.errors import InputError
    from gapctl.spec.nearest import did_you_mean

    if text not in FORMATS:
        close = did_you_mean(text, FORMATS)
        raise InputError(f"--format {text}: no such format; expected one of {', '.join(FORMATS)}{close}")
    return text


def _document(options: ShardOptions, made: "Made", seconds: float) -> dict[str, object]:
    held = made.description
    return {
        "source": options.source,
        "folder": str(options.out),
        "fingerprint": held.request.fingerprint,
        "format": held.request.format,
        "seed": held.request.seed,
        "shards": len(held.shards()),
        "made": made.made,
        "bytes": sum(record.bytes for record in held.files.values()),
        "splits": [{"split": split, "digits": n, "images": 24 * n} for split, n in held.digits.items()],
        "seconds": round(seconds, 3),
    }


def _print(options: ShardOptions, made: "Made", seconds: float) -> None:
    from gapctl.cli.terminal import plain_console

    held = made.description
    shards = held.shards()
    size = sum(record.bytes for record in held.files.values()) / 1e6
    per_split = ", ".join(f"{24 * count:,} {split}" for split, count in held.digits.items())
    console = plain_console()
    console.print(f"MAD from {options.source}, fingerprint {held.request.fingerprint}\nin {options.out}")
    console.print(
        f"{per_split} images in {len(shards)} shards of {held.request.format}, {size:,.0f} MB: "
        f"{made.made} made and {len(shards) - made.made} kept in {seconds:.1f} s"
    )


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars, one per task, that appear at a task's first call and are gone in the end."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from gapctl.cli.safe_console import SafeConsole

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=SafeConsole(stderr=True), transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(f"{name} (digits)", total=total)
            progress.update(tasks[name], completed=done, total=total)

        yield show
