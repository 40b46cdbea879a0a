"""`gapctl data` for MAD: make its images ahead of a sweep, download MNIST, and preview what a trial is trained on.

`make_shards` writes a folder of shards (`mad --out`), `_fill_image_cache` the cache (`mad`). `load_data` is what sweeps
and trials load their data with. `data_pairs.py` has the verbs for image-text shards.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from gapctl.cli.data_pairs import captions_command, index_command, reshard_command, stats_command, verify_command
from gapctl.cli.options import JsonOption
from gapctl.config.trial import Data, MadData, PairData

if TYPE_CHECKING:
    from rich.console import Console

    from gapctl.data.download import FetchResult
    from gapctl.data.load import Dataset
    from gapctl.data.mad.shard_folder import FolderResult
    from gapctl.data.mad.source import ShardFormat, Split
    from gapctl.errors import InputError


class ShardOptions(NamedTuple):
    """The options of `mad --out`; `digits` is the most of each split, None for all."""

    source: str
    out: Path
    splits: "tuple[Split, ...]"
    digits: int | None
    seed: int
    form: "ShardFormat"
    workers: int | None


def make_shards(options: ShardOptions, as_json: bool) -> None:
    """Make the shards that the folder lacks, and print what it contains."""
    from gapctl.cli.sweep import start_local_ray
    from gapctl.data.mad.shard_folder import make_folder

    began = time.perf_counter()
    with _show_task_bars() as show:
        made = make_folder(
            options.source,
            options.out,
            start_local_ray,
            splits=options.splits,
            limit=options.digits,
            seed=options.seed,
            form=options.form,
            workers=options.workers,
            on_progress=show,
        )
    seconds = time.perf_counter() - began
    if as_json:
        typer.echo(json.dumps(_build_shards_document(options, made, seconds), indent=1))
    else:
        _print_shards(options, made, seconds)


def parse_splits(text: str) -> "tuple[Split, ...]":
    """Return the splits of `--splits`, in their usual order; raise InputError for another name."""
    from gapctl.config.base import did_you_mean
    from gapctl.data.mad.source import SPLITS
    from gapctl.errors import InputError

    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in SPLITS:
            close = did_you_mean(name, SPLITS)
            raise InputError(f"--splits {text}: no split {name!r}; expected {', '.join(SPLITS)} or one of them{close}")
    return tuple(split for split in SPLITS if split in names)


def parse_format(text: str) -> "ShardFormat":
    """Return the format of `--format`; raise InputError for another name."""
    from gapctl.config.base import did_you_mean
    from gapctl.data.mad.source import SHARD_FORMATS
    from gapctl.errors import InputError

    if text not in SHARD_FORMATS:
        close = did_you_mean(text, SHARD_FORMATS)
        raise InputError(f"--format {text}: no such format; expected one of {', '.join(SHARD_FORMATS)}{close}")
    return text


def _build_shards_document(options: ShardOptions, made: "FolderResult", seconds: float) -> dict[str, object]:
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


def _print_shards(options: ShardOptions, made: "FolderResult", seconds: float) -> None:
    from gapctl.cli.output import make_plain_console

    held = made.description
    shards = held.shards()
    size = sum(record.bytes for record in held.files.values()) / 1e6
    per_split = ", ".join(f"{24 * count:,} {split}" for split, count in held.digits.items())
    console = make_plain_console()
    console.print(f"MAD from {options.source}, fingerprint {held.request.fingerprint}\nin {options.out}")
    console.print(
        f"{per_split} images in {len(shards)} shards of {held.request.format}, {size:,.0f} MB: "
        f"{made.made} made and {len(shards) - made.made} kept in {seconds:.1f} s"
    )


@contextmanager
def _show_task_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar for each task, from its first call on; remove them at the end."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from gapctl.cli.console import SafeConsole

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=SafeConsole(stderr=True), transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(f"{name} (digits)", total=total)
            progress.update(tasks[name], completed=done, total=total)

        yield show


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
    from gapctl.data.download import MIRRORS, MNIST_FILES, fetch_files
    from gapctl.errors import InputError, WorkError
    from gapctl.folders import find_cache_root

    if what != "mnist":
        raise InputError(f"{what}: no such data set; expected mnist")
    folder = out or find_cache_root() / "mnist"
    try:
        with _show_download_bars() as show:
            fetched = fetch_files(MNIST_FILES, mirror or MIRRORS, folder, show)
    except WorkError as error:
        raise WorkError(f"{error}\n{_explain_manual_copy(folder)}") from error
    if as_json:
        typer.echo(json.dumps(_build_download_document(folder, fetched), indent=1))
    else:
        _print_download(folder, fetched)


def _explain_manual_copy(folder: Path) -> str:
    from gapctl.data.download import MNIST_FILES

    files = [f"  {file.name}  (unzipped {file.bytes:,} bytes, sha256 {file.sha256})" for file in MNIST_FILES]
    return "\n".join(
        [
            "Without a network, copy these files, gzipped or not, from a machine that has one, and run this again:",
            *files,
            f"into {folder}. To check one: gzip -dc FILE | sha256sum. Another mirror: --mirror URL.",
        ]
    )


def _build_download_document(folder: Path, fetched: "Sequence[FetchResult]") -> dict[str, object]:
    files = [{"file": file.path.name, "bytes": file.path.stat().st_size, "mirror": file.mirror} for file in fetched]
    return {"folder": str(folder), "files": files}


def _print_download(folder: Path, fetched: "Sequence[FetchResult]") -> None:
    from gapctl.cli.output import make_plain_console

    console = make_plain_console()
    for file in fetched:
        console.print(f"{file.path.name}: {f'from {file.mirror}' if file.mirror else 'was there'}, checked")
    console.print(f"All of MAD: gapctl data mad --source {folder} --out FOLDER")


@contextmanager
def _show_download_bars() -> Iterator[Callable[[str, int, int | None], None]]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    from gapctl.cli.console import SafeConsole

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=SafeConsole(stderr=True), transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done, total=total)

        yield show


MAX_PICTURES = 400
"""The most pictures on a sheet; more take a minute to make and cannot be looked at."""

data_app = typer.Typer(
    name="data", help="Build and look at data.", no_args_is_help=True, add_completion=False, rich_markup_mode="markdown"
)

SourceOption = Annotated[
    str, typer.Option("--source", help="`bundled`, or a folder of MNIST's IDX files.", metavar="FOLDER")
]


class SplitSummary(NamedTuple):
    """One split's images on disk; `seconds` is the time that making or finding them took."""

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
    wanted = parse_splits(splits)
    if out is not None:
        options = ShardOptions(source, out, wanted, digits, seed or 0, parse_format(form or "npy"), workers)
        make_shards(options, as_json)
        return
    _refuse_shard_options({"--digits": digits, "--seed": seed, "--format": form})
    _fill_image_cache(source, wanted, workers, as_json)


