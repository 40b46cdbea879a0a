"""The manifest of a set of shards: a parquet file with a row per sample, and a record per shard in its metadata."""

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

import polars as pl

from gapctl.data.mad.shards.atomic import write_whole
from gapctl.data.pairs.stored import Stored, stored_now
from gapctl.errors import InputError

Found = TypeVar("Found")

VERSION: Final = 1
"""Raised whenever the same shards would give other rows than before; then nothing kept is used again."""
READING: Final = 2
"""Raised whenever shards are looked at more closely, sound ones giving the same rows: then all are read again once."""
SHARDS: Final = "gapctl.shards"
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
    "json_offset": pl.Int64,
    "json_bytes": pl.Int32,
    "image_mark": pl.UInt64,
    "caption_mark": pl.UInt64,
    "problem": pl.String,
}
THREADS: Final = 16
"""An object store answers slowly, and many questions at once."""


@dataclass(frozen=True)
class ShardRecord:
    """A shard as it was indexed; `usable` of its `samples` have no problem, `ignored` members were not looked at."""

    address: str
    bytes: int
    modified: str
    fingerprint: str
    samples: int
    usable: int
    damage: str | None
    ignored: dict[str, int]

    @property
    def stored(self) -> Stored:
        """What must still lie there."""
        return Stored(self.address, self.bytes, self.modified)


@dataclass(frozen=True)
class Manifest:
    """`samples` has the columns of `SCHEMA`, in the order of the shards and of their members."""

    shards: Sequence[ShardRecord]
    samples: pl.DataFrame

    @cached_property
    def fingerprint(self) -> str:
        """Stands for the content of the shards in their order, wherever they lie."""
        return fingerprint_of(self.shards)

    @property
    def usable(self) -> pl.DataFrame:
        """The samples without a problem."""
        return self.samples.filter(pl.col("problem").is_null())


def fingerprint_of(shards: Sequence[ShardRecord]) -> str:
    """Stands for the content of these shards in their order."""
    listed = "\n".join(shard.fingerprint for shard in shards)
    return hashlib.sha256(f"pairs-v{VERSION}\n{listed}".encode()).hexdigest()[:16]


def to_parquet(manifest: Manifest, folder: Path | None = None) -> bytes:
    """The file's bytes; addresses below `folder` are written without it, so that it can be moved with its shards."""
    shards = [asdict(replace(shard, address=_within(shard.address, folder))) for shard in manifest.shards]
    metadata = {SHARDS: json.dumps({"version": VERSION, "reading": READING, "shards": shards})}
    names = {shard.address: written["address"] for shard, written in zip(manifest.shards, shards, strict=True)}
    samples = manifest.samples.with_columns(pl.col("shard").replace(names)) if folder else manifest.samples
    file = io.BytesIO()
    samples.write_parquet(file, metadata=metadata, statistics=False)
    return file.getvalue()


def from_parquet(content: bytes, folder: Path | None = None) -> Manifest:
    """Reads what `to_parquet` wrote; raises ValueError for anything else."""
    shards = records_of(content)
    try:
        samples = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _foreign(error) from error
    if samples.schema != pl.Schema(SCHEMA):
        raise ValueError(f"of other columns than version {VERSION} has")
    whole = {shard.address: _joined(shard.address, folder) for shard in shards}
    if folder:
        samples = samples.with_columns(pl.col("shard").replace(whole))
    return Manifest([replace(shard, address=whole[shard.address]) for shard in shards], samples)


def records_of(content: bytes) -> list[ShardRecord]:
    """The shards of a manifest alone, quick however many samples there are; raises ValueError as `from_parquet`."""
    return _described(content)[1]


def is_current_reading(path: Path) -> bool:
    """Whether a manifest's shards were looked at as closely as today; raises InputError as `read_manifest`."""
    return _read(path, _described)[0] == READING


def _described(content: bytes) -> tuple[int, list[ShardRecord]]:
    try:
        document: dict[str, Any] = json.loads(pl.read_parquet_metadata(io.BytesIO(content))[SHARDS])
        if document["version"] != VERSION:
            raise ValueError(f"of version {document['version']}; expected version {VERSION}")
        return document.get("reading", 1), [ShardRecord(**fields) for fields in document["shards"]]
    except (pl.exceptions.PolarsError, OSError, KeyError, TypeError) as error:
        raise _foreign(error) from error
    except ValueError as error:
        raise error if str(error).startswith("of version") else _foreign(error) from error


def _foreign(error: Exception) -> ValueError:
    return ValueError(f"not a manifest of shards ({type(error).__name__}: {str(error).splitlines()[0]})")


def read_manifest(path: Path) -> Manifest:
    """A manifest from its file; raises InputError where there is none, or another file."""
    return _read(path, lambda content: from_parquet(content, path.absolute().parent))


def read_records(path: Path) -> list[ShardRecord]:
    """The shards of a manifest as they are written there; raises InputError as `read_manifest`."""
    return _read(path, records_of)


def _read(path: Path, of: Callable[[bytes], Found]) -> Found:
    try:
        return of(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; `gapctl data index SHARDS --out {path}` makes it") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a manifest of shards") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}; `gapctl data index SHARDS --out {path}` makes one") from error


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Puts the file in place whole; raises OSError where that fails."""
    write_whole(path, to_parquet(manifest, path.absolute().parent), path.absolute().parent)


def require_current(path: Path, manifest: Manifest) -> None:
    """Raises InputError that names the shards which are gone or were written after the manifest of this name."""
    with ThreadPoolExecutor(THREADS) as pool:
        now = list(pool.map(stored_now, [shard.address for shard in manifest.shards]))
    changed = [
        f"{shard.address} ({_change(shard.stored, found)})"
        for shard, found in zip(manifest.shards, now, strict=True)
        if found != shard.stored
    ]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise InputError(
            f"{path}: is older than its shards: {', '.join(changed[:3])}{more}. Nothing was read; "
            f"`gapctl data index SHARDS --out {path}` reads what has changed, and only that"
        )


def _change(before: Stored, now: Stored | None) -> str:
    if now is None:
        return "is gone"
    if now.bytes != before.bytes:
        return f"{now.bytes:,} bytes, {before.bytes:,} when it was indexed"
    return "written again since"


def _within(address: str, folder: Path | None) -> str:
    if folder is None or "://" in address:
        return address
    path = Path(address)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else address


def _joined(address: str, folder: Path | None) -> str:
    return address if folder is None or "://" in address else str(folder / address)
