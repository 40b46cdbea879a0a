"""`gapctl data` for image-text shards: `index`, `captions`, `reshard`, `stats` and `verify`.

Each verb loads or builds a manifest, calls its function in `gapctl.data.image_text`, and prints the result as text or
JSON. `verify` also checks folders of MAD's shards.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapctl.cli.options import JsonOption

if TYPE_CHECKING:
    from gapctl.config.trial import PairCaptions
    from gapctl.data.image_text.index import IndexResult, Sample
    from gapctl.data.image_text.manifest import Manifest, ManifestTally
    from gapctl.data.image_text.storage import ShardInfo
    from gapctl.data.image_text.tools import ColumnStats, PairStats, PairVerification, ReshardResult
    from gapctl.data.mad.shard_folder import Verification
    from gapctl.data.shard_jobs import Workers


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
    from gapctl.data.image_text.index import index_shards
    from gapctl.data.image_text.manifest import tally_manifest
    from gapctl.data.image_text.storage import list_shards
    from gapctl.errors import InputError
    from gapctl.folders import expand_home

    began = time.perf_counter()
    stored = list_shards(shards)
    target = expand_home(out or choose_manifest_path(stored))
    if target.suffix != ".parquet":
        raise InputError(f"--out {target}: expected a name that ends in .parquet")
    with show_bytes_bar("indexing") as show:
        indexed = index_shards(stored, target, choose_workers(workers, address), show)
    seconds = time.perf_counter() - began
    if as_json:
        typer.echo(json.dumps(_build_index_document(target, indexed, seconds), indent=1))
    else:
        _print_index(target, indexed, seconds)
    tally_manifest(indexed.manifest).require_usable(str(target))


def choose_manifest_path(shards: "Sequence[ShardInfo]") -> Path:
    """Return a path beside the shards where they share one local folder, else in the working folder."""
    folders = {str(Path(shard.address).parent) for shard in shards if "://" not in shard.address}
    alone = len(folders) == 1 and all("://" not in shard.address for shard in shards)
    return Path(folders.pop() if alone else ".") / "manifest.parquet"


def choose_workers(processes: int | None, address: str | None) -> "Workers":
    """Return processes of this machine, or the Ray cluster at an address."""
    from functools import partial

    from gapctl.data.shard_jobs import Workers, count_available_cores
    from gapctl.sweep.ray_session import check_address, open_ray_session

    check_address(address)
    return Workers(processes or count_available_cores(), partial(open_ray_session, address) if address else None)


def count_shared_keys(manifest: "Manifest") -> int:
    """Count the keys that name samples of more than one shard; such samples are told apart by shard."""
    import polars as pl

    keys = manifest.samples.select("key", "shard").unique().group_by("key").len()
    return int(keys.select((pl.col("len") > 1).sum()).item())


def _build_index_document(target: Path, indexed: "IndexResult", seconds: float) -> dict[str, Any]:
    from gapctl.data.image_text.manifest import tally_manifest

    found = indexed.manifest
    tally = tally_manifest(found)
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
        "shared_keys": count_shared_keys(found),
        "damaged": {address: why for address, (_, why) in tally.damaged.items()},
        "seconds": round(seconds, 3),
    }


def _print_index(target: Path, indexed: "IndexResult", seconds: float) -> None:
    from gapctl.cli.output import make_plain_console
    from gapctl.data.image_text.manifest import tally_manifest

    found, console = indexed.manifest, make_plain_console()
    tally = tally_manifest(found)
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
    if again := count_shared_keys(found):
        console.print(f"{again:,} keys stand in more than one shard; such samples are told apart by their shard")


@contextmanager
def show_bytes_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar over bytes on standard error; remove it at the end."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from gapctl.cli.output import make_plain_console

    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = make_plain_console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None, visible=False)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)


MAX_SAMPLES = 1000
MAX_SENTENCES = 1000


def captions_command(
    places: Annotated[
        list[str] | None,
        typer.Argument(help="Tar shards or a manifest; without them, only the table.", metavar="[SHARDS|MANIFEST]"),
    ] = None,
    show: Annotated[int, typer.Option("--show", min=1, max=MAX_SAMPLES, help="How many samples.")] = 10,
    keep: Annotated[
        str | None, typer.Option("--keep", help="Only these treatments; by default all.", metavar="NAME,...")
    ] = None,
    rate: Annotated[float, typer.Option("--rate", help="The share that words and length_matched keep.")] = 0.25,
    sentences: Annotated[int, typer.Option("--sentences", help="How many of them sentences keeps.")] = 1,
    field: Annotated[
        str | None, typer.Option("--field", help="The json key of a second caption, for enriched.", metavar="KEY")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="The trial's seed.")] = 0,
    epoch: Annotated[int, typer.Option("--epoch", min=0, max=2**31 - 1, help="The epoch, counted from 0.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """List the caption treatments, and show what a training of this seed would read in this epoch."""
    rules = _parse_rules(keep, rate, sentences, field)
    samples = _read_first_samples(places, show) if places else []
    treated = [_treat_sample(rules, number, sample, seed, epoch) for number, sample in samples]
    if as_json:
        typer.echo(json.dumps({"treatments": _list_treatments(rules), "samples": treated}, indent=1))
    else:
        _print_captions(rules, treated)


def _parse_rules(keep: str | None, rate: float, sentences: int, field: str | None) -> "list[PairCaptions]":
    from gapctl.config.base import did_you_mean
    from gapctl.config.trial import PairCaptions
    from gapctl.data.treatments import TREATMENTS
    from gapctl.errors import InputError

    names = (
        [name.strip() for name in keep.split(",")]
        if keep
        else [name for name in TREATMENTS if name != "enriched" or field is not None]
    )
    for name in names:
        if name not in TREATMENTS:
            close = did_you_mean(name, TREATMENTS)
            raise InputError(f"--keep: keep is {name!r}, expected one of {', '.join(TREATMENTS)}{close}")
    if not 0 <= rate <= 1:
        raise InputError(f"--rate: rate is {rate}, expected 0 to 1")
    if not 1 <= sentences <= MAX_SENTENCES:
        raise InputError(f"--sentences: sentences is {sentences}, expected 1 to {MAX_SENTENCES}")
    if "enriched" in names and not field:
        text = "keep is 'enriched' and field is empty, expected the json key of the second caption"
        raise InputError(f"--field: {text}")
    settings = {"rate": rate, "sentences": sentences, "field": field or ""}
    return [PairCaptions.model_validate({"keep": name, **settings}) for name in names]


def _read_first_samples(places: list[str], show: int) -> "list[tuple[int, Sample]]":
    from itertools import islice

    from gapctl.data.image_text.read import load_manifest, read_rows
    from gapctl.data.shard_jobs import Workers
    from gapctl.errors import InputError

    manifest = load_manifest(places, Workers(1))
    usable = manifest.samples.with_row_index("number").filter(manifest.samples["problem"].is_null())
    if not len(usable):
        raise InputError(f"{places[0]}: no sample that can be used; `gapctl data verify` says why")
    return [(row["number"], sample) for row, sample in islice(read_rows(usable.head(show)), show)]


def _treat_sample(
    rules: "Sequence[PairCaptions]", number: int, sample: "Sample", seed: int, epoch: int
) -> dict[str, Any]:
    from gapctl.data.treatments import treat_caption

    caption = sample.caption or ""
    found = {rule.keep: treat_caption(rule, caption, sample.about, seed, epoch, number) for rule in rules}
    texts = {name: None if treated is None else treated._asdict() for name, treated in found.items()}
    return {"sample": number, "key": sample.key, "caption": caption, "treated": texts}


def _list_treatments(rules: "Sequence[PairCaptions]") -> list[dict[str, Any]]:
    from gapctl.data.treatments import TREATMENTS

    lines = [(rule, TREATMENTS[rule.keep]) for rule in rules]
    return [
        {
            "keep": rule.keep,
            "removes": line.removes,
            "needs": line.needs or None,
            "random_per_access": line.per_access,
            "private_bits_of_12_words": None if line.private_bits is None else round(line.private_bits(12, rule), 2),
        }
        for rule, line in lines
    ]


def _print_captions(rules: "Sequence[PairCaptions]", samples: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from gapctl.cli.console import SafeConsole
    from gapctl.cli.output import make_plain_console

    table = Table("keep", "removes", "anew each time", "bits of chance", "needs", box=None, pad_edge=False)
    for line in _list_treatments(rules):
        bits = line["private_bits_of_12_words"]
        shown = "by caption" if bits is None else f"{bits:g}"
        table.add_row(line["keep"], line["removes"], "yes" if line["random_per_access"] else "no", shown, line["needs"])
    SafeConsole().print(table)
    console = make_plain_console()
    console.print("bits of chance: what only the text has, by which words and in which order, for twelve words\n")
    for sample in samples:
        console.print(f"{sample['key']}: {sample['caption']}")
        for name, treated in sample["treated"].items():
            text = "(the sample lacks what it needs)" if treated is None else treated["text"] or "(nothing)"
            console.print(f"  {name:15s}{text}")


MAX_DROPPED_NAMES = 5
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
    from gapctl.data.image_text.manifest import tally_manifest
    from gapctl.data.image_text.read import load_manifest
    from gapctl.data.image_text.tools import ReshardRequest, reshard_pairs
    from gapctl.errors import InputError

    if not 0 <= validation < 1:
        raise InputError(f"--validation {validation:g}: expected a share from 0 to below 1")
    began, who = time.perf_counter(), choose_workers(workers, address)
    manifest = load_manifest(places, who)
    if not len(manifest.usable):
        raise InputError(f"{places[0]}: no sample that can be used; `gapctl data verify` says why")
    request = ReshardRequest(manifest.fingerprint, per_shard, seed if shuffle else None, resize, validation, seed)
    with _show_sample_bar() as show:
        done = reshard_pairs(manifest, request, out, who, show)
    tally = tally_manifest(manifest)
    if as_json:
        problems = {"left_out": tally.samples - tally.usable, "problems": dict(tally.problems)}
        document = {"folder": str(out), **problems, **vars(done), "seconds": time.perf_counter() - began}
        typer.echo(json.dumps(document, indent=1))
    else:
        _print_reshard(out, done, tally, time.perf_counter() - began)


def _print_reshard(out: Path, done: "ReshardResult", tally: "ManifestTally", seconds: float) -> None:
    from gapctl.cli.output import make_plain_console

    console = make_plain_console()
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
        names = ", ".join(done.dropped[:MAX_DROPPED_NAMES])
        console.print(f"{len(done.dropped):,} images could not be decoded and were left out: {names}")


@contextmanager
def _show_sample_bar() -> Iterator[Callable[[int, int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from gapctl.cli.output import make_plain_console

    columns = (TextColumn("writing samples"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = make_plain_console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("writing", total=None, visible=False)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)


MAX_LOCAL_BYTES = 256 << 20
"""Below this size, reading captions takes less time than starting processes."""
STATS_HEADINGS = ("", "mean", "least", "5 %", "25 %", "median", "75 %", "95 %", "most")


def stats_command(
    places: Annotated[
        list[str], typer.Argument(help="Tar shards, or their manifest.", metavar="SHARDS|MANIFEST", show_default=False)
    ],
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a page with charts there.", metavar="FILE.html")
    ] = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how long captions are, how large images, how much repeats, and how many words there are."""
    from gapctl.cli.output import check_page, write_page
    from gapctl.data.image_text.read import load_manifest
    from gapctl.data.image_text.tools import compute_pair_stats
    from gapctl.data.shard_jobs import Workers
    from gapctl.errors import InputError

    check_page("--report", report)
    who = choose_workers(workers, address)
    manifest = load_manifest(places, who)
    if not len(manifest.usable):
        raise InputError(f"{places[0]}: no sample that can be used; `gapctl data verify` says why")
    small = sum(shard.bytes for shard in manifest.shards) < MAX_LOCAL_BYTES and address is None
    stats = compute_pair_stats(manifest, Workers(1) if small else who)
    if report is not None:
        write_page("--report", report, _render_stats_page(", ".join(places), manifest.fingerprint, stats))
    if as_json:
        typer.echo(json.dumps(asdict(stats) | {"fingerprint": manifest.fingerprint}, indent=1))
    else:
        _print_stats(stats)


