"""Define the manifest of a set of shards: a parquet file with a row per sample, and a record per shard in its metadata.

1. `read_manifest` and `write_manifest` handle the file; `require_unchanged_shards` checks that its shards are
   unchanged.
2. `split_training_validation_rows` selects rows for training and validation, `build_pair_table` locates them for
  reading.
3. `tally_manifest` counts samples and problems for messages.

Index letters: N samples of a training.
"""

import hashlib
import io
import json
import posixpath
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from gapctl.data.image_text.class_prompts import CaptionLineMode
from gapctl.data.image_text.locations import resolve_location
from gapctl.data.image_text.storage import ShardInfo, find_shard
from gapctl.data.image_text.tar import SampleProblem
from gapctl.errors import InputError, first_line_of_error
from gapctl.folders import find_cache_root
from gapctl.io.atomic import write_file_atomically
from gapctl.io.files import Folder
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
CHECK_THREADS: Final = 16
"""Concurrent requests; an object store answers slowly, but many at once."""

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
    """Shards and samples; `samples` has the columns of `SCHEMA`, in the order of the shards and of their members.

    `captions` is how texts of several lines were read, or None where each sample said it itself (`count_captions`). A
    manifest of an earlier version took each text for one caption, as trainings on it do.
    """

    shards: Sequence[ManifestShard]
    samples: pl.DataFrame
    reading: int = READING_VERSION
    """The version of the rules that its shards were inspected by."""
    captions: CaptionLineMode | None = None

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the content of the shards in their order, wherever they lie."""
        return hash_shards(self.shards)

    @property
    def usable(self) -> pl.DataFrame:
        """The samples without a problem."""
        return self.samples.filter(pl.col("problem").is_null())

    @property
    def usable_rows(self) -> NDArray[np.int64]:
        """The places of these samples among all."""
        return np.flatnonzero(self.samples["problem"].is_null().to_numpy())


def hash_shards(shards: Sequence[ManifestShard]) -> str:
    """Return a digest of the content of these shards in their order."""
    listed = "\n".join(shard.fingerprint for shard in shards)
    return hashlib.sha256(f"pairs-v{MANIFEST_VERSION}\n{listed}".encode()).hexdigest()[:16]


def serialise_manifest(manifest: Manifest, folder: str | None = None) -> bytes:
    """Return the file's bytes; addresses below `folder` are relative, so that both can be moved together."""
    shards = [asdict(shard) for shard in manifest.shards]
    root = "" if folder is None else f"{folder.rstrip('/')}/"
    for shard in shards:
        shard["address"] = shard["address"].removeprefix(root)
    about = {"version": MANIFEST_VERSION, "reading": READING_VERSION, "captions": manifest.captions, "shards": shards}
    metadata = {METADATA_KEY: json.dumps(about)}
    names = {shard.address: written["address"] for shard, written in zip(manifest.shards, shards, strict=True)}
    samples = manifest.samples.with_columns(pl.col("shard").replace(names)) if folder is not None else manifest.samples
    file = io.BytesIO()
    samples.write_parquet(file, metadata=metadata, statistics=False)
    return file.getvalue()


def parse_manifest(content: bytes, folder: str | None = None) -> Manifest:
    """Parse the bytes of `serialise_manifest`. Raise ValueError for anything else."""
    reading, captions, shards = _parse_file_metadata(content)
    try:
        samples = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _build_format_error(error) from error
    if reading < CAPTION_READING and list(samples.columns) == [name for name in SCHEMA if name != "captions"]:
        samples = samples.with_columns(captions=pl.lit(1, pl.Int32)).select(*SCHEMA)
    if samples.schema != pl.Schema(SCHEMA):
        raise ValueError(f"of other columns than version {MANIFEST_VERSION} has")
    if folder is None:
        return Manifest(shards, samples, reading, captions)
    moved = _join_folder(folder, shards)
    absolute = {shard.address: there.address for shard, there in zip(shards, moved, strict=True)}
    samples = samples.with_columns(pl.col("shard").replace(absolute))
    return Manifest(moved, samples, reading, captions)


def _join_folder(folder: str, shards: Sequence[ManifestShard]) -> list[ManifestShard]:
    """Return the shards with their whole addresses; absolute paths and addresses stand for themselves."""
    return [
        shard if "://" in shard.address else replace(shard, address=posixpath.join(folder, shard.address))
        for shard in shards
    ]


def _parse_file_metadata(content: bytes) -> tuple[int, CaptionLineMode | None, list[ManifestShard]]:
    """Return the version of the reading, the reading of captions and the shards, without the samples: that is fast."""
    try:
        document: dict[str, Any] = json.loads(pl.read_parquet_metadata(io.BytesIO(content))[METADATA_KEY])
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


