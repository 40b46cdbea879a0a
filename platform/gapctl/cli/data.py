"""`gapctl data`: makes MAD's images ahead of a sweep, and shows what a trial is trained on."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, cast

import typer

from gapctl.cli.data_captions import captions_command
from gapctl.cli.data_fetch import fetch_command
from gapctl.cli.data_index import index_command
from gapctl.cli.data_reshard import reshard_command
from gapctl.cli.data_stats import stats_command
from gapctl.cli.data_verify import verify_command
from gapctl.cli.options import JsonOption

if TYPE_CHECKING:
    from gapctl.data.mad.captions import CaptionRule, Order
    from gapctl.data.mad.source import Split
    from gapctl.errors import InputError

MOST_SHOWN = 400
"""Pictures on one sheet; more take a minute to make and cannot be looked at."""

data_app = typer.Typer(name="data", help="Build and look at data.", no_args_is_help=True)

SourceOption = Annotated[
    str, typer.Option("--source", help="`bundled`, or a folder of MNIST's IDX files.", metavar="FOLDER")
]


class PreparedSplit(NamedTuple):
    """One split's images on disk; `seconds` is what it took to make or find them."""

    split: str
    file: str
    digits: int
    images: int
    bytes: int
    made: bool
    seconds: float


data_app.command("verify")(verify_command)
data_app.command("fetch")(fetch_command)
data_app.command("index")(index_command)
data_app.command("captions")(captions_command)
data_app.command("reshard")(reshard_command)
data_app.command("stats")(stats_command)


