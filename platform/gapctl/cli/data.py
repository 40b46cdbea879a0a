"""`gapctl data` for MAD: make its images ahead of a sweep, download MNIST, and preview what a trial is trained on.

`_make_shards` writes a folder of shards (`mad --out`), `_fill_image_cache` the cache (`mad`). `load_data` is what
sweeps and trials load their data with. `data_pairs.py` has the verbs for image-text shards, and
`data_pack.py` the one that packs other layouts.
"""

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer
from rich.console import Console

from gapctl.cli.completion import complete_sets
from gapctl.cli.console import SafeConsole, make_plain_console, make_table, show_progress
from gapctl.cli.data_fetch import fetch_cc12m
from gapctl.cli.data_pack import pack_command
from gapctl.cli.data_pairs import captions_command, index_command, reshard_command, stats_command, verify_command
from gapctl.cli.options import JsonOption
from gapctl.cli.output import build_address_error, format_megabytes, print_json_or_text, require_choice
from gapctl.config.base import WrongValueError, format_choices, format_word_suggestion
from gapctl.config.evaluation_sets import NamedSet, load_shipped_sets, require_set
from gapctl.config.trial import MOST_SYNONYMS, NO_FACTORS, Data, DrawTime, MadData, PairData
from gapctl.data.download import MIRRORS, MNIST_FILES, fetch_files
from gapctl.data.image_text.source import BUNDLED, load_pair_manifests, resolve_pair_paths
from gapctl.data.mad.factors import FACTOR_NAMES
from gapctl.data.mad.source import SHARD_FORMATS, SPLITS, ShardFormat, Split, compute_dataset_fingerprint
from gapctl.errors import InputError, WorkError
from gapctl.folders import expand_home, find_cache_root
from gapctl.text import join_and

if TYPE_CHECKING:
    from pydantic import ValidationError

    from gapctl.data.load import Dataset

MAX_PICTURES = 400
"""The most pictures on a sheet; more take a minute to make and cannot be looked at."""
MAKING_VARIANTS = "making MAD's variants (once; they are cached)"
PREPARING_PAIRS = "preparing the list of pairs (once; it is cached)"

data_app = typer.Typer(
    name="data", help="Build and look at data.", no_args_is_help=True, add_completion=False, rich_markup_mode="markdown"
)

SourceOption = Annotated[
    str, typer.Option("--source", help="`bundled`, or a folder of MNIST's IDX files.", metavar="FOLDER")
]

data_app.command("verify")(verify_command)


