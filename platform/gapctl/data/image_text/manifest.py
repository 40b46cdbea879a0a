"""Define the manifest of a set of shards: a parquet file with a row per sample, and a record per shard in its metadata.

1. `read_manifest` and `write_manifest` handle the file; `require_unchanged_shards` checks that its shards are
   unchanged.
2. `Manifest.select` and `Manifest.take` read columns and rows when they are needed: all of CC12M's take 2 GB.
3. `split_training_validation_rows` selects rows for training and validation, `build_pair_table` locates them for
   reading. Both keep their arrays of a large file in the cache (`row_arrays.py`), for all processes of a machine.
4. `tally_manifest` counts samples and problems for messages.

Index letters: N samples of a training.
"""

import errno
import hashlib
import io
import json
import os
import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from gapctl.data.image_text.class_prompts import CaptionLineMode
from gapctl.data.image_text.locations import resolve_location
from gapctl.data.image_text.row_arrays import map_cached_array, release_mapped_pages
from gapctl.data.image_text.storage import ShardInfo, find_shards
from gapctl.data.image_text.tar import SampleProblem
from gapctl.data.parallel_shards import OnProgress, ignore_progress
from gapctl.errors import InputError, first_line_of_error
from gapctl.folders import find_cache_root
from gapctl.io.atomic import stage_file_replacement, write_file_atomically
from gapctl.io.files import Folder
from gapctl.io.locks import lock_file
from gapctl.text import format_first_names

Parsed = TypeVar("Parsed")

MANIFEST_VERSION: Final = 1
"""Raise it when the same shards would give other rows; then no earlier manifest is reused."""
READING_VERSION: Final = 3
"""Raise it when shards are inspected more closely but sound ones give the same rows; then all are read again once."""
CAPTION_READING: Final = 3
"""The first version of the reading that counts captions; before, every text was one."""
METADATA_KEY: Final = "gapctl.shards"
SCHEMA: Final = {
    "shard": pl.String,
    "key": pl.String,
    "offset": pl.Int64,
    "bytes": pl.Int64,
    "image_offset": pl.Int64,
    "image_bytes": pl.Int64,
    "form": pl.String,
    "width": pl.Int32,
    "height": pl.Int32,
    "caption_offset": pl.Int64,
    "caption_bytes": pl.Int32,
    "characters": pl.Int32,
    "words": pl.Int32,
    "captions": pl.Int32,
    "json_offset": pl.Int64,
    "json_bytes": pl.Int32,
    "image_mark": pl.UInt64,
    "caption_mark": pl.UInt64,
    "problem": pl.String,
}
MAX_MANIFEST_BYTES: Final = 16 << 30
"""Largest manifest that is fetched from an address; one of CC12M has 0.3 GB."""

ROW_GROUP: Final = 1 << 18
"""Rows that the file has in one piece, and that are read together."""
PARSE_ATTEMPTS: Final = 5
ARRAYS_VERSION: Final = 1
"""Raise it when the arrays that are cached of a manifest's rows change, in form or in content."""
MAX_LOADED_SAMPLES: Final = 500_000
"""Most rows of a file that are all kept in memory; those of a larger one are read when they are needed."""
IS_USABLE: Final = pl.col("problem").is_null()

MAX_NAMED: Final = 5
"""Shards, or kinds of members, that a line names; `--json` has all."""
NO_SAMPLES: Final = "no samples"
EXPECTED: Final = "expected samples of key.jpg, key.txt, key.json"


@dataclass(frozen=True)
class ManifestShard:
    """A shard at the time of indexing: `usable` of its `samples` have no problem, `ignored` members were not read."""

    address: str
    bytes: int
    modified: str
    fingerprint: str
    samples: int
    usable: int
    damage: str | None
    ignored: dict[str, int]

    @property
    def stored(self) -> ShardInfo:
        """The file or object that must still be there."""
        return ShardInfo(self.address, self.bytes, self.modified)


