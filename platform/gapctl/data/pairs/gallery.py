"""Given rows of a manifest as arrays, for evaluations: in their order, a part at a time."""

from collections.abc import Iterator
from functools import partial
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gapctl.data.pairs.batch import PairBatch, batch_of
from gapctl.data.pairs.decoded import Bad, Decoded, chosen
from gapctl.data.pairs.manifest import Manifest
from gapctl.data.pairs.order import Chunk
from gapctl.data.pairs.read_part import ChunkBytes, Reading, read_planned
from gapctl.data.pairs.read_threads import in_order
from gapctl.data.pairs.recipe import ReadRule
from gapctl.data.pairs.table import table_of

PART: Final = 128
AHEAD: Final = 2


class LeftOut(NamedTuple):
    """A sample that could not be read, and why."""

    row: int
    shard: str
    key: str
    why: str


class GalleryPart(NamedTuple):
    """Neighbouring rows that could be read, as a batch without stand-ins, and those between them that could not."""

    pairs: PairBatch
    left_out: list[LeftOut]


def read_rows_decoded(
    manifest: Manifest,
    rows: ArrayLike,
    rule: ReadRule,
    *,
    seed: int,
    epoch: int = 0,
    augment: bool = False,
    threads: int = 1,
) -> Iterator[GalleryPart]:
    """The samples of these rows in the order given, each once, treated by the rule.

    Without `augment` a picture's middle is taken, as open_clip evaluates. Raises InputError for rows with a problem in
    the manifest, WorkError for shards that are gone.
    """
    row_N = np.asarray(rows, dtype=np.int64)
    reading = Reading(table_of(manifest, row_N), rule, seed, augment)
    place_N = np.searchsorted(reading.table.row_N, row_N)
    chunks = (Chunk(epoch, 0, first, place_N[first : first + PART]) for first in range(0, len(place_N), PART))
    for read in in_order((partial(_read, reading, chunk) for chunk in chunks), threads, AHEAD * threads):
        sound_N = read.bad_N == Bad.SOUND
        yield GalleryPart(batch_of(chosen(read, sound_N)), _left_out(manifest, chosen(read, ~sound_N)))


def _left_out(manifest: Manifest, bad: Decoded) -> list[LeftOut]:
    named = manifest.samples[bad.planned_N].select("shard", "key").iter_rows()
    return [
        LeftOut(int(row), shard, key, Bad(why).words)
        for row, why, (shard, key) in zip(bad.planned_N, bad.bad_N, named, strict=True)
    ]


def _read(reading: Reading, chunk: Chunk) -> Decoded:
    number_N = np.arange(len(chunk.place_N))
    return read_planned(reading, chunk, number_N, ChunkBytes(reading, chunk, number_N))
