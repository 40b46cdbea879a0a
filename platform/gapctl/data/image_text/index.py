"""Index a set of shards into a manifest, and read single samples by it.

1. `index_shards` keeps the parts of the manifest and of interrupted work that are current, and reads other shards.
2. `make_manifest_part` makes the part of one shard (`shard_index.index_shard`).
3. `join_manifests` joins the parts and marks duplicates.
4. `read_sample_from_shard` and `iterate_shard_samples` return the bytes of samples.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import polars as pl

from gapctl.data.image_text.class_prompts import CaptionLineMode, split_caption_lines
from gapctl.data.image_text.image import decode_rgb_image
from gapctl.data.image_text.locations import resolve_location
from gapctl.data.image_text.manifest import (
    MANIFEST_VERSION,
    MAX_LOADED_SAMPLES,
    READING_VERSION,
    SCHEMA,
    Manifest,
    ManifestShard,
    parse_manifest,
    read_manifest,
    serialise_manifest,
    write_manifest,
)
from gapctl.data.image_text.shard_index import SampleRow, build_rows, index_shard, parse_metadata
from gapctl.data.image_text.storage import ShardInfo, open_shard
from gapctl.data.image_text.tar import SampleProblem, ShardBytes
from gapctl.data.parallel_shards import OnProgress, Workers, ignore_progress, lock_unfinished_folder
from gapctl.errors import InputError, WorkError
from gapctl.folders import find_cache_root
from gapctl.io.atomic import write_file_atomically
from gapctl.io.files import Folder
from gapctl.io.scratch import ScratchFolder

if TYPE_CHECKING:
    from PIL import Image

BYTES_PER_PROCESS: Final = 1 << 30
"""Bytes that a process indexes in the time that another takes to start."""


SampleCheck = Callable[[ShardBytes, SampleRow], SampleRow]


@dataclass(frozen=True)
class IndexResult:
    """The manifest, and the number of its shards that this run read."""

    manifest: Manifest
    read: int


def index_shards(
    shards: Sequence[ShardInfo],
    out: Path | str,
    workers: Workers,
    on_progress: OnProgress = ignore_progress,
    captions: CaptionLineMode | None = None,
) -> IndexResult:
    """Write the manifest of these shards; continue interrupted work, and read no unchanged shard again.

    `out` is a path, or an address, whose unfinished work lies in the cache of this machine.
    `captions` says what several lines of a text are; without it that is as in the manifest that is there, or else as
    each sample says. `on_progress` gets the finished bytes and all bytes. Raise InputError if `out` cannot be written,
    is another file or is being made by another process, and WorkError if a shard cannot be read.
    """
    previous = _read_previous_manifest(out)
    if captions is None and previous is not None:
        captions = previous.captions
    before, making = _split_into_parts(previous, captions), locate_unfinished_work(out)
    if previous is not None and len(before) == len(previous.shards) and list(before) == list(shards):
        on_progress(total := sum(shard.bytes for shard in shards), total)
        return IndexResult(previous, 0)
    if "://" in str(out):
        _require_writable(str(out))
    with lock_unfinished_folder(making, out, "a file in a folder that can be written to"):
        pieces = {shard: before[shard] for shard in shards if shard in before}
        for shard in shards:
            if shard not in pieces:
                with suppress(OSError, ValueError):
                    pieces[shard] = open_part(locate_part(making, shard, captions))
        left = [shard for shard in shards if shard not in pieces]
        total = sum(shard.bytes for shard in shards)
        done = total - sum(shard.bytes for shard in left)
        on_progress(done, total)
        for place, content in _limit_workers(workers, left).each(partial(make_manifest_part, captions=captions), left):
            part = locate_part(making, left[place], captions)
            write_file_atomically(part, content, making)
            pieces[left[place]] = open_part(part)
            done += left[place].bytes
            on_progress(done, total)
        manifest = join_manifests([pieces[shard] for shard in shards], captions)
        try:
            write_manifest(out, manifest)
        except OSError as error:
            reason = error.strerror or error
            raise WorkError(f"--out {out}: cannot be written ({reason}); run the same command again") from error
    if not isinstance(manifest.rows, pl.DataFrame):
        manifest = read_manifest(out)  # what its rows were read from is gone
    return IndexResult(manifest, len(left))


def build_manifest(
    shards: Sequence[ShardInfo],
    workers: Workers,
    check: SampleCheck | None = None,
    on_progress: OnProgress = ignore_progress,
    captions: CaptionLineMode | None = None,
) -> Manifest:
    """Return the manifest of these shards without writing it; `check` looks at each sample more closely.

    `captions` says what several lines of a text are; without it each sample does.
    """
    folder = ScratchFolder("index")
    pieces: dict[int, Manifest] = {}
    done, total = 0, sum(shard.bytes for shard in shards)
    workers = workers if check else _limit_workers(workers, shards)
    for place, content in workers.each(partial(make_manifest_part, check=check, captions=captions), shards):
        part = folder.path / f"{place}.parquet"
        part.write_bytes(content)
        pieces[place] = open_part(part)
        done += shards[place].bytes
        on_progress(done, total)
    manifest = join_manifests([pieces[place] for place in range(len(shards))], captions)
    return manifest if isinstance(manifest.rows, pl.DataFrame) else replace(manifest, parts=folder)


def _limit_workers(workers: Workers, shards: Sequence[ShardInfo]) -> Workers:
    worth = 1 + sum(shard.bytes for shard in shards) // BYTES_PER_PROCESS
    return replace(workers, processes=min(workers.processes, worth))


def make_manifest_part(
    stored: ShardInfo, check: SampleCheck | None = None, captions: CaptionLineMode | None = None
) -> bytes:
    """Return one shard's part of a manifest as bytes, which any process can send.

    Raise WorkError if the shard cannot be read.
    """
    try:
        with open_shard(stored.address) as content:
            index = index_shard(content, captions)
            rows = index.rows if check is None else build_rows([check(content, sample) for sample in index.samples])
    except OSError as error:
        raise WorkError(f"{stored.address}: cannot be read ({error.strerror}); fix that and run again") from error
    record = ManifestShard(
        stored.address,
        stored.bytes,
        stored.modified,
        index.fingerprint,
        len(rows),
        rows["problem"].null_count(),
        index.damage,
        index.ignored,
    )
    rows = rows.insert_column(0, pl.Series("shard", [stored.address] * len(rows), pl.String))
    return serialise_manifest(Manifest([record], rows, captions=captions))


@dataclass(frozen=True)
class ManifestPart(Manifest):
    """A shard's part of a manifest that stays in its file: `origin` is that file, or the rows of another manifest.

    `first` is the place of its first row there. Neighbours there are read together.
    """

    origin: Path | pl.LazyFrame = Path()
    first: int = 0


def open_part(path: Path) -> Manifest:
    """Return the part of a manifest in a file, as `make_manifest_part` made it. Raise OSError or ValueError."""
    with path.open("rb"):
        part = parse_manifest(path)
    if part.reading != READING_VERSION:
        return part  # with the columns that it lacked
    return ManifestPart(part.shards, pl.scan_parquet(path, glob=False), part.reading, part.captions, origin=path)


def join_manifests(pieces: Sequence[Manifest], captions: CaptionLineMode | None = None) -> Manifest:
    """Join parts of a manifest, and mark a sample as a duplicate if an earlier one has its key and image."""
    records = [record for piece in pieces for record in piece.shards]
    joined = Manifest(records, _join_rows(pieces), captions=captions)
    if sum(record.samples for record in records) <= MAX_LOADED_SAMPLES:
        joined = replace(joined, rows=joined.samples)
    again_D = _find_duplicates(joined)
    if len(again_D):
        rows = joined.rows.with_row_index("row")
        words, among = pl.lit(SampleProblem.DUPLICATE.value), pl.col("row").is_in(again_D.implode())
        rows = rows.with_columns(pl.when(among).then(words).otherwise("problem").alias("problem"))
        joined = replace(joined, rows=rows.drop("row"))
    usable = joined.count_usable_by_shard()
    return replace(joined, shards=[replace(record, usable=usable.get(record.address, 0)) for record in records])


def _find_duplicates(manifest: Manifest) -> pl.Series:
    """Return the places of samples without a problem whose key and image an earlier sample has."""
    mark_N = np.sort(manifest.select("image_mark").to_series().to_numpy())
    repeated = pl.Series(np.unique(mark_N[1:][mark_N[1:] == mark_N[:-1]]), dtype=pl.UInt64)
    rows = manifest.rows.lazy().select("key", "image_mark", "problem").with_row_index("row")
    among = replace(manifest, rows=rows.filter(pl.col("image_mark").is_in(repeated.implode())))
    candidates = among.select("row", "key", "image_mark", "problem")
    again = pl.col("problem").is_null() & ~pl.struct("key", "image_mark").is_first_distinct()
    return candidates.filter(again)["row"]


def _join_rows(pieces: Sequence[Manifest]) -> pl.DataFrame | pl.LazyFrame:
    """Return the rows of all pieces; parts that are neighbours in a file, and files of parts, are read together."""
    joined: list[pl.LazyFrame] = [pl.LazyFrame(schema=SCHEMA)]
    place = 0
    while place < len(pieces):
        piece, last = pieces[place], place + 1
        if not isinstance(piece, ManifestPart):
            joined.append(piece.rows.lazy())
        elif isinstance(piece.origin, Path):
            while last < len(pieces) and isinstance(getattr(pieces[last], "origin", None), Path):
                last += 1
            files = [part.origin for part in pieces[place:last]]  # type: ignore[attr-defined]
            joined.append(pl.scan_parquet(files, glob=False))
        else:
            stop = piece.first + piece.shards[0].samples
            while last < len(pieces) and _begins_at(pieces[last], piece.origin, stop):
                stop += pieces[last].shards[0].samples
                last += 1
            joined.append(piece.origin.slice(piece.first, stop - piece.first))
        place = last
    return pl.concat(joined)


def _begins_at(piece: Manifest, origin: pl.LazyFrame, first: int) -> bool:
    return isinstance(piece, ManifestPart) and piece.origin is origin and piece.first == first


def _read_previous_manifest(out: Path | str) -> Manifest | None:
    """Return the existing manifest, or None if there is none or one of another version."""
    if not (Path(out).exists() if "://" not in str(out) else resolve_location(str(out)).find_info()):
        return None
    try:
        manifest = read_manifest(out)
    except InputError as error:
        if "of version" in str(error):
            return None
        raise InputError(
            f"--out {out}: is there, and is not a manifest of shards. Nothing was written; give another name, or take "
            "that file away"
        ) from error
    return manifest if manifest.reading == READING_VERSION else None


def _split_into_parts(manifest: Manifest | None, captions: CaptionLineMode | None) -> Mapping[ShardInfo, Manifest]:
    """Return the parts of a manifest that reads captions so, except those of damaged shards, which are read again."""
    if manifest is None or manifest.captions != captions:
        return {}
    parts = [(part.shards[0], part) for part in split_by_shard(manifest)]
    return {shard.stored: part for shard, part in parts if shard.damage is None}


def split_by_shard(manifest: Manifest) -> list[Manifest]:
    """Return a manifest of each shard, as `join_manifests` takes them: without its marks of duplicates."""
    unmarked = manifest.rows.with_columns(
        pl.when(pl.col("problem") != SampleProblem.DUPLICATE.value).then("problem").alias("problem")
    )
    if isinstance(unmarked, pl.LazyFrame) and manifest.is_in_order:
        first_S = accumulate((shard.samples for shard in manifest.shards), initial=0)
        return [
            ManifestPart(
                [shard],
                unmarked.slice(first, shard.samples),
                manifest.reading,
                manifest.captions,
                manifest.file,
                origin=unmarked,
                first=first,
            )
            for shard, first in zip(manifest.shards, first_S, strict=False)
        ]
    rows = {str(key[0]): rows for key, rows in unmarked.lazy().collect().partition_by("shard", as_dict=True).items()}
    empty = pl.DataFrame(schema=SCHEMA)
    return [
        Manifest([shard], rows.get(shard.address, empty), manifest.reading, manifest.captions)
        for shard in manifest.shards
    ]


def locate_unfinished_work(out: Path | str) -> Path:
    """Return the folder of the parts of a manifest that is being made: beside it, or for an address in the cache."""
    if "://" not in str(out):
        return Path(out).with_name(f".{Path(out).name}.making")
    return find_cache_root() / "making" / hashlib.sha256(str(out).encode()).hexdigest()[:32]


def _require_writable(address: str) -> None:
    """Raise InputError before hours of reading for an address that nothing can be written to."""
    folder, name = Folder(address.rpartition("/")[0], "--out"), f".{address.rpartition('/')[2]}.making"
    try:
        folder.write(name, b"")
        folder.remove(name)
    except WorkError as error:
        raise InputError(f"--out {error}") from error


def locate_part(making: Path, shard: ShardInfo, captions: CaptionLineMode | None) -> Path:
    """Return where the part of a manifest about one shard is kept until all are made."""
    name = hashlib.sha256(f"{MANIFEST_VERSION}.{READING_VERSION}.{captions}\n{shard}".encode()).hexdigest()[:32]
    return making / f"{name}.parquet"


class Sample(NamedTuple):
    """A sample's content; `about` is its JSON member, empty if there is none.

    `caption` is the whole text, which holds `captions` of them, as the manifest's row says.
    """

    key: str
    image: bytes | None
    caption: str | None
    about: dict[str, object]
    captions: int = 1

    @property
    def texts(self) -> list[str]:
        """The captions one by one; none if the text is missing."""
        if self.caption is None:
            return []
        return split_caption_lines(self.caption) if self.captions > 1 else [self.caption]


def iterate_shard_samples(shard: Path, left_out: Collection[int] = ()) -> Iterator[Sample]:
    """Yield the samples in the order of the tar, except those at the places `left_out`, counted from 0.

    Raise InputError if the tar is damaged or holds no sample.
    """
    try:
        with open_shard(str(shard)) as content:
            index = index_shard(content)
            for place, row in enumerate(index.samples):
                if place not in left_out:
                    yield read_sample_from_shard(content, row._asdict())
    except OSError as error:
        raise InputError(f"{shard}: cannot be read ({error.strerror}); expected a tar shard") from error
    if index.damage:
        raise build_damage_error(str(shard), len(index.rows), index.damage)
    if index.rows.is_empty():
        raise InputError(f"{shard}: an empty shard; expected samples of key.jpg, key.txt, key.json")


def build_damage_error(address: str, samples: int, damage: str) -> InputError:
    """Return the error for a shard that ends early, after this many samples."""
    return InputError(f"{address}: a damaged tar, after {samples} samples ({damage}); fetch it again")


def read_sample_from_shard(content: ShardBytes, row: Mapping[str, Any]) -> Sample:
    """Return the sample of a manifest's row from its shard's content; missing parts are None."""
    return read_sample_by_row(row, lambda start, size: content[start : start + size])


def read_sample_by_row(row: Mapping[str, Any], read: Callable[[int, int], bytes]) -> Sample:
    """Return the sample of a manifest's row; `read` returns bytes of its shard from an offset on."""
    image, caption, about = (read(row[f"{part}_offset"], row[f"{part}_bytes"]) for part in ("image", "caption", "json"))
    text = caption.decode("utf-8-sig", errors="replace").strip()
    return Sample(row["key"], image or None, text or None, parse_metadata(about), row["captions"])


def decode_image(sample: Sample) -> "Image.Image":
    """Return the image in RGB. Raise ValueError if it cannot be decoded."""
    assert sample.image is not None
    return decode_rgb_image(sample.image)