@dataclass(frozen=True)
class Manifest:
    """Shards and samples; `rows` have the columns of `SCHEMA`, in the order of the shards and of their members.

    The rows of a file are read from it when they are asked for. `captions` is how texts of several lines were read, or
    None where each sample said it itself (`count_captions`). A manifest of an earlier version took each text for one
    caption, as trainings on it do.
    """

    shards: Sequence[ManifestShard]
    rows: pl.DataFrame | pl.LazyFrame
    reading: int = READING_VERSION
    """The version of the rules that its shards were inspected by."""
    captions: CaptionLineMode | None = None
    file: "ManifestFile | None" = None
    """The file that the rows are read from, where they are too many to be kept in memory."""
    parts: object = None
    """What keeps the files that the rows are read from, where they are temporary."""

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the content of the shards in their order, wherever they lie."""
        return hash_shards(self.shards)

    @cached_property
    def samples(self) -> pl.DataFrame:
        """All rows with all columns, kept in memory: 170 bytes a sample."""
        return self.rows if isinstance(self.rows, pl.DataFrame) else self._collect(self.rows)

    @property
    def usable(self) -> pl.DataFrame:
        """The samples without a problem, with all columns."""
        return self.samples.filter(IS_USABLE)

    @cached_property
    def sample_count(self) -> int:
        """The number of all samples."""
        return int(self.select(pl.len()).item())

    @cached_property
    def usable_count(self) -> int:
        """The number of samples without a problem."""
        return int(self.select_usable(pl.len()).item())

    @cached_property
    def usable_rows(self) -> NDArray[np.int64]:
        """The places of these samples among all."""
        return np.flatnonzero(self.select(IS_USABLE).to_series().to_numpy())

    def select(self, *columns: str | pl.Expr) -> pl.DataFrame:
        """Return columns of all samples, or what expressions make of them."""
        return self._collect(self.rows.lazy().select(*columns))

    def select_usable(self, *columns: str | pl.Expr) -> pl.DataFrame:
        """Return columns of the samples without a problem, or what expressions make of them."""
        return self._collect(self.rows.lazy().filter(IS_USABLE).select(*columns))

    def count_usable_by_shard(self) -> dict[str, int]:
        """Return the number of samples without a problem by the address of their shard."""
        counts = self.rows.lazy().filter(IS_USABLE).group_by("shard").len()
        return dict(self._collect(counts).iter_rows())

    def select_shard(self, address: str, *columns: str) -> pl.DataFrame:
        """Return columns of the samples of a shard."""
        if not self.is_in_order:
            return self._collect(self.rows.lazy().filter(pl.col("shard") == address).select(*columns))
        number = self._numbers[address]
        rows = self.rows.lazy().slice(int(self._first_S[number]), self.shards[number].samples)
        return self._collect(rows.select(*columns))

    def find_shard_starts(self) -> NDArray[np.int64]:
        """Return the first row of each run of rows of one shard."""
        if self.is_in_order:
            return np.unique(self._first_S[self._first_S < self.sample_count])
        return np.flatnonzero(np.diff(self.select(pl.col("shard").rle_id()).to_series().to_numpy(), prepend=-1))

    @cached_property
    def is_in_order(self) -> bool:
        """Whether each shard has as many rows as its record says, so that their places need not be looked for."""
        return sum(shard.samples for shard in self.shards) == self.sample_count

    @cached_property
    def _first_S(self) -> NDArray[np.int64]:
        return np.cumsum([0, *(shard.samples for shard in self.shards)])

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {shard.address: number for number, shard in enumerate(self.shards)}

    def select_problems(self, *columns: str) -> pl.DataFrame:
        """Return columns of the samples that have a problem."""
        return self._collect(self.rows.lazy().filter(~IS_USABLE).select(*columns))

    def take(self, row_N: NDArray[np.int64], *columns: str) -> pl.DataFrame:
        """Return columns of the samples in these rows, in this order."""
        if isinstance(self.rows, pl.DataFrame):
            return self.rows.select(*columns)[row_N]
        wanted_N = np.unique(row_N)
        pieces = [piece for _, _, piece in self.iterate_pieces(wanted_N, *columns)]
        return pl.concat(pieces)[np.searchsorted(wanted_N, row_N)] if pieces else self.select(*columns).clear()

    def iterate_pieces(self, row_N: NDArray[np.int64], *columns: str) -> Iterator[tuple[int, int, pl.DataFrame]]:
        """Yield these rows, given in rising order, a piece of the file at a time, with their places among them."""
        for start in range(0, int(row_N[-1]) + 1 if len(row_N) else 0, ROW_GROUP):
            first, last = np.searchsorted(row_N, (start, start + ROW_GROUP)).tolist()
            if first < last:
                piece = self._collect(self.rows.lazy().slice(start, ROW_GROUP).select(*columns))
                yield first, last, piece[row_N[first:last] - start]

    def _collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """Read what was asked for. Raise InputError if the file has been written again, or is damaged."""
        if isinstance(self.rows, pl.DataFrame):
            return rows.collect()
        try:
            if self.file is not None and self.file.stat() != self.file.read:
                raise _build_rewritten_error(self.file.path)
            return rows.collect(engine="streaming")
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InputError(
                f"{self.file.path if self.file else 'a part of a manifest'}: cannot be read "
                f"({first_line_of_error(error)}); `gapctl data index` makes a manifest anew"
            ) from error


class ManifestFile(NamedTuple):
    """A manifest's file on this machine: a digest of its footer, and its size and time when that was read."""

    path: Path
    digest: str
    read: tuple[int, int]

    def stat(self) -> tuple[int, int]:
        """Return its size and time now. Raise OSError if it is gone."""
        facts = self.path.stat()
        return facts.st_size, facts.st_mtime_ns


