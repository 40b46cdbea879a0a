"""Indexes a set of shards: what a manifest or interrupted work already has is kept, the rest is read."""

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import polars as pl

from gapctl.data.mad.shards.atomic import TEMPORARY, write_whole
from gapctl.data.pairs.index_shard import ShardContent, as_columns, index_shard
from gapctl.data.pairs.manifest import (
    READING,
    SCHEMA,
    VERSION,
    Manifest,
    ShardRecord,
    from_parquet,
    is_current_reading,
    read_manifest,
    to_parquet,
    write_manifest,
)
from gapctl.data.pairs.problems import Problem
from gapctl.data.pairs.spread import Workers
from gapctl.data.pairs.stored import Stored, content_of
from gapctl.errors import InputError, WorkError

OnProgress = Callable[[int, int], None]

EACH: Final = 1 << 30
"""Bytes that a process indexes in the time in which another starts; fewer are not worth one."""


@dataclass(frozen=True)
class Indexed:
    """The manifest, and how many of its shards this run read."""

    manifest: Manifest
    read: int


def index_shards(
    shards: Sequence[Stored],
    out: Path,
    workers: Workers,
    on_progress: OnProgress = lambda done, total: None,
) -> Indexed:
    """Writes the manifest of these shards; stopped work goes on where it was, and unchanged shards are not read again.

    `on_progress` is told how many bytes are done, and of how many. Raises InputError where `out` cannot be written,
    is another file or is being made by another process, WorkError where a shard cannot be read.
    """
    before = _before(out)
    with _being_made(out) as parts:
        pieces = {shard: piece for shard in shards if (piece := _kept(shard, before, parts)) is not None}
        left = [shard for shard in shards if shard not in pieces]
        total = sum(shard.bytes for shard in shards)
        done = total - sum(shard.bytes for shard in left)
        on_progress(done, total)
        for place, content in _few(workers, left).each(piece_of, left):
            write_whole(parts / _name(left[place]), content, parts)
            pieces[left[place]] = from_parquet(content)
            done += left[place].bytes
            on_progress(done, total)
        manifest = joined([pieces[shard] for shard in shards])
        try:
            write_manifest(out, manifest)
        except OSError as error:
            raise WorkError(f"--out {out}: cannot be written ({error.strerror}); run the same command again") from error
    return Indexed(manifest, len(left))


def look_at(shards: Sequence[Stored], workers: Workers) -> Manifest:
    """The manifest of these shards, written nowhere."""
    pieces: dict[int, Manifest] = {}
    for place, content in _few(workers, shards).each(piece_of, shards):
        pieces[place] = from_parquet(content)
    return joined([pieces[place] for place in range(len(shards))])


def piece_of(stored: Stored) -> bytes:
    """One shard's part of a manifest, as bytes that any process can send; raises WorkError where it cannot be read."""
    try:
        with content_of(stored.address) as content:
            found = index_shard(content)
    except OSError as error:
        raise WorkError(f"{stored.address}: cannot be read ({error.strerror}); mend that and run again") from error
    return indexed_piece(stored, found)


def indexed_piece(stored: Stored, found: ShardContent) -> bytes:
    """The part of a manifest that this content of a shard makes."""
    record = ShardRecord(
        stored.address,
        stored.bytes,
        stored.modified,
        found.fingerprint,
        len(found.samples),
        sum(sample.problem is None for sample in found.samples),
        found.damage,
        found.ignored,
    )
    columns = {"shard": [stored.address] * len(found.samples), **as_columns(found.samples)}
    return to_parquet(Manifest([record], pl.DataFrame(columns, schema=SCHEMA)))


def joined(pieces: Sequence[Manifest]) -> Manifest:
    """One manifest of many; a sample whose key and image an earlier one has is marked as a duplicate."""
    samples = pl.concat([pl.DataFrame(schema=SCHEMA), *(piece.samples for piece in pieces)])
    again = (
        pl.col("problem").is_null()
        & pl.col("image_mark").is_duplicated()
        & ~pl.struct("key", "image_mark").is_first_distinct()
    )
    words = pl.lit(Problem.DUPLICATE.value)
    samples = samples.with_columns(pl.when(again).then(words).otherwise("problem").alias("problem"))
    usable = dict(samples.filter(pl.col("problem").is_null()).group_by("shard").len().iter_rows())
    records = [replace(record, usable=usable.get(record.address, 0)) for piece in pieces for record in piece.shards]
    return Manifest(records, samples)


def _few(workers: Workers, shards: Sequence[Stored]) -> Workers:
    worth = 1 + sum(shard.bytes for shard in shards) // EACH
    return replace(workers, processes=min(workers.processes, worth))


def _before(out: Path) -> Mapping[Stored, Manifest]:
    """The parts of the manifest that is there; a shard that was damaged is read again."""
    if not out.exists():
        return {}
    try:
        found = read_manifest(out)
    except InputError as error:
        if "of version" in str(error):
            return {}
        raise InputError(
            f"--out {out}: is there, and is not a manifest of shards. Nothing was written; give another name, or take "
            "that file away"
        ) from error
    if not is_current_reading(out):
        return {}
    unmarked = found.samples.with_columns(
        pl.when(pl.col("problem") != Problem.DUPLICATE.value).then("problem").alias("problem")
    )
    rows = {str(key[0]): rows for key, rows in unmarked.partition_by("shard", as_dict=True).items()}
    empty = pl.DataFrame(schema=SCHEMA)
    return {
        shard.stored: Manifest([shard], rows.get(shard.address, empty))
        for shard in found.shards
        if shard.damage is None
    }


def _kept(shard: Stored, before: Mapping[Stored, Manifest], parts: Path) -> Manifest | None:
    if shard in before:
        return before[shard]
    try:
        return from_parquet((parts / _name(shard)).read_bytes())
    except (OSError, ValueError):
        return None


def _name(shard: Stored) -> str:
    return hashlib.sha256(f"{VERSION}.{READING}\n{shard}".encode()).hexdigest()[:32] + ".parquet"


@contextmanager
def _being_made(out: Path) -> Iterator[Path]:
    """A folder beside the manifest for what is finished, for this process alone; it goes when the manifest is there."""
    parts = out.with_name(f".{out.name}.making")
    try:
        parts.mkdir(parents=True, exist_ok=True)
        lock = (parts / "lock").open("w")
    except OSError as error:
        raise InputError(
            f"--out {out}: cannot be written ({error.strerror}); expected a file in a folder that can be written to"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"--out {out}: another gapctl is making it now. Wait for it, or stop it.") from error
        for left_over in parts.glob(f"*{TEMPORARY}"):
            left_over.unlink(missing_ok=True)
        yield parts
        shutil.rmtree(parts)