@data_app.command("mad")
def mad_command(
    source: SourceOption = "bundled",
    out: Annotated[Path | None, typer.Option("--out", help="Make a folder of shards there.", metavar="FOLDER")] = None,
    splits: Annotated[
        str, typer.Option("--splits", help="`train`, `test` or both.", metavar="SPLIT,...")
    ] = "train,test",
    digits: Annotated[
        int | None, typer.Option("--digits", min=1, help="Only the first digits of each split (with --out).")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=2**31 - 1, help="Other random choices (with --out).")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="`npy` or `webdataset` (with --out).", metavar="FORMAT")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; by default one per core.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make every image of MAD and keep it, or find it: in the cache, or with --out in a folder of shards.

    Each digit comes in 24 shapes (thickness, swelling, fracture, scale); colours and captions are drawn later. The
    cache is `$GAPCTL_CACHE`, or `~/.cache/gapctl`. A sweep does the same at its start where this was not run.

    With --out, Ray Data makes arrays to map into memory (or webdataset's tar files, coloured and captioned) with a
    manifest and checksums. Stopped work goes on where it was; a sweep file may name the folder as `data.source`.
    """
    from gapctl.cli.data_shards import ShardOptions, chosen_format, chosen_splits, make_shards

    wanted = chosen_splits(splits)
    if out is not None:
        options = ShardOptions(source, out, wanted, digits, seed or 0, chosen_format(form or "npy"), workers)
        make_shards(options, as_json)
        return
    _check_needs_out({"--digits": digits, "--seed": seed, "--format": form})
    _fill_cache(source, wanted, workers, as_json)


def _check_needs_out(given: "dict[str, object]") -> None:
    from gapctl.errors import InputError

    for option, value in given.items():
        if value is not None:
            raise InputError(f"{option} {value}: only for a folder of shards; give --out FOLDER, or leave it out")


def _fill_cache(source: str, splits: "Sequence[Split]", workers: int | None, as_json: bool) -> None:
    from gapctl.cli.preparing import variants_bar
    from gapctl.cli.safe_console import SafeConsole
    from gapctl.data.mad.digits import load_digits
    from gapctl.data.mad.fingerprint import dataset_fingerprint

    prepared = []
    for split in splits:
        load_digits(source, split)
        with variants_bar(SafeConsole(stderr=True)) as show:
            prepared.append(_prepare(source, split, workers, show))
    if as_json:
        document = {"source": source, "fingerprint": dataset_fingerprint(source)}
        typer.echo(json.dumps({**document, "splits": [split._asdict() for split in prepared]}, indent=1))
    else:
        _print(source, dataset_fingerprint(source), prepared)


@data_app.command("preview")
def preview_command(
    source: SourceOption = "bundled",
    main_factor: Annotated[
        str, typer.Option("--main-factor", help="The factor that every caption names.", metavar="FACTOR")
    ] = "digit",
    attributes: Annotated[
        int, typer.Option("--attributes", help="How many of the other five factors it names.", min=0, max=5)
    ] = 5,
    order: Annotated[str, typer.Option("--order", help="`shuffled` or `canonical`.", metavar="ORDER")] = "shuffled",
    columns: Annotated[int, typer.Option("--columns", min=1, help="Pictures side by side.")] = 6,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Pictures above one another.")] = 4,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="The trial's seed.")] = 0,
    out: Annotated[Path, typer.Option("--out", help="The picture to write.", metavar="FILE.png")] = Path("mad.png"),
) -> None:
    """Draw the first training samples of a seed, each over its caption, into one picture."""
    from gapctl.data.mad.contact_sheet import contact_sheet

    rule = _caption_rule(main_factor, attributes, order)
    _check_sheet(columns, rows, out)
    sheet = contact_sheet(source, rule.main_factor, rule.attributes, rule.order, columns, rows, seed)
    try:
        sheet.save(out, format="PNG")
    except OSError as error:
        raise _unwritable(out, error.strerror or str(error)) from error
    typer.echo(
        f"{out}: {columns * rows} training samples of seed {seed} from {source}, {sheet.width} x {sheet.height} "
        f"pixels; captions name the {main_factor} and {attributes} of the other five factors, {order}"
    )


def _prepare(source: str, split: "Split", workers: int | None, show: Callable[[int, int], None]) -> PreparedSplit:
    from gapctl.data.mad.store import find_variants, load_variants, variants_file

    began = time.perf_counter()
    found = find_variants(source, split)
    variants = load_variants(source, split, show, workers=workers) if found is None else found
    file, (digits, shapes) = variants_file(source, split), variants.images_NVHW.shape[:2]
    seconds = time.perf_counter() - began
    return PreparedSplit(split, str(file), digits, digits * shapes, file.stat().st_size, found is None, seconds)


def _print(source: str, fingerprint: str, splits: Sequence[PreparedSplit]) -> None:
    from rich.table import Table

    from gapctl.cli.safe_console import SafeConsole
    from gapctl.cli.terminal import plain_console

    table = Table("split", "digits", "images", "file", "size", "", box=None, pad_edge=False)
    for column in (1, 2, 4):
        table.columns[column].justify = "right"
    for split in splits:
        done = f"{'made' if split.made else 'found'} in {split.seconds:.1f} s"
        size, name = f"{split.bytes / 1e6:,.1f} MB", Path(split.file).name
        table.add_row(split.split, f"{split.digits:,}", f"{split.images:,}", name, size, done)
    plain_console().print(f"MAD from {source}, fingerprint {fingerprint}\nin {Path(splits[0].file).parent}")
    SafeConsole().print(table)


def _caption_rule(main_factor: str, attributes: int, order: str) -> "CaptionRule":
    from gapctl.data.mad.captions import CaptionRule
    from gapctl.data.mad.factors import FACTOR_NAMES

    _check_choice("--main-factor", main_factor, FACTOR_NAMES)
    _check_choice("--order", order, ("shuffled", "canonical"))
    return CaptionRule(main_factor, attributes, cast("Order", order))


def _check_choice(option: str, value: str, choices: Iterable[str]) -> None:
    from gapctl.errors import InputError
    from gapctl.spec.nearest import did_you_mean

    if value not in choices:
        close = did_you_mean(value, choices)
        raise InputError(f"{option} {value}: no such choice; expected one of {', '.join(choices)}{close}")


def _check_sheet(columns: int, rows: int, out: Path) -> None:
    from gapctl.errors import InputError

    if columns * rows > MOST_SHOWN:
        raise InputError(
            f"--columns {columns} --rows {rows}: {columns * rows:,} pictures; expected at most {MOST_SHOWN} in all"
        )
    if out.suffix.lower() != ".png":
        raise InputError(f"--out {out}: expected a name that ends in .png")
    if not out.parent.is_dir():
        raise _unwritable(out, f"there is no folder {out.parent}")


def _unwritable(out: Path, reason: str) -> "InputError":
    from gapctl.errors import InputError

    return InputError(f"--out {out}: cannot be written ({reason}); expected a file in a folder that can")