def hash_shards(shards: Sequence[ManifestShard]) -> str:
    """Return a digest of the content of these shards in their order."""
    listed = "\n".join(shard.fingerprint for shard in shards)
    return hashlib.sha256(f"pairs-v{MANIFEST_VERSION}\n{listed}".encode()).hexdigest()[:16]


def serialise_manifest(manifest: Manifest, folder: str | None = None) -> bytes:
    """Return the file's bytes; addresses below `folder` are relative, so that both can be moved together."""
    file = io.BytesIO()
    _write_rows(file, manifest, folder)
    return file.getvalue()


def _write_rows(file: io.BytesIO | Path, manifest: Manifest, folder: str | None) -> None:
    shards = [asdict(shard) for shard in manifest.shards]
    root = "" if folder is None else f"{folder.rstrip('/')}/"
    for shard in shards:
        shard["address"] = shard["address"].removeprefix(root)
    about = {"version": MANIFEST_VERSION, "reading": READING_VERSION, "captions": manifest.captions, "shards": shards}
    metadata = {METADATA_KEY: json.dumps(about)}
    rows = manifest.rows if not root else manifest.rows.with_columns(pl.col("shard").str.strip_prefix(root))
    if isinstance(rows, pl.DataFrame):
        rows.write_parquet(file, metadata=metadata, statistics=False)
        return
    try:
        rows.sink_parquet(file, metadata=metadata, statistics=False, row_group_size=ROW_GROUP)
    except pl.exceptions.PolarsError as error:
        raise OSError(errno.EIO, first_line_of_error(error)) from error


def parse_manifest(content: bytes | Path, folder: str | None = None) -> Manifest:
    """Parse the bytes of `serialise_manifest`, or a file of them. Raise ValueError for anything else.

    The rows of a large file are left there until they are asked for. A file that is replaced meanwhile is parsed again.
    """
    if not isinstance(content, Path):
        return _parse_manifest(content, folder)
    for _ in range(PARSE_ATTEMPTS):
        before = content.stat()
        found = _parse_manifest(content, folder)
        if os.path.samestat(before, content.stat()):
            return found
    raise _build_rewritten_error(content)


def _build_rewritten_error(path: Path) -> InputError:
    return InputError(f"{path}: was written again while it was read; run the same command again")


