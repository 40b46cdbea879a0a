"""Feed batches of image-text pairs, in an order that is a pure function of the data, the seed and the position.

1. `build_pair_table` lists where the training's samples lie; `PairOrder` puts them in the order of each epoch.
2. `WorkerShare` selects this worker's samples: its slice of every batch.
3. A reader (`ThreadReader`, or `RayReader` on a cluster) turns them into arrays by `read_part`, in that order.
4. `PairFeed` cuts these into batches, counts, and stops if too many samples cannot be read.

`decode_rows` reads chosen rows instead, such as a gallery.

Index letters: N samples, B samples of a worker's batch.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from gapctl.data.image_text.manifest import Manifest, build_pair_table
from gapctl.data.image_text.order import Chunk, PairOrder, WorkerShare, split_into_spans
from gapctl.data.image_text.read import (
    ChunkBytes,
    DecodedSamples,
    FeedCounts,
    PairBatch,
    ReadContext,
    ReadOptions,
    ReadStatus,
    build_pair_batch,
    join_samples,
    read_without_substitutes,
    select_samples,
    split_samples,
)
from gapctl.data.image_text.readers import ThreadReader, run_in_order
from gapctl.errors import WorkError

MAX_BAD_SHARE: Final = 0.05
MIN_JUDGED_SAMPLES: Final = 1_000
"""Samples before the share of bad ones is judged, or an epoch if that is less."""
MAX_NAMED: Final = 5
PART_SAMPLES: Final = 128
PARTS_AHEAD: Final = 2


class PairReader(Protocol):
    """Reads samples in order; `ThreadReader` and `RayReader` return the same."""

    def read(self, reading: ReadContext, order: PairOrder, share: WorkerShare) -> Iterator[DecodedSamples]:
        """Yield a worker's samples in their order, from the share's origin on."""
        ...


class PairFeed:
    """A stream of batches, each with the position after it, which is the feed's whole state.

    `rows` are the rows of the manifest to train on. Worker `rank` of `world` gets its slice of every batch of
    `batch_size`. A feed built at a position continues there, for any batch size and number of workers; with `stop` it
    ends before the batch that would go beyond that position.

    A sample that cannot be read is replaced by the next of its chunk. If more than a share of `bad_share` is replaced,
    iterating raises WorkError with the first ones; a missing shard raises at once. Raise ValueError for a batch that
    does not divide among the workers, InputError for rows that cannot be read.
    """

    def __init__(
        self,
        manifest: Manifest,
        rows: ArrayLike,
        rule: ReadOptions,
        seed: int,
        batch_size: int,
        position: int = 0,
        rank: int = 0,
        world: int = 1,
        reader: PairReader | None = None,
        stop: int | None = None,
        bad_share: float = MAX_BAD_SHARE,
        counts: FeedCounts | None = None,
    ) -> None:
        if batch_size < 1 or batch_size % world or not 0 <= rank < world:
            raise ValueError(f"batch of {batch_size} for worker {rank} of {world}; expected a multiple of the workers")
        table = build_pair_table(manifest, rows)
        self.order = PairOrder(split_into_spans(table.shard_N), seed)
        self.counts = counts or FeedCounts()
        self._reading = ReadContext(table, rule, seed)
        whole = None if stop is None else position + max(0, stop - position) // batch_size * batch_size
        self._share = WorkerShare(position, batch_size, rank, world, whole)
        self._reader = reader or ThreadReader()
        self._limit = bad_share
        self._name = _make_sample_namer(manifest)
        self._bad: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[tuple[PairBatch, int]]:
        """Yield batches and positions; each iterator begins at the feed's position."""
        position, held = self._share.origin, list[DecodedSamples]()
        parts = self._reader.read(self._reading, self.order, self._share)
        began = time.perf_counter()
        while position != self._share.stop:
            asked = time.perf_counter()
            read, held = _take_samples(parts, held, self._share.samples)
            now = time.perf_counter()
            self.counts.waited_s += now - asked
            self.counts.total_s += now - began
            began = now
            self._count_samples(read)
            position += self._share.batch
            yield build_pair_batch(read), position

    def _count_samples(self, read: DecodedSamples) -> None:
        self.counts.add(read)
        wrong = read.bad_N != ReadStatus.SOUND
        if not wrong.any():
            return
        self._bad += list(zip(read.planned_N[wrong].tolist(), read.bad_N[wrong].tolist(), strict=True))
        del self._bad[MAX_NAMED:]
        counts = self.counts
        judged = counts.samples >= min(MIN_JUDGED_SAMPLES, self.order.samples)
        if judged and counts.substituted_share > self._limit:
            raise WorkError(self._explain_failure())

    def _explain_failure(self) -> str:
        counts = self.counts
        named = ", ".join(f"{self._name(row)} ({ReadStatus(bad).words})" for row, bad in self._bad)
        reasons = ", ".join(f"{words}: {count:,}" for words, count in counts.substituted.items())
        return (
            f"{counts.substituted_share:.1%} of {counts.samples:,} samples could not be read, more than the "
            f"{self._limit:.1%} that are allowed ({reasons}). The first: {named}. `gapctl data verify` finds what "
            "cannot be decoded, and `gapctl data captions` what a treatment needs"
        )