@data_app.command("fetch")
def fetch_command(
    what: Annotated[
        str,
        typer.Argument(
            help="`mnist`, `cc12m`, or an evaluation set such as `coco`.",
            metavar="DATASET",
            autocompletion=complete_sets,
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            help="Where to; by default a folder of the cache, where it is found. For cc12m a path or an address.",
            metavar="FOLDER",
        ),
    ] = None,
    mirror: Annotated[
        list[str] | None,
        typer.Option(
            "--mirror",
            help="An address to try instead of the usual ones, or another hub (all but mnist); may be repeated.",
            metavar="URL",
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say how many bytes and hours, and how much disk (cc12m).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Download MNIST's four files, CC12M or an evaluation set and check them; a download that broke off is continued.

    Without a network it says which files to put where, and how to check them. Where a licence is yours to agree to, it
    says how to get the images.
    """
    known = ["mnist", "cc12m", *load_shipped_sets()]
    if what not in known:
        raise InputError(f"{what}: no such data set; {format_choices(what, known)}")
    if what == "cc12m":
        fetch_cc12m(out, _require_one_hub(mirror), plan, as_json)
        return
    if plan:
        raise InputError(f"--plan: only for cc12m, as {what} is small; leave it out")
    if out is not None and "://" in out:
        raise build_address_error("--out", out)
    place = None if out is None else expand_home(out)
    if what != "mnist":
        _fetch_evaluation_set(what, place, _require_one_hub(mirror), as_json)
        return
    folder = place or find_cache_root() / "mnist"
    try:
        with show_progress(in_bytes=True) as show:
            fetched = fetch_files(MNIST_FILES, mirror or MIRRORS, folder, show)
    except WorkError as error:
        files = [f"  {file.name}  (unzipped {file.bytes:,} bytes, sha256 {file.sha256})" for file in MNIST_FILES]
        advice = [
            "Without a network, copy these files, gzipped or not, from a machine that has one, and run this again:",
            *files,
            f"into {folder}. To check one: gzip -dc FILE | sha256sum. Another mirror: --mirror URL.",
        ]
        raise WorkError("\n".join([str(error), *advice])) from error
    listed = [{"file": file.path.name, "bytes": file.path.stat().st_size, "mirror": file.mirror} for file in fetched]

    def render() -> None:
        console = make_plain_console()
        for file in fetched:
            console.print(f"{file.path.name}: {f'from {file.mirror}' if file.mirror else 'was there'}, checked")
        console.print(f"All of MAD: gapctl data mad --source {folder} --out FOLDER")

    print_json_or_text({"folder": str(folder), "files": listed}, render, as_json)


def _require_one_hub(mirrors: list[str] | None) -> str | None:
    """Return the address of another hub, or None; raise InputError for several, and for no address of the web."""
    if mirrors and len(mirrors) > 1:
        raise InputError(f"--mirror: {len(mirrors)} given; expected one hub")
    for mirror in mirrors or ():
        if not mirror.startswith(("http://", "https://")):
            raise InputError(f"--mirror {mirror}: expected an address that begins with http:// or https://")
    return mirrors[0] if mirrors else None


def _fetch_evaluation_set(name: str, out: Path | None, mirror: str | None, as_json: bool) -> None:
    """Download an evaluation set that comes with gapctl and check its counts, or say how to get it."""
    from gapctl.data.hub import download_evaluation_set
    from gapctl.data.image_text.evaluation_sets import locate_downloaded_set, open_set

    shipped = load_shipped_sets()[name]
    if not shipped.fetch:
        raise InputError(
            f"{name} ({shipped.title}) is not downloaded, as its licence is yours to agree to: {shipped.licence}.\n"
            f"{shipped.how}\nThen name its place in a sweep file: evaluation_sets: {{{name}: {{source: PLACE}}}}"
        )
    folder = locate_downloaded_set(name) if out is None else out
    with show_progress() as show:
        fetched = download_evaluation_set(shipped.hub, shipped.split, folder, show, mirror)
    definition = require_set(name).model_copy(update={"source": str(folder)})
    with show_progress(in_bytes=True) as show:
        opened = open_set(NamedSet(name, definition), lambda done, total: show(f"checking {name}", done, total))
    document = {
        "set": name,
        "folder": str(folder),
        "licence": shipped.licence,
        **fetched._asdict(),
        **opened.about,
        "fingerprint": opened.fingerprint,
    }

    def render() -> None:
        counts = ", ".join(f"{count:,} {noun}" for noun, count in opened.about.items() if isinstance(count, int))
        console = make_plain_console()
        console.print(
            f"{folder}: {shipped.title}: {counts} in {fetched.shards} shards, {format_megabytes(fetched.bytes)}, "
            f"checked; {fetched.fetched} files downloaded. Licence: {shipped.licence}"
        )
        console.print(f"checksum {opened.checksum}: write it as `expect: {{checksum: {opened.checksum}}}` to hold it")
        if out is not None:
            console.print(f"In a sweep file: evaluation_sets: {{{name}: {{source: {folder}}}}}")

    print_json_or_text(
        {key: str(value) if isinstance(value, Path) else value for key, value in document.items()}, render, as_json
    )


data_app.command("pack")(pack_command)
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
    wanted = _parse_splits(splits)
    if out is not None:
        _make_shards(source, out, wanted, digits, seed or 0, form or "npy", workers, as_json)
        return
    for option, value in {"--digits": digits, "--seed": seed, "--format": form}.items():
        if value is not None:
            raise InputError(f"{option} {value}: only for a folder of shards; give --out FOLDER, or leave it out")
    _fill_image_cache(source, wanted, workers, as_json)


def _parse_splits(text: str) -> tuple[Split, ...]:
    """Return the splits of `--splits`, in their usual order; raise InputError for another name."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in SPLITS:
            close = format_word_suggestion(name, SPLITS)
            raise InputError(f"--splits {text}: no split {name!r}; expected {', '.join(SPLITS)} or one of them{close}")
    return tuple(split for split in SPLITS if split in names)


def _make_shards(
    source: str,
    out: Path,
    splits: tuple[Split, ...],
    digits: int | None,
    seed: int,
    form: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Make the shards that the folder lacks, and print what it contains; `digits` is the most of each split."""
    from gapctl.cli.sweep import start_local_ray
    from gapctl.data.mad.shard_folder import make_folder

    require_choice("--format", form, SHARD_FORMATS, "format")
    began = time.perf_counter()
    with show_progress() as show:
        made = make_folder(
            source,
            out,
            start_local_ray,
            splits=splits,
            limit=digits,
            seed=seed,
            form=cast("ShardFormat", form),
            workers=workers,
            on_progress=lambda name, done, total: show(f"{name} (digits)", done, total),
        )
    seconds, held, request = time.perf_counter() - began, made.description, made.description.request
    shards, size = len(held.shards()), sum(record.bytes for record in held.files.values())
    document = {
        "source": source,
        "folder": str(out),
        "fingerprint": request.fingerprint,
        "format": request.format,
        "seed": request.seed,
        "shards": shards,
        "made": made.made,
        "bytes": size,
        "splits": [{"split": split, "digits": count, "images": 24 * count} for split, count in held.digits.items()],
        "seconds": round(seconds, 3),
    }

    def render() -> None:
        console = make_plain_console()
        console.print(f"MAD from {source}, fingerprint {request.fingerprint}\nin {out}")
        images = ", ".join(f"{24 * count:,} {split}" for split, count in held.digits.items())
        console.print(
            f"{images} images in {shards} shards of {request.format}, {format_megabytes(size)}: "
            f"{made.made} made and {shards - made.made} kept in {seconds:.1f} s"
        )

    print_json_or_text(document, render, as_json)


def _fill_image_cache(source: str, splits: tuple[Split, ...], workers: int | None, as_json: bool) -> None:
    """Make the images of the splits that the cache lacks; `seconds` is the time that making or finding them took."""
    from gapctl.data.mad.digits import load_digits
    from gapctl.data.mad.images import find_variant_images, load_variant_images, locate_variants_file

    prepared: list[dict[str, object]] = []
    table = make_table("split", "digits", "images", "file", "size", "", right=(1, 2, 4))
    for split in splits:
        load_digits(source, split)
        began = time.perf_counter()
        found = find_variant_images(source, split)
        variants = found
        if variants is None:
            with show_progress() as show:
                variants = load_variant_images(source, split, partial(show, MAKING_VARIANTS), workers=workers)
        file, (digits, shapes) = locate_variants_file(source, split), variants.images_NVHW.shape[:2]
        size, seconds = file.stat().st_size, time.perf_counter() - began
        facts = {"split": split, "file": str(file), "digits": digits, "images": digits * shapes, "bytes": size}
        prepared.append({**facts, "made": found is None, "seconds": seconds})
        done = f"{'made' if found is None else 'found'} in {seconds:.1f} s"
        table.add_row(split, f"{digits:,}", f"{digits * shapes:,}", file.name, format_megabytes(size, 1), done)
    fingerprint = compute_dataset_fingerprint(source)

    def render() -> None:
        make_plain_console().print(f"MAD from {source}, fingerprint {fingerprint}\nin {file.parent}")
        SafeConsole().print(table)

    print_json_or_text({"source": source, "fingerprint": fingerprint, "splits": prepared}, render, as_json)


@data_app.command("preview")
def preview_command(
    source: SourceOption = "bundled",
    main_factor: Annotated[
        str, typer.Option("--main-factor", help="The factor that every caption names.", metavar="FACTOR")
    ] = "digit",
    attributes: Annotated[
        int | None,
        typer.Option("--attributes", help="How many of the other five factors it names; by default all.", min=0, max=5),
    ] = None,
    order: Annotated[str, typer.Option("--order", help="`shuffled` or `canonical`.", metavar="ORDER")] = "shuffled",
    fixed: Annotated[
        str,
        typer.Option("--fixed", help="The attributes that every caption names: `colour,scale`.", metavar="FACTOR,..."),
    ] = NO_FACTORS,
    synonyms: Annotated[
        int, typer.Option("--synonyms", help="Words for each value, of which one is drawn.", min=1, max=MOST_SYNONYMS)
    ] = 1,
    synonym_draw: Annotated[
        str, typer.Option("--synonym-draw", help="`each_access` or `once` for a digit.", metavar="WHEN")
    ] = "each_access",
    columns: Annotated[int, typer.Option("--columns", min=1, help="Pictures side by side.")] = 6,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Pictures above one another.")] = 4,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="The trial's seed.")] = 0,
    out: Annotated[Path, typer.Option("--out", help="The picture to write.", metavar="FILE.png")] = Path("mad.png"),
) -> None:
    """Draw the first training samples of a seed, each over its caption, into one picture."""
    from pydantic import ValidationError

    from gapctl.data.mad.contact_sheet import draw_contact_sheet

    require_choice("--main-factor", main_factor, FACTOR_NAMES)
    require_choice("--order", order, ("shuffled", "canonical"))
    require_choice("--synonym-draw", synonym_draw, get_args(DrawTime))
    captions = {"order": order, "fixed": fixed, "synonyms": synonyms, "synonym_draw": synonym_draw}
    captions |= {} if attributes is None else {"attributes": attributes}
    try:
        about = MadData.model_validate({"main_factor": main_factor, "captions": captions})
    except ValidationError as error:
        option, text = _name_wrong_option(error)
        raise InputError(f"{option}: {text}") from error
    if columns * rows > MAX_PICTURES:
        raise InputError(
            f"--columns {columns} --rows {rows}: {columns * rows:,} pictures; expected at most {MAX_PICTURES} in all"
        )
    if out.suffix.lower() != ".png":
        raise InputError(f"--out {out}: expected a name that ends in .png")

    def refuse(reason: str) -> InputError:
        return InputError(f"--out {out}: cannot be written ({reason}); expected a file in a folder that can")

    if not out.parent.is_dir():
        raise refuse(f"there is no folder {out.parent}")
    sheet = draw_contact_sheet(source, about, columns, rows, seed)
    try:
        sheet.save(out, format="PNG")
    except OSError as error:
        raise refuse(error.strerror or str(error)) from error
    typer.echo(
        f"{out}: {columns * rows} training samples of seed {seed} from {source}, {sheet.width} x {sheet.height} "
        f"pixels; captions name the {main_factor} and {_describe_attributes(about)}, {order}"
    )


def _name_wrong_option(error: "ValidationError") -> tuple[str, str]:
    """Return the option that a value of the data section came from, and what is wrong with it."""
    first = error.errors()[0]
    wrong = first.get("ctx", {}).get("error", first["msg"])
    key = wrong.key.rpartition(".")[2] if isinstance(wrong, WrongValueError) else str(first["loc"][-1])
    return f"--{key.replace('_', '-')}", str(wrong)


def _describe_attributes(about: MadData) -> str:
    """Return which attributes captions name, and by how many words."""
    captions = about.captions
    named = join_and(captions.fixed) if captions.fixed else f"{captions.attributes} of the other five factors"
    if captions.synonyms == 1:
        return named
    drawn = "at each access" if captions.synonym_draw == "each_access" else "once for a digit"
    return f"{named}, by one of {captions.synonyms} words drawn {drawn}"


def load_data(data: Data, console: Console, *, announce: bool = False) -> "Dataset":
    """Load the data of a configuration, made and cached at first use; `announce` that as `show_progress` does.

    Print which image-text pairs are left out, and why.
    """
    from gapctl.data.load import load_dataset

    with show_progress(console, announce=announce) as show:
        making = PREPARING_PAIRS if isinstance(data, PairData) else MAKING_VARIANTS
        loaded = load_dataset(data, on_progress=partial(show, making))
    if isinstance(data, PairData):
        from gapctl.data.image_text.manifest import format_caption_notes, tally_manifest

        pairs = load_pair_manifests(resolve_pair_paths(data))
        for source, manifest in {data.source: pairs.train, data.held_out or data.source: pairs.held_out}.items():
            tally = tally_manifest(manifest)
            if tally.lines:
                console.print(f"{source}: {tally.usable:,} usable of {tally.samples:,} samples", soft_wrap=True)
            for line in tally.lines:
                console.print(line, soft_wrap=True)
            for line in format_caption_notes(manifest) if source != BUNDLED else ():
                console.print(f"{source}: {line}", soft_wrap=True)
    return loaded