def _parse_manifest(content: bytes | Path, folder: str | None) -> Manifest:
    reading, captions, shards = _parse_file_metadata(content)
    try:
        large = isinstance(content, Path) and sum(shard.samples for shard in shards) > MAX_LOADED_SAMPLES
        file = _identify_file(content) if large and isinstance(content, Path) else None
        source = content if isinstance(content, Path) else io.BytesIO(content)
        samples = pl.read_parquet(source, glob=False) if file is None else pl.scan_parquet(source, glob=False)
        schema = samples.schema if isinstance(samples, pl.DataFrame) else samples.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _build_format_error(error) from error
    if reading < CAPTION_READING and list(schema) == [name for name in SCHEMA if name != "captions"]:
        samples = samples.with_columns(captions=pl.lit(1, pl.Int32)).select(*SCHEMA)
        schema = samples.lazy().collect_schema()
    if schema != pl.Schema(SCHEMA):
        raise ValueError(f"of other columns than version {MANIFEST_VERSION} has")
    if folder is None:
        return Manifest(shards, samples, reading, captions, file)
    shard, root = pl.col("shard"), posixpath.join(folder, "")  # as `_join_folder` does, and by pieces
    whole = shard.str.starts_with("/") | shard.str.contains("://", literal=True)
    samples = samples.with_columns(shard=pl.when(whole).then(shard).otherwise(pl.concat_str(pl.lit(root), shard)))
    return Manifest(_join_folder(folder, shards), samples, reading, captions, file)


def _identify_file(path: Path) -> ManifestFile:
    """Return what tells a file from another one at its place. Raise OSError if it is gone."""
    facts = path.stat()
    with path.open("rb") as file:
        file.seek(-8, 2)  # a footer says where each column of each row group ends, and each shard's fingerprint
        footer = int.from_bytes(file.read(4), "little")
        file.seek(-min(footer + 8, facts.st_size), 2)
        digest = hashlib.sha256(file.read())
    digest.update(f"{facts.st_size} {facts.st_mtime_ns}".encode())
    return ManifestFile(path, digest.hexdigest()[:32], (facts.st_size, facts.st_mtime_ns))


def _join_folder(folder: str, shards: Sequence[ManifestShard]) -> list[ManifestShard]:
    """Return the shards with their whole addresses; absolute paths and addresses stand for themselves."""
    return [
        shard if "://" in shard.address else replace(shard, address=posixpath.join(folder, shard.address))
        for shard in shards
    ]


def _parse_file_metadata(content: bytes | Path) -> tuple[int, CaptionLineMode | None, list[ManifestShard]]:
    """Return the version of the reading, the reading of captions and the shards, without the samples: that is fast."""
    try:
        source = content if isinstance(content, Path) else io.BytesIO(content)
        document: dict[str, Any] = json.loads(pl.read_parquet_metadata(source)[METADATA_KEY])
        if document["version"] != MANIFEST_VERSION:
            raise ValueError(f"of version {document['version']}; expected version {MANIFEST_VERSION}")
        reading: int = document.get("reading", 1)
        captions = document["captions"] if reading >= CAPTION_READING else CaptionLineMode.WHOLE
        shards = [ManifestShard(**fields) for fields in document["shards"]]
        return reading, None if captions is None else CaptionLineMode(captions), shards
    except (pl.exceptions.PolarsError, OSError, KeyError, TypeError) as error:
        raise _build_format_error(error) from error
    except ValueError as error:
        raise error if str(error).startswith("of version") else _build_format_error(error) from error


def _build_format_error(error: Exception) -> ValueError:
    return ValueError(f"not a manifest of shards ({type(error).__name__}: {first_line_of_error(error)})")


def read_manifest(place: Path | str) -> Manifest:
    """Read a manifest's file, at a path or an address. Raise InputError if it is missing or another kind of file."""
    return _read_file(place, lambda content: parse_manifest(content, _get_parent_place(place)))


def read_manifest_shards(place: Path | str) -> list[ManifestShard]:
    """Return the shards that a manifest's file records, which is fast. Raise InputError as `read_manifest`."""
    return _join_folder(_get_parent_place(place), _read_file(place, _parse_file_metadata)[2])


def has_caption_counts(place: Path | str) -> bool:
    """Return whether the version that wrote a manifest's file counted captions. Raise InputError as `read_manifest`."""
    return _read_file(place, _parse_file_metadata)[0] >= CAPTION_READING


def _get_parent_place(place: Path | str) -> str:
    """Return the path or the address of the folder that a file lies in."""
    return str(place).rpartition("/")[0] if "://" in str(place) else str(Path(place).absolute().parent)