def _make_sample_namer(manifest: Manifest) -> Callable[[int], str]:
    def name(row: int) -> str:
        shard, key = manifest.samples.select("shard", "key").row(row)
        return f"{shard} {key}"

    return name


def _take_samples(
    parts: Iterator[DecodedSamples], held: list[DecodedSamples], samples: int
) -> tuple[DecodedSamples, list[DecodedSamples]]:
    """Return this many samples, and the rest of the last part."""
    while sum(len(part.sample_N) for part in held) < samples:
        held.append(next(parts))
    batch, rest = split_samples(join_samples(held), samples)
    return batch, [rest] if len(rest.sample_N) else []


class UnreadableSample(NamedTuple):
    """A sample that could not be read, and the reason."""

    row: int
    shard: str
    key: str
    why: str


class GalleryPart(NamedTuple):
    """Neighbouring rows: the readable ones as a batch without substitutes, and the unreadable ones among them."""

    pairs: PairBatch
    left_out: list[UnreadableSample]


def decode_rows(
    manifest: Manifest,
    rows: ArrayLike,
    rule: ReadOptions,
    *,
    seed: int,
    epoch: int = 0,
    augment: bool = False,
    threads: int = 1,
) -> Iterator[GalleryPart]:
    """Yield the samples of these rows in the given order, each once, treated by the rule.

    Without `augment` a picture's centre is cropped, as in open_clip's evaluation. Raise InputError for rows with a
    problem in the manifest, WorkError for missing shards.
    """
    row_N = np.asarray(rows, dtype=np.int64)
    reading = ReadContext(build_pair_table(manifest, row_N), rule, seed, augment)
    place_N = np.searchsorted(reading.table.row_N, row_N)
    chunks = (
        Chunk(epoch, 0, first, place_N[first : first + PART_SAMPLES]) for first in range(0, len(place_N), PART_SAMPLES)
    )
    for read in run_in_order(
        (partial(_read_chunk, reading, chunk) for chunk in chunks), threads, PARTS_AHEAD * threads
    ):
        sound_N = read.bad_N == ReadStatus.SOUND
        yield GalleryPart(
            build_pair_batch(select_samples(read, sound_N)), _list_unreadable(manifest, select_samples(read, ~sound_N))
        )


def _list_unreadable(manifest: Manifest, bad: DecodedSamples) -> list[UnreadableSample]:
    named = manifest.samples[bad.planned_N].select("shard", "key").iter_rows()
    return [
        UnreadableSample(int(row), shard, key, ReadStatus(why).words)
        for row, why, (shard, key) in zip(bad.planned_N, bad.bad_N, named, strict=True)
    ]


def _read_chunk(reading: ReadContext, chunk: Chunk) -> DecodedSamples:
    number_N = np.arange(len(chunk.place_N))
    return read_without_substitutes(reading, chunk, number_N, ChunkBytes(reading, chunk, number_N))
