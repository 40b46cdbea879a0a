"""`gapctl data` for image-text shards: `index`, `captions`, `reshard`, `stats` and `verify`.

Each verb loads or builds a manifest, calls its function in `gapctl.data.image_text`, and prints the result as text or
JSON. `verify` also checks folders of MAD's shards.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from gapctl.cli.console import SafeConsole, make_plain_console, make_table, show_progress
from gapctl.cli.data_pack import find_or_pack_data, list_shard_places
from gapctl.cli.options import AddressOption, JsonOption
from gapctl.cli.output import (
    check_output_place,
    check_page_file_name,
    format_megabytes,
    print_json_or_text,
    require_choice,
    write_page,
)
from gapctl.config.base import format_choices
from gapctl.config.trial import UNDRAWN_TREATMENTS, DrawTime, MadCaptions, PairCaptions
from gapctl.data.image_text.class_prompts import CaptionLineMode
from gapctl.errors import InputError
from gapctl.folders import expand_home
from gapctl.sweep.ray_session import check_address, open_ray_session
from gapctl.text import join_and

if TYPE_CHECKING:
    from gapctl.data.image_text.index import Sample
    from gapctl.data.image_text.manifest import Manifest, ManifestTally
    from gapctl.data.image_text.storage import ShardInfo
    from gapctl.data.image_text.tools import PairStats, PairVerification, ReshardResult
    from gapctl.data.parallel_shards import Workers

MAX_SAMPLES = 1000
MAX_SENTENCES = 1000
MAX_DROPPED_NAMES = 5
MAX_LOCAL_BYTES = 256 << 20
"""Below this size, reading captions takes less time than starting processes."""
MAX_SAMPLE_KEYS = 3
"""The most keys printed for one problem in one shard; `--json` has all."""
SEE_PREVIEW = "MAD's captions are shown by `gapctl data preview`"
STATS_HEADINGS = ("", "mean", "least", "5 %", "25 %", "median", "75 %", "95 %", "most")

PlacesArgument = Annotated[
    list[str], typer.Argument(help="Tar shards, or their manifest.", metavar="SHARDS|MANIFEST", show_default=False)
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes of this machine; by default one per core.")
]


def index_command(
    shards: Annotated[
        list[str],
        typer.Argument(
            help="Tar shards: files, folders, braces such as {00000..00011}.tar, addresses (s3://, hf://, https://).",
            metavar="SHARDS...",
            show_default=False,
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            help="A path or an address; by default manifest.parquet beside the shards, for those at an address here.",
            metavar="FILE.parquet",
        ),
    ] = None,
    captions: Annotated[
        CaptionLineMode | None,
        typer.Option(
            "--captions",
            help="What several lines of a sample's .txt are: `lines` takes each for a caption of the image, `whole` "
            "all for one. If left out: as the manifest there says; else lines, unless the sample's json has the whole "
            "text as `caption`, as img2dataset writes it.",
        ),
    ] = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the manifest of image-text shards: where each sample lies, its sizes, and what is wrong with it.

    Shards are tar files of key.jpg, key.txt and key.json, as img2dataset writes them; any other layout that `gapctl
    data pack` takes is packed into the cache first. Images are not decoded (`gapctl data verify` does). The same
    command again reads only shards that are new, changed or were damaged.
    """
    from gapctl.data.image_text.index import index_shards
    from gapctl.data.image_text.manifest import format_caption_notes, tally_manifest
    from gapctl.data.image_text.storage import list_shards

    began = time.perf_counter()
    check_output_place("--out", (out or "").rpartition("/")[0])
    stored = list_shards(list_shard_places(find_or_pack_data(shards, local=False)))
    target = out if out is not None and "://" in out else str(expand_home(out or _choose_manifest_path(stored)))
    if not target.endswith(".parquet"):
        raise InputError(f"--out {target}: expected a name that ends in .parquet")
    with show_progress(in_bytes=True) as show:
        who = _choose_workers(workers, address)
        indexed = index_shards(stored, target, who, partial(show, "indexing"), captions)
    seconds, found = time.perf_counter() - began, indexed.manifest
    tally, shared_keys, size = (
        tally_manifest(found),
        _count_shared_keys(found),
        sum(each.bytes for each in found.shards),
    )
    document = {
        "manifest": target,
        "fingerprint": found.fingerprint,
        "shards": len(found.shards),
        "read": indexed.read,
        "bytes": size,
        "samples": tally.samples,
        "usable": tally.usable,
        "captions": _count_captions(found),
        "problems": dict(tally.problems),
        "ignored": dict(tally.ignored),
        "unused_shards": dict(tally.unused),
        "shared_keys": shared_keys,
        "damaged": {address: why for address, (_, why) in tally.damaged.items()},
        "seconds": round(seconds, 3),
    }

    def render() -> None:
        console = make_plain_console()
        console.print(
            f"{target}: {tally.usable:,} usable of {tally.samples:,} samples in {len(found.shards):,} shards, "
            f"{format_megabytes(size)}, fingerprint {found.fingerprint}"
        )
        kept = len(found.shards) - indexed.read
        console.print(f"{indexed.read:,} shards read and {kept:,} kept in {seconds:.1f} s")
        for line in (*format_caption_notes(found), *tally.lines):
            console.print(line)
        if tally.damaged or tally.problems:
            console.print(f"`gapctl data verify {target}` names each of them, and decodes every image")
        _print_shared_keys(shared_keys)

    print_json_or_text(document, render, as_json)
    tally.require_usable(target)