def _read_file(place: Path | str, of: Callable[[bytes | Path], Parsed]) -> Parsed:
    try:
        if "://" in str(place):
            return of(_fetch_file(str(place)))
        with Path(place).open("rb") as file:
            file.read(1)  # a folder, or a file without the right to read it
        return of(Path(place))
    except FileNotFoundError as error:
        raise InputError(f"{place}: no such file; `gapctl data index SHARDS --out {place}` makes it") from error
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{place}: cannot be read ({reason}); expected a manifest of shards") from error
    except ValueError as error:
        raise InputError(f"{place}: {error}; `gapctl data index SHARDS --out {place}` makes one") from error


def _fetch_file(address: str) -> bytes | Path:
    """Return a manifest's copy in the cache, which is downloaded where it is not of the present file.

    Return its bytes where the cache cannot be written: that costs time and memory, and nothing else.
    """
    location = resolve_location(address)
    info = location.find_info()
    if info is None:
        raise FileNotFoundError(address)
    name = hashlib.sha256(f"{address}\n{info.bytes}\n{info.tag}".encode()).hexdigest()[:32]
    copy = find_cache_root() / "manifests" / f"{name}.parquet"
    if info.tag and copy.is_file():
        return copy
    content = location.read(limit=MAX_MANIFEST_BYTES)
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with lock_file(copy.with_suffix(".lock")):  # workers begin at once, and none replaces what another reads
            if not (copy.is_file() and copy.read_bytes() == content):
                write_file_atomically(copy, content)
    except OSError:
        return content
    return copy


def write_manifest(place: Path | str, manifest: Manifest) -> None:
    """Write the file atomically, at a path or an address. Raise OSError if that fails, WorkError at an address."""
    folder = _get_parent_place(place)
    if "://" in str(place):
        store, name = Folder(folder, "--out"), str(place).rpartition("/")[2]
        if isinstance(manifest.rows, pl.DataFrame):
            store.write(name, serialise_manifest(manifest, folder))
        else:
            with store.stage_file(name) as staged:
                _write_rows(staged, manifest, folder)
        return
    with stage_file_replacement(Path(place), Path(folder)) as staged:
        if isinstance(manifest.rows, pl.DataFrame):
            staged.write_bytes(serialise_manifest(manifest, folder))
        else:
            _write_rows(staged, manifest, folder)


def relocate_shards(manifest: Manifest, places: Mapping[str, ShardInfo]) -> Manifest:
    """Return the manifest of shards that were copied; `places` has the copy of each address."""
    shards = [
        replace(shard, address=(there := places[shard.address]).address, bytes=there.bytes, modified=there.modified)
        for shard in manifest.shards
    ]
    names = {address: there.address for address, there in places.items()}
    return replace(manifest, shards=shards, rows=manifest.rows.with_columns(pl.col("shard").replace(names)))


def require_unchanged_shards(path: Path | str, manifest: Manifest) -> None:
    """Raise InputError with the shards that are missing or were written after the manifest of this name."""
    now = find_shards([shard.address for shard in manifest.shards])
    changed = []
    for shard, current in zip(manifest.shards, now, strict=True):
        if current is None:
            changed.append(f"{shard.address} (is gone)")
        elif current.bytes != shard.bytes:
            changed.append(f"{shard.address} ({current.bytes:,} bytes, {shard.bytes:,} when it was indexed)")
        elif shard.modified and current != shard.stored:  # some stores tell nothing but a size
            changed.append(f"{shard.address} (written again since)")
    if changed:
        raise InputError(
            f"{path}: is older than its shards: {format_first_names(changed, 3)}. Nothing was read; "
            f"`gapctl data index SHARDS --out {path}` reads what has changed, and only that"
        )


def count_captions_in_all(manifest: Manifest) -> tuple[int, int]:
    """Return the number of captions of the usable samples, and of images that have several."""
    counts = pl.col("captions")
    total, several = manifest.select_usable(counts.cast(pl.Int64).sum(), (counts > 1).sum().alias("several")).row(0)
    return int(total), int(several)