def _read_file(place: Path | str, of: Callable[[bytes], Parsed]) -> Parsed:
    try:
        return of(_read_remote_file(str(place)) if "://" in str(place) else Path(place).read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{place}: no such file; `gapctl data index SHARDS --out {place}` makes it") from error
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{place}: cannot be read ({reason}); expected a manifest of shards") from error
    except ValueError as error:
        raise InputError(f"{place}: {error}; `gapctl data index SHARDS --out {place}` makes one") from error


def _read_remote_file(address: str) -> bytes:
    """Return a manifest's bytes from the cache, or download them where the cached copy is not of the present file."""
    location = resolve_location(address)
    info = location.find_info()
    if info is None:
        raise FileNotFoundError(address)
    name = hashlib.sha256(f"{address}\n{info.bytes}\n{info.tag}".encode()).hexdigest()[:32]
    copy = find_cache_root() / "manifests" / f"{name}.parquet"
    if info.tag and copy.is_file():
        return copy.read_bytes()
    content = location.read(limit=MAX_MANIFEST_BYTES)
    with suppress(OSError):  # a cache that cannot be written costs time, and nothing else
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_file_atomically(copy, content)
    return content


def write_manifest(place: Path | str, manifest: Manifest) -> None:
    """Write the file atomically, at a path or an address. Raise OSError if that fails, WorkError at an address."""
    folder = _get_parent_place(place)
    content = serialise_manifest(manifest, folder)
    if "://" in str(place):
        Folder(folder, "--out").write(str(place).rpartition("/")[2], content)
    else:
        write_file_atomically(Path(place), content, Path(folder))


def relocate_shards(manifest: Manifest, places: Mapping[str, ShardInfo]) -> Manifest:
    """Return the manifest of shards that were copied; `places` has the copy of each address."""
    shards = [
        replace(shard, address=(there := places[shard.address]).address, bytes=there.bytes, modified=there.modified)
        for shard in manifest.shards
    ]
    names = {address: there.address for address, there in places.items()}
    return replace(manifest, shards=shards, samples=manifest.samples.with_columns(pl.col("shard").replace(names)))


def require_unchanged_shards(path: Path | str, manifest: Manifest) -> None:
    """Raise InputError with the shards that are missing or were written after the manifest of this name."""
    with ThreadPoolExecutor(CHECK_THREADS) as pool:
        now = list(pool.map(find_shard, [shard.address for shard in manifest.shards]))
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


def format_caption_notes(manifest: Manifest) -> list[str]:
    """Return lines for a person about images with several captions, and about texts that are read whole; or none."""
    counts = manifest.usable["captions"]
    lines = []
    if several := int((counts > 1).sum()):
        lines.append(
            f"{several:,} of {len(counts):,} images have several captions, one a line: {counts.sum():,} in all"
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
    counts the captions of a sample, one a line; 1 is the whole text.
    """

    addresses: Sequence[str]
    row_N: NDArray[np.int64]
    shard_N: NDArray[np.int32]
    whole_N2: NDArray[np.int64]
    image_N2: NDArray[np.int64]
    caption_N2: NDArray[np.int64]
    json_N2: NDArray[np.int64]
    size_N2: NDArray[np.int32]
    captions_N: NDArray[np.int32]


def build_pair_table(manifest: Manifest, rows: ArrayLike) -> PairTable:
    """Return the samples in these rows of a manifest, each once.

    Raise InputError if there are none, and for rows with a problem.
    """
    row_N = np.unique(np.asarray(rows, dtype=np.int64))
    if not len(row_N):
        raise InputError("no usable image-text pairs are left to read; `gapctl data verify MANIFEST` says why")
    samples = manifest.samples[row_N]
    wrong = samples.filter(pl.col("problem").is_not_null())
    if len(wrong):
        first = wrong.row(0, named=True)
        raise InputError(
            f"{first['shard']}: sample {first['key']} cannot be read ({first['problem']}), as {len(wrong)} of these "
            "rows; expected rows of the manifest without a problem"
        )
    addresses = [shard.address for shard in manifest.shards]
    numbers = pl.DataFrame({"shard": addresses, "number": np.arange(len(addresses), dtype=np.int32)})
    shard_N = samples.select("shard").join(numbers.unique("shard"), on="shard", how="left", maintain_order="left")

    def span(start: str, size: str) -> NDArray[np.int64]:
        return np.ascontiguousarray(samples.select(pl.col(start, size).cast(pl.Int64)).to_numpy())

    return PairTable(
        tuple(addresses),
        row_N,
        shard_N["number"].to_numpy(),
        span("offset", "bytes"),
        span("image_offset", "image_bytes"),
        span("caption_offset", "caption_bytes"),
        span("json_offset", "json_bytes"),
        np.ascontiguousarray(samples.select("width", "height").to_numpy().astype(np.int32)),
        samples["captions"].to_numpy(),
    )


def is_validation_image(mark: int, share: float, seed: int) -> bool:
    """Return whether an image goes into validation; equal images go the same way, whatever other data there are."""
    digest = hashlib.blake2b(mark.to_bytes(8) + seed.to_bytes(8), digest_size=8).digest()
    return float(int.from_bytes(digest) / 2**64) < share


def split_training_validation_rows(
    manifest: Manifest, share: float, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the usable rows to train on and to validate on, in the manifest's order; on average `share` validate."""
    usable_N = manifest.usable_rows
    marks = manifest.samples["image_mark"][usable_N]
    out_N = np.array([is_validation_image(mark, share, seed) for mark in marks], dtype=bool)
    return usable_N[~out_N], usable_N[out_N]


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
    counts = manifest.samples.filter(pl.col("problem").is_not_null()).group_by("shard", "problem").len()
    problems, by_shard = Counter[str](), dict[str, dict[str, int]]()
    for shard, problem, count in counts.sort("problem").iter_rows():
        problems[problem] += count
        by_shard.setdefault(shard, {})[problem] = count
    ignored: Counter[str] = Counter()
    for record in manifest.shards:
        ignored.update(record.ignored)
    return ManifestTally(
        samples=len(manifest.samples),
        usable=len(manifest.samples) - problems.total(),
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