def _print_stats(stats: "PairStats") -> None:
    from rich.table import Table

    from gapctl.cli.console import SafeConsole
    from gapctl.cli.output import make_plain_console

    console = make_plain_console()
    left_out = ", ".join(f"{count:,} {problem}" for problem, count in stats.problems.items())
    console.print(
        f"{stats.usable:,} usable of {stats.samples:,} samples, {stats.bytes / 1e6:,.0f} MB"
        + (f"; left out: {left_out}" if left_out else "")
    )
    table = Table(*STATS_HEADINGS, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, spread, digits in _list_spreads(stats):
        table.add_row(*_format_spread(name, spread, digits))
    SafeConsole().print(table)
    for line in _describe_stats(stats):
        console.print(line)


def _list_spreads(stats: "PairStats") -> "list[tuple[str, ColumnStats, int]]":
    return [
        ("words of a caption", stats.caption_words, 0),
        ("characters of a caption", stats.caption_characters, 0),
        ("shorter side of an image", stats.image_shorter_side, 0),
        ("longer side over shorter", stats.image_aspect, 2),
    ]


def _describe_stats(stats: "PairStats") -> list[str]:
    words, captions, images = stats.vocabulary, stats.repeated_captions, stats.repeated_images
    commonest = ", ".join(f"{word} {100 * count / words.occurrences:.1f} %" for word, count in words.commonest[:10])
    vocabulary = (
        f"vocabulary: {words.words:,} words in {words.occurrences:,} occurrences; {words.for_90_percent:,} of them "
        f"make 90 % of these, {words.once:,} occur once"
    )
    return [
        "images: " + ", ".join(f"{count:,} {form}" for form, count in stats.forms.items()),
        f"repeated captions: {captions.values:,}, {captions.beyond_first:,} samples beyond the first of each",
        f"repeated images: {images.values:,}, {images.beyond_first:,} samples beyond the first (length and both ends)",
        vocabulary,
        f"commonest: {commonest}",
    ]


def _format_spread(name: str, spread: "ColumnStats", digits: int) -> list[str]:
    return [name, *(f"{value:,.{digits}f}" for value in (spread.mean, *spread.quantiles))]


def _render_stats_page(places: str, fingerprint: str, stats: "PairStats") -> str:
    from gapctl.report.shards_page import PairsPage, render_pairs_page

    lines = [line.partition(": ") for line in _describe_stats(stats)]
    page = PairsPage(
        title=f"{stats.usable:,} image-text pairs",
        headings=STATS_HEADINGS,
        rows=[_format_spread(*row) for row in _list_spreads(stats)],
        facts={
            "shards": places,
            "fingerprint": fingerprint,
            "left out": ", ".join(f"{count:,} {problem}" for problem, count in stats.problems.items()) or "nothing",
            **{name: text for name, _, text in lines},
        },
        caption_words=stats.caption_words.counts,
        image_sides=stats.image_shorter_side.counts,
        commonest=stats.vocabulary.commonest,
    )
    return render_pairs_page(page)


MAX_SAMPLE_KEYS = 3
"""The most keys printed for one problem in one shard; `--json` has all."""


def verify_pairs(places: list[str], workers: int | None, address: str | None, as_json: bool) -> None:
    """Check shards, or the shards of a manifest; exit with 1 where anything is wrong."""
    began = time.perf_counter()
    verified = _verify_places(places, choose_workers(workers, address))
    seconds = time.perf_counter() - began
    if as_json:
        typer.echo(json.dumps(_build_pairs_document(verified, seconds), indent=1))
    else:
        _print_pairs_check(verified, seconds)
    if not verified.sound:
        raise typer.Exit(1)


def _verify_places(places: list[str], workers: "Workers") -> "PairVerification":
    from gapctl.data.image_text.manifest import read_manifest
    from gapctl.data.image_text.storage import list_shards
    from gapctl.data.image_text.tools import verify_manifest, verify_shards
    from gapctl.folders import expand_home

    with show_bytes_bar("decoding") as show:
        if len(places) == 1 and places[0].endswith(".parquet"):
            return verify_manifest(read_manifest(expand_home(places[0])), workers, show)
        return verify_shards(list_shards(places), workers, show)


def _build_pairs_document(verified: "PairVerification", seconds: float) -> dict[str, Any]:
    from gapctl.data.image_text.manifest import tally_manifest

    found = verified.found
    tally = tally_manifest(found)
    return {
        "ok": verified.sound,
        "shards": len(found.shards),
        "samples": tally.samples,
        "usable": tally.usable,
        "problems": dict(tally.problems),
        "unused_shards": dict(tally.unused),
        "wrong_shards": [wrong._asdict() for wrong in verified.wrong],
        "wrong_samples": verified.problems.to_dicts(),
        "repeated_images": verified.repeated,
        "shared_keys": count_shared_keys(found),
        "ignored": {shard.address: shard.ignored for shard in found.shards if shard.ignored},
        "seconds": round(seconds, 3),
    }


def _print_pairs_check(verified: "PairVerification", seconds: float) -> None:
    from gapctl.cli.output import make_plain_console
    from gapctl.data.image_text.manifest import NO_SAMPLES, tally_manifest

    found, console = verified.found, make_plain_console()
    for wrong in verified.wrong:
        console.print(f"{wrong.address}: {wrong.what}")
    for line in _list_wrong_samples(verified):
        console.print(line)
    tally = tally_manifest(found)
    for shard in found.shards:
        if tally.unused.get(shard.address) == NO_SAMPLES and not shard.damage:
            console.print(f"{shard.address}: {NO_SAMPLES}")
        if shard.ignored:
            kinds = ", ".join(f"{count:,} {ending}" for ending, count in shard.ignored.items())
            console.print(f"{shard.address}: members of other kinds, which are never read: {kinds}")
    console.print(
        f"{tally.usable:,} of {tally.samples:,} samples in {len(found.shards):,} shards can be used; "
        f"all images decoded in {seconds:.1f} s"
    )
    if tally.problems:
        console.print(f"left out: {tally.reasons}")
    if verified.repeated:
        console.print(f"{verified.repeated:,} images stand under another key as well; they are kept")
    if again := count_shared_keys(found):
        console.print(f"{again:,} keys stand in more than one shard; such samples are told apart by their shard")


def _list_wrong_samples(verified: "PairVerification") -> list[str]:
    import polars as pl

    groups = verified.problems.group_by("shard", "problem", maintain_order=True).agg("key", pl.len())
    return [
        f"{shard}: {count:,} {problem}: {', '.join(keys[:MAX_SAMPLE_KEYS])}{', ...' if count > MAX_SAMPLE_KEYS else ''}"
        for shard, problem, keys, count in groups.iter_rows()
    ]


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
        _verify_mad_folder(Path(places[0]), as_json)


def is_pairs(places: list[str]) -> bool:
    """Return whether the places name image-text shards or their manifest, rather than a folder of MAD's shards."""
    from gapctl.data.image_text.storage import list_tar_files

    path = Path(places[0])
    if len(places) > 1 or "://" in places[0] or "{" in path.name or path.suffix in (".tar", ".parquet"):
        return True
    marks = (path / "mad.json", path / ".making")
    return not any(mark.exists() for mark in marks) and bool(list_tar_files(path))


def _verify_mad_folder(folder: Path, as_json: bool) -> None:
    from gapctl.data.mad.shard_folder import verify_folder

    with show_bytes_bar("reading") as show:
        found = verify_folder(folder, show)
    if as_json:
        typer.echo(json.dumps(_build_mad_document(folder, found), indent=1))
    else:
        _print_mad_check(folder, found)
    if found.problems:
        raise typer.Exit(1)


def _build_mad_document(folder: Path, found: "Verification") -> dict[str, object]:
    return {
        "folder": str(folder),
        "ok": not found.problems,
        "fingerprint": found.description.request.fingerprint if found.description else None,
        "files": found.files,
        "bytes": found.bytes,
        "problems": [problem._asdict() for problem in found.problems],
    }


def _print_mad_check(folder: Path, found: "Verification") -> None:
    from gapctl.cli.output import make_plain_console

    console = make_plain_console()
    for problem in found.problems:
        console.print(f"{folder / problem.file}: {problem.what}")
    if not found.problems and found.description:
        name = found.description.request.fingerprint
        console.print(f"{folder}: whole: {found.files} files, {found.bytes / 1e6:,.0f} MB, fingerprint {name}")
    elif found.repairable:
        console.print(f"{len(found.problems)} wrong; the `gapctl data mad --out` that made {folder} mends them.")
    else:
        console.print(
            f"{len(found.problems)} wrong; take foreign files away, or delete {folder}, and run the "
            "`gapctl data mad --out` that made it."
        )