def _refuse_shard_options(given: "dict[str, object]") -> None:
    from gapctl.errors import InputError

    for option, value in given.items():
        if value is not None:
            raise InputError(f"{option} {value}: only for a folder of shards; give --out FOLDER, or leave it out")


def _fill_image_cache(source: str, splits: "Sequence[Split]", workers: int | None, as_json: bool) -> None:
    from gapctl.cli.console import SafeConsole
    from gapctl.data.mad.digits import load_digits
    from gapctl.data.mad.source import compute_dataset_fingerprint

    prepared = []
    for split in splits:
        load_digits(source, split)
        with show_variants_bar(SafeConsole(stderr=True)) as show:
            prepared.append(_prepare_split(source, split, workers, show))
    if as_json:
        document = {"source": source, "fingerprint": compute_dataset_fingerprint(source)}
        typer.echo(json.dumps({**document, "splits": [split._asdict() for split in prepared]}, indent=1))
    else:
        _print_splits(source, compute_dataset_fingerprint(source), prepared)


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
    from gapctl.data.mad.contact_sheet import draw_contact_sheet
    from gapctl.data.mad.factors import FACTOR_NAMES

    _check_choice("--main-factor", main_factor, FACTOR_NAMES)
    _check_choice("--order", order, ("shuffled", "canonical"))
    _check_sheet(columns, rows, out)
    captions = {"attributes": attributes, "order": order}
    about = MadData.model_validate({"main_factor": main_factor, "captions": captions})
    sheet = draw_contact_sheet(source, about, columns, rows, seed)
    try:
        sheet.save(out, format="PNG")
    except OSError as error:
        raise _build_write_error(out, error.strerror or str(error)) from error
    typer.echo(
        f"{out}: {columns * rows} training samples of seed {seed} from {source}, {sheet.width} x {sheet.height} "
        f"pixels; captions name the {main_factor} and {attributes} of the other five factors, {order}"
    )