def _choose_manifest_path(shards: "Sequence[ShardInfo]") -> Path:
    """Return a path beside the shards where they share one local folder, else in the working folder."""
    folders = {str(Path(shard.address).parent) for shard in shards if "://" not in shard.address}
    alone = len(folders) == 1 and all("://" not in shard.address for shard in shards)
    return Path(folders.pop() if alone else ".") / "manifest.parquet"


def _choose_workers(processes: int | None, address: str | None) -> "Workers":
    """Return processes of this machine, or the Ray cluster at an address."""
    from gapctl.data.parallel_shards import Workers, count_available_cores

    check_address(address)
    return Workers(processes or count_available_cores(), partial(open_ray_session, address) if address else None)


def _count_captions(manifest: "Manifest") -> dict[str, object]:
    """Return what `--json` says about captions: how texts of several lines were read, and how many captions there are.

    `by_sample` is each sample's own answer.
    """
    from gapctl.data.image_text.manifest import count_captions_in_all

    total, several = count_captions_in_all(manifest)
    rule = "by_sample" if manifest.captions is None else str(manifest.captions)
    return {"rule": rule, "total": total, "images_of_several": several}


def _load_usable_manifest(places: list[str], workers: "Workers") -> "Manifest":
    """Load or build a manifest; raise InputError where it has no usable sample."""
    from gapctl.data.image_text.read import load_or_index_manifest

    manifest = load_or_index_manifest(places, workers)
    if not manifest.usable_count:
        raise InputError(f"{places[0]}: no sample that can be used; `gapctl data verify` says why")
    return manifest


def _count_shared_keys(manifest: "Manifest") -> int:
    """Count the keys that several shards use; a sample is identified by its key and its shard.

    Keys are compared by 64 bits, which are sorted: 12 million of them take 100 MB, and words in a table ten times that.
    """
    import numpy as np
    import polars as pl

    hash_N = manifest.select(pl.col("key").hash()).to_series().to_numpy()
    parts = np.split(hash_N, manifest.find_shard_starts()[1:])
    hash_N = np.sort(np.concatenate([np.unique(part) for part in parts]))
    again = hash_N[1:] == hash_N[:-1]
    return len(np.unique(hash_N[1:][again]))