def format_caption_notes(manifest: Manifest) -> list[str]:
    """Return lines for a person about images with several captions, and about texts that are read whole; or none."""
    captions, several = count_captions_in_all(manifest)
    lines = []
    if several:
        lines.append(
            f"{several:,} of {manifest.usable_count:,} images have several captions, one a line: {captions:,} in all"
        )
    if manifest.reading < CAPTION_READING:
        lines.append(
            "indexed by an earlier version: each .txt is read as one caption, whatever its lines. `gapctl data index` "
            "counts captions; where images have several, trainings get other ids"
        )
    elif manifest.captions is CaptionLineMode.WHOLE:
        lines.append("indexed with `--captions whole`: each .txt is one caption, whatever its lines")
    return lines


class PairTable(NamedTuple):
    """The training's samples in the manifest's order: their rows `row_N` there, and the address `shard_N` of each.

    `whole_N2` is the span of all of a sample's members; `size_N2` are the width and height in the index. `captions_N`
    counts the captions of a sample, one a line; 1 is the whole text. Those of a large manifest are mapped from a file.
    `edges` are the places where the samples of a shard begin, and the end.
    """

    addresses: Sequence[str]
    edges: Sequence[int]
    row_N: NDArray[np.int64]
    shard_N: NDArray[np.int32]
    whole_N2: NDArray[np.int64]
    image_N2: NDArray[np.int64]
    caption_N2: NDArray[np.int64]
    json_N2: NDArray[np.int64]
    size_N2: NDArray[np.int32]
    captions_N: NDArray[np.int32]


TABLE_COLUMNS: Final = {
    "whole": ("offset", "bytes"),
    "image": ("image_offset", "image_bytes"),
    "caption": ("caption_offset", "caption_bytes"),
    "json": ("json_offset", "json_bytes"),
    "size": ("width", "height"),
}
"""The manifest's columns that stand together in a field of `PairTable`."""
TABLE_RECORD: Final = np.dtype(
    [
        *((name, np.int64, 2) for name in ("whole", "image", "caption", "json")),
        ("size", np.int32, 2),
        ("shard", np.int32),
        ("captions", np.int32),
    ]
)
"""How a sample stands in a mapped table: all of it together, as neighbours are read together."""


def build_pair_table(manifest: Manifest, rows: ArrayLike, on_progress: OnProgress = ignore_progress) -> PairTable:
    """Return the samples in these rows of a manifest, each once.

    `on_progress` gets the samples that are located, and all. Raise InputError if there are none, and for rows with a
    problem.
    """
    row_N = np.asarray(rows, dtype=np.int64)
    if not (row_N[1:] > row_N[:-1]).all():
        row_N = np.unique(row_N)
    if not len(row_N):
        raise InputError("no usable image-text pairs are left to read; `gapctl data verify MANIFEST` says why")
    addresses = tuple(shard.address for shard in manifest.shards)
    if manifest.file is None or len(row_N) < ROW_GROUP:
        record_N = np.empty(len(row_N), dtype=TABLE_RECORD)
        _fill_records(manifest, row_N, on_progress, record_N)
    else:
        name = f"{manifest.file.digest}.{hashlib.sha256(row_N.data).hexdigest()[:16]}.{ARRAYS_VERSION}.pairs"
        write = partial(_fill_records, manifest, row_N, on_progress)
        record_N = map_cached_array(name, TABLE_RECORD, len(row_N), write)
        release_mapped_pages(row_N)
    if manifest.is_in_order:  # without reading a mapped table
        starts_S = np.searchsorted(row_N, manifest.find_shard_starts())
    else:
        starts_S = np.flatnonzero(np.diff(record_N["shard"], prepend=-1))
    edges = np.unique([*starts_S, len(row_N)]).tolist()
    columns = (np.asarray(record_N[name]) for name in ("shard", *TABLE_COLUMNS, "captions"))
    return PairTable(addresses, edges, row_N, *columns)


