"""Which shards of a folder are made and sound: those whose bytes still have the sha256 that was recorded."""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

from gapctl.data.mad.shards.atomic import sha256_of
from gapctl.data.mad.shards.layout import Shard
from gapctl.data.mad.shards.output import existing_description
from gapctl.data.mad.shards.tables import read_manifest
from gapctl.data.mad.shards.write import ShardRecord, record_file

THREADS = 4


def sound_shards(
    folder: Path, shards: Sequence[Shard], on_checked: Callable[[Shard], None] = lambda shard: None
) -> dict[str, ShardRecord]:
    """Return the records of the shards that need not be made again, each file read whole."""
    finished = _finished_before(folder)
    recorded = {shard.name: _recorded(folder, shard) or finished.get(shard.name) for shard in shards}

    def sound(shard: Shard) -> bool:
        known = recorded[shard.name]
        found = known is not None and _is_sound(folder / shard.name, known)
        on_checked(shard)
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(sound, shards))
    return {
        shard.name: record
        for shard, is_sound in zip(shards, answers, strict=True)
        if is_sound and (record := recorded[shard.name]) is not None
    }


def _is_sound(path: Path, record: ShardRecord) -> bool:
    try:
        return path.stat().st_size == record.bytes and sha256_of(path) == record.sha256
    except OSError:
        return False


def _recorded(folder: Path, shard: Shard) -> ShardRecord | None:
    try:
        fields = json.loads(record_file(folder, shard).read_bytes())
        return ShardRecord(fields["bytes"], fields["sha256"], tuple(fields["offsets"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _finished_before(folder: Path) -> Mapping[str, ShardRecord]:
    """The records of a folder that was whole before: sizes from its description, offsets from its manifest."""
    description = existing_description(folder) if folder.exists() else None
    if description is None:
        return {}
    try:
        rows = read_manifest(folder).group_by("shard", "shard_sha256", maintain_order=True).agg("offset").rows()
    except (OSError, pl.exceptions.PolarsError):
        return {}
    return {
        name: ShardRecord(description.files[name].bytes, sha256, tuple(offsets))
        for name, sha256, offsets in rows
        if name in description.files and description.files[name].sha256 == sha256
    }