def _print_shared_keys(count: int) -> None:
    if count:
        make_plain_console().print(
            f"{count:,} keys stand in more than one shard; such samples are told apart by their shard"
        )


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
    draw: Annotated[
        str, typer.Option("--draw", help="Cut at `each_access`, or `once` for all epochs.", metavar="WHEN")
    ] = "each_access",
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="The trial's seed.")] = 0,
    epoch: Annotated[int, typer.Option("--epoch", min=0, max=2**31 - 1, help="The epoch, counted from 0.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """List the caption treatments, and show what a training of this seed would read in this epoch.

    Of an image's several captions that is one, drawn anew in each epoch.
    """
    from gapctl.data.treatments import find_treatment, sample_caption, treat_caption

    require_choice("--draw", draw, get_args(DrawTime))
    if places == ["bundled"] and not Path("bundled").exists():
        raise InputError(f"bundled: a source of sweep files; expected tar shards or a manifest here; {SEE_PREVIEW}")
    rules = _parse_rules(keep, rate, sentences, field, draw)
    treatments: list[dict[str, object]] = []
    table = make_table("keep", "removes", "anew each time", "bits of chance", "needs")
    for rule in rules:
        line = find_treatment(rule.keep)
        anew = line.per_access and rule.draw == "each_access"
        bits = None if line.private_bits is None else round(line.private_bits(12, rule), 2)
        facts = {"keep": rule.keep, "removes": line.removes, "needs": line.needs or None}
        treatments.append({**facts, "random_per_access": anew, "private_bits_of_12_words": bits})
        shown = "by caption" if bits is None else f"{bits:g}"
        table.add_row(rule.keep, line.removes, "yes" if anew else "no", shown, line.needs)
    samples: list[dict[str, object]] = []
    listing = ["bits of chance: what only the text has, by which words and in which order, for twelve words\n"]
    for number, sample in _read_first_samples(places, show) if places else []:
        caption = sample_caption(sample.texts, seed, epoch, number)
        found = {rule.keep: treat_caption(rule, caption, sample.about, seed, epoch, number) for rule in rules}
        texts = {name: None if treated is None else treated._asdict() for name, treated in found.items()}
        samples.append(
            {"sample": number, "key": sample.key, "captions": sample.captions, "caption": caption, "treated": texts}
        )
        drawn = f" (drawn from {sample.captions:,} captions)" if sample.captions > 1 else ""
        listing.append(f"{sample.key}: {caption}{drawn}")
        for name, treated in found.items():
            text = "(the sample lacks what it needs)" if treated is None else treated.text or "(nothing)"
            listing.append(f"  {name:15s}{text}")

    def render() -> None:
        SafeConsole().print(table)
        console = make_plain_console()
        for text in listing:
            console.print(text)

    print_json_or_text({"treatments": treatments, "samples": samples}, render, as_json)


def _parse_rules(keep: str | None, rate: float, sentences: int, field: str | None, draw: str) -> list[PairCaptions]:
    from gapctl.data.treatments import TREATMENT_TABLE
    from gapctl.extensions import explain_unusable, list_extensions

    known = [*TREATMENT_TABLE, *list_extensions("treatments")]
    names = (
        [name.strip() for name in keep.split(",")]
        if keep
        else [name for name in known if name != "enriched" or field is not None]
    )
    for name in names:
        if name not in known and name in MadCaptions.model_fields:
            raise InputError(f"--keep: {name} is a setting of MAD's captions, not a treatment of pairs; {SEE_PREVIEW}")
        if name not in known:
            raise InputError(f"--keep: keep is {name!r}; {format_choices(name, known)}")
        if name not in TREATMENT_TABLE and (why := explain_unusable("treatments", name)):
            raise InputError(f"--keep: {why}")
    if not 0 <= rate <= 1:
        raise InputError(f"--rate: rate is {rate}, expected 0 to 1")
    if not 1 <= sentences <= MAX_SENTENCES:
        raise InputError(f"--sentences: sentences is {sentences}, expected 1 to {MAX_SENTENCES}")
    if "enriched" in names and not field:
        raise InputError("--field: keep is 'enriched' and field is empty, expected the json key of the second caption")
    settings = {"rate": rate, "sentences": sentences, "field": field or ""}
    if draw == "once":  # of all treatments, those that draw; of named ones, an error for any that does not
        drawing = [name for name in names if name not in UNDRAWN_TREATMENTS]
        if keep and len(drawing) < len(names):
            undrawn = join_and([name for name in names if name in UNDRAWN_TREATMENTS])
            raise InputError(f"--draw: draw is 'once' and keep {undrawn} draws nothing; expected each_access there")
        settings["draw"], names = draw, drawing
    return [PairCaptions.model_validate({"keep": name, **settings}) for name in names]


def _read_first_samples(places: list[str], show: int) -> "list[tuple[int, Sample]]":
    from gapctl.data.image_text.manifest import SCHEMA
    from gapctl.data.image_text.read import read_rows_with_samples
    from gapctl.data.parallel_shards import Workers

    manifest = _load_usable_manifest(places, Workers(1))
    row_N = manifest.usable_rows[:show]
    usable = manifest.take(row_N, *SCHEMA).with_columns(number=row_N)
    return [(row["number"], sample) for row, sample in islice(read_rows_with_samples(usable), show)]


def reshard_command(
    places: PlacesArgument,
    out: Annotated[
        str, typer.Option("--out", help="A new folder: a path or an address.", metavar="FOLDER", show_default=False)
    ],
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
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Another shuffle, and another split.")] = 0,
    workers: WorkersOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the usable pairs of some shards into new ones, in the img2dataset layout, the same bytes each time.

    Samples with a problem are left out. Those that share an image go into the same split. Stopped work goes on where
    it was when the same command is run again.
    """
    from gapctl.data.image_text.manifest import tally_manifest
    from gapctl.data.image_text.tools import ReshardRequest, reshard_pairs

    if not 0 <= validation < 1:
        raise InputError(f"--validation {validation:g}: expected a share from 0 to below 1")
    check_output_place("--out", out)
    began, who = time.perf_counter(), _choose_workers(workers, address)
    manifest = _load_usable_manifest(places, who)
    request = ReshardRequest(manifest.fingerprint, per_shard, seed if shuffle else None, resize, validation, seed)
    with show_progress() as show:
        done = reshard_pairs(manifest, request, out, who, partial(show, "writing samples"))
    tally, seconds = tally_manifest(manifest), time.perf_counter() - began
    problems = {"left_out": tally.samples - tally.usable, "problems": dict(tally.problems)}
    print_json_or_text(
        {"folder": out, **problems, **vars(done), "seconds": seconds},
        lambda: _print_reshard(out, done, tally, seconds),
        as_json,
    )


def _print_reshard(out: str, done: "ReshardResult", tally: "ManifestTally", seconds: float) -> None:
    console = make_plain_console()
    for split, shards in done.shards.items():
        folder = f"{out.rstrip('/')}/{split}" if len(done.shards) > 1 else out
        target = f" --out {folder.rstrip('/')}/manifest.parquet" if "://" in out else ""
        console.print(f"{folder}: {done.samples[split]:,} samples in {shards:,} shards")
        console.print(f"  `gapctl data index {folder}{target}` makes it a source for sweeps", highlight=False)
    console.print(f"{done.made:,} shards written in {seconds:.1f} s, {sum(done.shards.values()) - done.made:,} kept")
    if tally.problems:
        left_out = tally.samples - tally.usable
        console.print(f"{left_out:,} samples with a problem were left out; `gapctl data verify` names them")
    for line in tally.lines:
        console.print(line)
    if done.dropped:
        names = ", ".join(done.dropped[:MAX_DROPPED_NAMES])
        console.print(f"{len(done.dropped):,} images could not be decoded and were left out: {names}")


def stats_command(
    places: PlacesArgument,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a page with charts there.", metavar="FILE.html")
    ] = None,
    words_of: Annotated[
        int | None,
        typer.Option(
            "--words-of",
            min=1,
            help="Count the words of about so many captions, of whole shards at equal distances; by default all are "
            "read, which are many requests to an object store.",
        ),
    ] = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how long captions are, how large images, how much repeats, and how many words there are."""
    from gapctl.data.image_text.tools import compute_pair_stats
    from gapctl.data.parallel_shards import Workers

    check_page_file_name("--report", report)
    who = _choose_workers(workers, address)
    manifest = _load_usable_manifest(places, who)
    small = sum(shard.bytes for shard in manifest.shards) < MAX_LOCAL_BYTES and address is None
    with show_progress() as show:
        stats = compute_pair_stats(manifest, Workers(1) if small else who, words_of, partial(show, "reading captions"))
    if report is not None:
        write_page("--report", report, _render_stats_page(", ".join(places), manifest.fingerprint, stats))
    print_json_or_text(
        asdict(stats) | {"fingerprint": manifest.fingerprint}, lambda: _print_stats(stats, manifest), as_json
    )


def _print_stats(stats: "PairStats", manifest: "Manifest") -> None:
    from gapctl.data.image_text.manifest import format_caption_notes

    console = make_plain_console()
    left_out = _list_problems(stats)
    console.print(
        f"{stats.usable:,} usable of {stats.samples:,} samples, {format_megabytes(stats.bytes)}"
        + (f"; left out: {left_out}" if left_out else "")
    )
    for line in format_caption_notes(manifest):
        console.print(line)
    table = make_table(*STATS_HEADINGS, right=range(1, len(STATS_HEADINGS)))
    for row in _format_spreads(stats):
        table.add_row(*row)
    SafeConsole().print(table)
    for name, text in _describe_stats(stats).items():
        console.print(f"{name}: {text}")


def _list_problems(stats: "PairStats") -> str:
    return ", ".join(f"{count:,} {problem}" for problem, count in stats.problems.items())


def _format_spreads(stats: "PairStats") -> list[list[str]]:
    """Return a row for each measure, with its columns as in STATS_HEADINGS."""
    spreads = (
        ("words of a caption", stats.caption_words, 0),
        ("characters of a caption", stats.caption_characters, 0),
        *([("captions of an image", stats.captions, 1)] if max(stats.captions.counts) > 1 else []),
        ("shorter side of an image", stats.image_shorter_side, 0),
        ("longer side over shorter", stats.image_aspect, 2),
    )
    return [
        [name, *(f"{value:,.{digits}f}" for value in (spread.mean, *spread.quantiles))]
        for name, spread, digits in spreads
    ]


def _describe_stats(stats: "PairStats") -> dict[str, str]:
    words, captions, images = stats.vocabulary, stats.repeated_captions, stats.repeated_images
    repeated = f"{images.values:,}, {images.beyond_first:,} samples beyond the first (length and both ends)"
    of_part = f" (in the captions of {words.captions:,} samples alone)" if words.captions < stats.usable else ""
    commonest = ", ".join(f"{word} {100 * count / words.occurrences:.1f} %" for word, count in words.commonest[:10])
    return {
        "images": ", ".join(f"{count:,} {form}" for form, count in stats.forms.items()),
        "repeated captions": f"{captions.values:,}, {captions.beyond_first:,} samples beyond the first of each",
        "repeated images": repeated,
        "vocabulary": f"{words.words:,} words in {words.occurrences:,} occurrences; {words.for_90_percent:,} of them "
        f"make 90 % of these, {words.once:,} occur once{of_part}",
        "commonest": commonest,
    }


def _render_stats_page(places: str, fingerprint: str, stats: "PairStats") -> str:
    from gapctl.report.shards_page import PairsPage, render_pairs_page

    facts = {"shards": places, "fingerprint": fingerprint, "left out": _list_problems(stats) or "nothing"}
    page = PairsPage(
        title=f"{stats.usable:,} image-text pairs",
        headings=STATS_HEADINGS,
        rows=_format_spreads(stats),
        facts=facts | _describe_stats(stats),
        caption_words=stats.caption_words.counts,
        image_sides=stats.image_shorter_side.counts,
        commonest=stats.vocabulary.commonest,
    )
    return render_pairs_page(page)


def verify_command(
    places: Annotated[
        list[str],
        typer.Argument(
            help="A folder that `gapctl data mad --out` made; or tar shards of pairs, or their manifest.",
            metavar="FOLDER|SHARDS|MANIFEST",
            show_default=False,
        ),
    ],
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            help="Decode the images of these shards of the manifest; of the others, compare sizes and times. Such as "
            "new shards in a bucket. Several times for several places.",
            metavar="SHARDS",
        ),
    ] = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read data whole and name all that is wrong with it; the exit code is 1 if anything is.

    Of MAD's shards every byte is compared with its checksum: named are a missing, short, changed or foreign file, and
    a manifest that does not match. Of image-text shards every image is decoded: named are shards that are missing, cut
    short or unlike their manifest, and samples that are undecodable, duplicated, or without a caption.
    """
    began = time.perf_counter()
    one_manifest = len(places) == 1 and places[0].endswith(".parquet")
    if only and not one_manifest:
        raise InputError(f"--only: expected the manifest of the shards before it, found {', '.join(places)}")
    if not _are_pairs(places):
        _verify_mad_folder(Path(places[0]), as_json)
        return
    from gapctl.data.image_text.manifest import read_manifest, tally_manifest
    from gapctl.data.image_text.storage import list_shards
    from gapctl.data.image_text.tools import verify_manifest_shards, verify_shards

    who = _choose_workers(workers, address)
    with show_progress(in_bytes=True) as show:
        if one_manifest:
            place = places[0] if "://" in places[0] else expand_home(places[0])
            manifest, some = read_manifest(place), [shard.address for shard in list_shards(only)] if only else None
            verified = verify_manifest_shards(manifest, who, partial(show, "decoding"), some)
        else:
            verified = verify_shards(list_shards(places), who, partial(show, "decoding"))
    seconds, found = time.perf_counter() - began, verified.found
    tally, shared_keys = tally_manifest(found), _count_shared_keys(found)
    compared = len(manifest.shards) - len(found.shards) if only else 0
    document = {
        "ok": verified.sound,
        "shards": len(found.shards),
        "shards_compared_by_size": compared,
        "samples": tally.samples,
        "usable": tally.usable,
        "captions": _count_captions(found),
        "problems": dict(tally.problems),
        "unused_shards": dict(tally.unused),
        "wrong_shards": [wrong._asdict() for wrong in verified.wrong],
        "wrong_samples": verified.problems.to_dicts(),
        "repeated_images": verified.repeated,
        "shared_keys": shared_keys,
        "ignored": {shard.address: shard.ignored for shard in found.shards if shard.ignored},
        "seconds": round(seconds, 3),
    }

    def render() -> None:
        _print_pairs_check(verified, tally, seconds)
        if compared:
            make_plain_console().print(f"{compared:,} other shards were compared by size and time; none was read")
        _print_shared_keys(shared_keys)

    print_json_or_text(document, render, as_json)
    if not verified.sound:
        raise typer.Exit(1)


def _print_pairs_check(verified: "PairVerification", tally: "ManifestTally", seconds: float) -> None:
    from gapctl.data.image_text.manifest import NO_SAMPLES, format_caption_notes

    found, console = verified.found, make_plain_console()
    for wrong in verified.wrong:
        console.print(f"{wrong.address}: {wrong.what}")
    groups = verified.problems.group_by("shard", "problem", maintain_order=True).agg("key")
    for shard, problem, keys in groups.iter_rows():
        more = ", ..." if len(keys) > MAX_SAMPLE_KEYS else ""
        console.print(f"{shard}: {len(keys):,} {problem}: {', '.join(keys[:MAX_SAMPLE_KEYS])}{more}")
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
    for line in format_caption_notes(found):
        console.print(line)
    if tally.problems:
        console.print(f"left out: {tally.reasons}")
    if verified.repeated:
        console.print(f"{verified.repeated:,} images stand under another key as well; they are kept")


def _are_pairs(places: list[str]) -> bool:
    """Return whether the places name image-text shards or their manifest, rather than a folder of MAD's shards."""
    from gapctl.data.image_text.storage import list_tar_files

    path = Path(places[0])
    if len(places) > 1 or "://" in places[0] or "{" in path.name or path.suffix in (".tar", ".parquet"):
        return True
    marks = (path / "mad.json", path / ".making")
    return not any(mark.exists() for mark in marks) and bool(list_tar_files(path))


def _verify_mad_folder(folder: Path, as_json: bool) -> None:
    from gapctl.data.mad.shard_folder import verify_folder

    with show_progress(in_bytes=True) as show:
        verified = verify_folder(folder, partial(show, "reading"))
    problems, description = verified.problems, verified.description
    document = {
        "folder": str(folder),
        "ok": not problems,
        "fingerprint": description.request.fingerprint if description else None,
        "files": verified.files,
        "bytes": verified.bytes,
        "problems": [problem._asdict() for problem in problems],
    }

    def render() -> None:
        console = make_plain_console()
        for problem in problems:
            console.print(f"{folder / problem.file}: {problem.what}")
        if not problems and description:
            size, name = format_megabytes(verified.bytes), description.request.fingerprint
            console.print(f"{folder}: whole: {verified.files} files, {size}, fingerprint {name}")
        elif verified.repairable:
            console.print(f"{len(problems)} wrong; the `gapctl data mad --out` that made {folder} mends them.")
        else:
            console.print(
                f"{len(problems)} wrong; take foreign files away, or delete {folder}, and run the "
                "`gapctl data mad --out` that made it."
            )

    print_json_or_text(document, render, as_json)
    if problems:
        raise typer.Exit(1)