def _fill_records(
    manifest: Manifest, row_N: NDArray[np.int64], on_progress: OnProgress, record_N: NDArray[Any]
) -> None:
    """Fill in the records of these rows, given in rising order. Raise InputError for rows with a problem."""
    numbers = {shard.address: number for number, shard in reversed(list(enumerate(manifest.shards)))}
    columns = ["shard", "captions", "problem", *(name for names in TABLE_COLUMNS.values() for name in names)]
    wrong = 0
    for first, last, samples in manifest.iterate_pieces(row_N, *columns):
        wrong += len(samples) - samples["problem"].null_count()
        record_N["shard"][first:last] = samples["shard"].replace_strict(numbers, return_dtype=pl.Int32).to_numpy()
        record_N["captions"][first:last] = samples["captions"].to_numpy()
        for name, pair in TABLE_COLUMNS.items():
            for place, column in enumerate(pair):
                record_N[name][first:last, place] = samples[column].to_numpy()
        on_progress(last, len(row_N))
        release_mapped_pages(record_N)  # what was written stays in the system's memory of files
    if wrong:
        samples = manifest.take(row_N, "shard", "key", "problem").filter(~IS_USABLE)
        first_wrong = samples.row(0, named=True)
        raise InputError(
            f"{first_wrong['shard']}: sample {first_wrong['key']} cannot be read ({first_wrong['problem']}), as "
            f"{len(samples)} of these rows; expected rows of the manifest without a problem"
        )


def is_validation_image(mark: int, share: float, seed: int) -> bool:
    """Return whether an image goes into validation; equal images go the same way, whatever other data there are."""
    digest = hashlib.blake2b(mark.to_bytes(8) + seed.to_bytes(8), digest_size=8).digest()
    return float(int.from_bytes(digest) / 2**64) < share


def choose_validation_images(
    mark_N: NDArray[np.uint64], share: float, seed: int, on_progress: OnProgress = ignore_progress
) -> NDArray[np.bool_]:
    """Return whether each image goes into validation, as `is_validation_image` does for one."""
    hashed_N, blake, after = np.empty(len(mark_N), dtype=np.uint64), hashlib.blake2b, seed.to_bytes(8)
    for first in range(0, len(mark_N), ROW_GROUP):
        marks = mark_N[first : first + ROW_GROUP].astype(">u8").tobytes()
        digests = [blake(marks[at : at + 8] + after, digest_size=8).digest() for at in range(0, len(marks), 8)]
        hashed_N[first : first + ROW_GROUP] = np.frombuffer(b"".join(digests), dtype=">u8")
        on_progress(min(first + ROW_GROUP, len(mark_N)), len(mark_N))
    return hashed_N.astype(np.float64) / 2**64 < share


