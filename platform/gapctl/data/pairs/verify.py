"""Reads shards whole: every image is decoded and compared with all others, every shard with its manifest."""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import polars as pl

from gapctl.data.pairs.index import indexed_piece, joined
from gapctl.data.pairs.index_shard import Found, ShardContent, index_shard
from gapctl.data.pairs.manifest import Manifest, ShardRecord, from_parquet
from gapctl.data.pairs.members import Content
from gapctl.data.pairs.problems import Problem
from gapctl.data.pairs.samples import Sample, picture_of
from gapctl.data.pairs.spread import Workers
from gapctl.data.pairs.stored import Stored, content_of, stored_now
from gapctl.errors import WorkError

OnProgress = Callable[[int, int], None]
GONE: Final = "is gone"


class WrongShard(NamedTuple):
    """A shard of which more is wrong than single samples."""

    address: str
    what: str


@dataclass(frozen=True)
class PairsVerified:
    """What was found: the shards as a manifest (`image_mark` is of whole images here), and what is wrong with shards.

    `repeated` counts images that stand under several keys, beyond the first: usual in data from the web, and no error.
    """

    found: Manifest
    wrong: Sequence[WrongShard]
    repeated: int

    @property
    def problems(self) -> pl.DataFrame:
        """The samples that are left out: shard, key, offset, problem."""
        return self.found.samples.filter(pl.col("problem").is_not_null()).select("shard", "key", "offset", "problem")

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong and not len(self.problems)


def verify_shards(
    shards: Sequence[Stored], workers: Workers, on_progress: OnProgress = lambda done, total: None
) -> PairsVerified:
    """Decodes every image; `on_progress` is told how many bytes are done, and of how many."""
    pieces: dict[int, Manifest] = {}
    done, total = 0, sum(shard.bytes for shard in shards)
    for place, content in workers.each(checked_piece, shards):
        pieces[place] = from_parquet(content)
        done += shards[place].bytes
        on_progress(done, total)
    found = joined([pieces[place] for place in range(len(shards))])
    damaged = [WrongShard(shard.address, shard.damage) for shard in found.shards if shard.damage]
    usable = found.usable
    return PairsVerified(found, damaged, len(usable) - usable["image_mark"].n_unique())


def verify_manifest(
    manifest: Manifest, workers: Workers, on_progress: OnProgress = lambda done, total: None
) -> PairsVerified:
    """The same for the shards of a manifest, each compared with what it says of them."""
    now = {shard.address: stored_now(shard.address) for shard in manifest.shards}
    there = [stored for stored in now.values() if stored is not None]
    verified = verify_shards(there, workers, on_progress)
    found = {shard.address: shard for shard in verified.found.shards}
    wrong = [
        WrongShard(record.address, what)
        for record in manifest.shards
        if (what := _difference(record, found.get(record.address))) is not None
    ]
    return replace(verified, wrong=[*wrong, *verified.wrong])


def _difference(record: ShardRecord, found: ShardRecord | None) -> str | None:
    if found is None:
        return GONE
    if found.bytes != record.bytes:
        return f"{found.bytes:,} bytes, {record.bytes:,} when it was indexed"
    if found.fingerprint != record.fingerprint:
        return "its content is not what was indexed"
    return None


def checked_piece(stored: Stored) -> bytes:
    """One shard's part of a manifest, its images decoded; raises WorkError where the shard cannot be read."""
    try:
        with content_of(stored.address) as content:
            found = index_shard(content)
            samples = [_checked(content, sample) for sample in found.samples]
    except OSError as error:
        raise WorkError(f"{stored.address}: cannot be read ({error.strerror}); mend that and run again") from error
    return indexed_piece(stored, ShardContent(samples, *found[1:]))


def _checked(content: Content, sample: Found) -> Found:
    image = content[sample.image_offset : sample.image_offset + sample.image_bytes]
    mark = int.from_bytes(hashlib.blake2b(image, digest_size=8).digest())
    problem = sample.problem if sample.problem or _decodes(image) else Problem.UNREADABLE.value
    return sample._replace(image_mark=mark, problem=problem)


def _decodes(image: bytes) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture_of(Sample("", image, None, {}))
        except ValueError:
            return False
    return True