def _prepare_split(source: str, split: "Split", workers: int | None, show: Callable[[int, int], None]) -> SplitSummary:
    from gapctl.data.mad.images import find_variants, load_variants, locate_variants_file

    began = time.perf_counter()
    found = find_variants(source, split)
    variants = load_variants(source, split, show, workers=workers) if found is None else found
    file, (digits, shapes) = locate_variants_file(source, split), variants.images_NVHW.shape[:2]
    seconds = time.perf_counter() - began
    return SplitSummary(split, str(file), digits, digits * shapes, file.stat().st_size, found is None, seconds)


def _print_splits(source: str, fingerprint: str, splits: Sequence[SplitSummary]) -> None:
    from rich.table import Table

    from gapctl.cli.console import SafeConsole
    from gapctl.cli.output import make_plain_console

    table = Table("split", "digits", "images", "file", "size", "", box=None, pad_edge=False)
    for column in (1, 2, 4):
        table.columns[column].justify = "right"
    for split in splits:
        done = f"{'made' if split.made else 'found'} in {split.seconds:.1f} s"
        size, name = f"{split.bytes / 1e6:,.1f} MB", Path(split.file).name
        table.add_row(split.split, f"{split.digits:,}", f"{split.images:,}", name, size, done)
    make_plain_console().print(f"MAD from {source}, fingerprint {fingerprint}\nin {Path(splits[0].file).parent}")
    SafeConsole().print(table)


def _check_choice(option: str, value: str, choices: Iterable[str]) -> None:
    from gapctl.config.base import did_you_mean
    from gapctl.errors import InputError

    if value not in choices:
        close = did_you_mean(value, choices)
        raise InputError(f"{option} {value}: no such choice; expected one of {', '.join(choices)}{close}")


def _check_sheet(columns: int, rows: int, out: Path) -> None:
    from gapctl.errors import InputError

    if columns * rows > MAX_PICTURES:
        raise InputError(
            f"--columns {columns} --rows {rows}: {columns * rows:,} pictures; expected at most {MAX_PICTURES} in all"
        )
    if out.suffix.lower() != ".png":
        raise InputError(f"--out {out}: expected a name that ends in .png")
    if not out.parent.is_dir():
        raise _build_write_error(out, f"there is no folder {out.parent}")


def _build_write_error(out: Path, reason: str) -> "InputError":
    from gapctl.errors import InputError

    return InputError(f"--out {out}: cannot be written ({reason}); expected a file in a folder that can")


MAKING_VARIANTS: Final = "making MAD's variants (once; they are cached)"


def load_data(data: Data, console: "Console", *, announce: bool = False) -> "Dataset":
    """Load the data of a configuration, made and cached at first use; `announce` as in `show_variants_bar`.

    Print which image-text pairs are left out, and why.
    """
    from gapctl.data.load import load_dataset

    with show_variants_bar(console, announce=announce) as show:
        loaded = load_dataset(data, on_progress=show)
    if isinstance(data, PairData):
        _print_omitted_pairs(data, console)
    return loaded


def _print_omitted_pairs(data: PairData, console: "Console") -> None:
    from gapctl.data.image_text.manifest import tally_manifest
    from gapctl.data.image_text.source import open_pairs, resolve_pair_paths

    pairs = open_pairs(resolve_pair_paths(data))
    for source, manifest in {data.source: pairs.train, data.held_out or data.source: pairs.held_out}.items():
        tally = tally_manifest(manifest)
        if tally.lines:
            console.print(f"{source}: {tally.usable:,} usable of {tally.samples:,} samples", soft_wrap=True)
        for line in tally.lines:
            console.print(line, soft_wrap=True)


@contextmanager
def show_variants_bar(console: "Console", *, announce: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar from the first call (digits done, digits in all) on; remove it at the end.

    Without a terminal there is no bar; with `announce`, a line then explains the wait.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(MAKING_VARIANTS, total=None, visible=False)

        def show(done: int, total: int) -> None:
            if announce and not console.is_terminal and not progress.tasks[task].visible:
                console.print(MAKING_VARIANTS, highlight=False, markup=False, soft_wrap=True)
            progress.update(task, completed=done, total=total, visible=True)

        yield show