def split_training_validation_rows(
    manifest: Manifest, share: float, seed: int = 0, on_progress: OnProgress = ignore_progress
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the usable rows to train on and to validate on, in the manifest's order; on average `share` validate.

    `on_progress` gets the samples that are sorted out, and all.
    """
    if manifest.file is None:
        return _split_usable_rows(manifest, share, seed, on_progress)
    name = f"{manifest.file.digest}.{share!r}.{seed}.{ARRAYS_VERSION}.split"
    usable = manifest.usable_count
    write = partial(_write_split, manifest, share, seed, on_progress)
    split_N = map_cached_array(name, np.int64, usable + 1, write)
    trained = int(split_N[-1])
    return split_N[:trained], split_N[trained:-1]


def _split_usable_rows(
    manifest: Manifest, share: float, seed: int, on_progress: OnProgress
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    usable_N = manifest.usable_rows
    mark_N = manifest.select_usable("image_mark").to_series().to_numpy()
    out_N = choose_validation_images(mark_N, share, seed, on_progress)
    return usable_N[~out_N], usable_N[out_N]


def _write_split(
    manifest: Manifest, share: float, seed: int, on_progress: OnProgress, split_N: NDArray[np.int64]
) -> None:
    """Write the rows to train on, those to validate on, and the number of the former."""
    train_N, validation_N = _split_usable_rows(manifest, share, seed, on_progress)
    split_N[: len(train_N)], split_N[len(train_N) : -1], split_N[-1] = train_N, validation_N, len(train_N)


@dataclass(frozen=True)
class ManifestTally:
    """Counts of a manifest: `samples` is `usable` plus the sum of `problems`, which are sorted by frequency.

    `ignored` counts members that belong to no sample, by their ending. `unused` are the shards without a usable sample,
    with reasons; `damaged` are those that end early, with the number of samples before and the reason.
    """

    samples: int
    usable: int
    problems: Mapping[str, int]
    ignored: Mapping[str, int]
    unused: Mapping[str, str]
    damaged: Mapping[str, tuple[int, str]]

    def add_undecodable(self, count: int) -> "ManifestTally":
        """Return the counts with this many usable samples counted as undecodable instead."""
        if not count:
            return self
        problems = Counter(self.problems) + Counter({SampleProblem.UNREADABLE.value: count})
        return replace(self, usable=self.usable - count, problems=_sort_by_count(problems))

    @property
    def reasons(self) -> str:
        """The problems in one line, with remedies; empty if there are none."""
        listed = _format_counts(self.problems)
        apart = self.problems.get(SampleProblem.APART, 0)
        if apart:
            listed += (
                f"; {apart:,} keys come back after others: members of one key do not stand beside each other. "
                "`gapctl data pack` puts them together; or unpack the tar, and pack it again with `tar --sort=name`"
            )
        return listed

    @property
    def lines(self) -> Sequence[str]:
        """Lines about all that is left out, for a person; none if everything is used."""
        unused = [
            f"{shard}: nothing of it is used: {why}" for shard, why in self.unused.items() if shard not in self.damaged
        ]
        return [
            *([f"left out: {self.reasons}"] if self.problems else []),
            *_limit_lines(unused, "shards of which nothing is used"),
            *self._extra_lines,
        ]

    @property
    def _extra_lines(self) -> Sequence[str]:
        """Lines about members beside samples, and shards that end early."""
        damaged = [f"{shard}: damaged after {before:,} samples: {why}" for shard, (before, why) in self.damaged.items()]
        lines = list(_limit_lines(damaged, "damaged shards"))
        if self.ignored:
            kinds = _format_counts(dict(list(self.ignored.items())[:MAX_NAMED]))
            more = f" and {len(self.ignored) - MAX_NAMED:,} more kinds" if len(self.ignored) > MAX_NAMED else ""
            several = any("." in ending for ending in self.ignored)
            dots = " (a key ends at the first dot of a name, and what follows is the ending)" if several else ""
            lines.append(f"members of other kinds, which are never read: {kinds}{more}{dots}")
        return lines

    def require_usable(self, places: str) -> None:
        """Raise InputError with all reasons if no sample is usable."""
        if self.usable:
            return
        reason = f"{self.samples:,} samples: {self.reasons}" if self.samples else NO_SAMPLES
        beside = "".join(f". {line}" for line in self._extra_lines)
        raise InputError(f"{places}: none of its samples can be used; found {reason}; {EXPECTED}{beside}")


def tally_manifest(manifest: Manifest) -> ManifestTally:
    """Count a manifest's samples, and all other members of its shards."""
    counts = manifest.select_problems("shard", "problem").group_by("shard", "problem").len()
    problems, by_shard = Counter[str](), dict[str, dict[str, int]]()
    for shard, problem, count in counts.sort("problem").iter_rows():
        problems[problem] += count
        by_shard.setdefault(shard, {})[problem] = count
    ignored: Counter[str] = Counter()
    for record in manifest.shards:
        ignored.update(record.ignored)
    return ManifestTally(
        samples=manifest.sample_count,
        usable=manifest.sample_count - problems.total(),
        problems=_sort_by_count(problems),
        ignored=_sort_by_count(ignored),
        unused={
            record.address: _format_counts(_sort_by_count(by_shard.get(record.address, {}))) or NO_SAMPLES
            for record in manifest.shards
            if not record.usable
        },
        damaged={
            record.address: (record.samples, record.damage) for record in manifest.shards if record.damage is not None
        },
    )


def _sort_by_count(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _format_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _limit_lines(lines: Sequence[str], what: str) -> Sequence[str]:
    return [*lines[:MAX_NAMED], *([f"and {len(lines) - MAX_NAMED:,} more {what}"] if len(lines) > MAX_NAMED else [])]
