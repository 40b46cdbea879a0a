"""The order in which a training sees pairs: a pure function of the data, the seed and the position.

Spans, which are neighbours in a shard, are put in another order each epoch; several make a chunk, which is read in few
pieces and shuffled. Positions count samples from the beginning of the training, through all epochs.

Index letters: N samples, S spans, C chunks.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.data.rng import Purpose, make_generator, make_sample_generator

SPAN_SAMPLES: Final = 256
"""Most samples of a span: about 5 MB of 256-pixel images, of which a disk or an object store gives half at once."""
CHUNK_SAMPLES: Final = 2_048
"""About so many samples are shuffled together; a data set of fewer is shuffled whole."""


class Span(NamedTuple):
    """Neighbours in one shard: the place of the first among the training's samples, and how many there are."""

    first: int
    samples: int


class Chunk(NamedTuple):
    """A chunk of an epoch, the position of its first sample, and its samples in their order.

    `place_N` are places among the training's samples.
    """

    epoch: int
    number: int
    start: int
    place_N: NDArray[np.int64]

    @property
    def stop(self) -> int:
        """The position behind its last sample."""
        return self.start + len(self.place_N)


class PairOrder:
    """The order of the samples of these spans in every epoch of a seed; raises ValueError where there are none."""

    def __init__(self, spans: list[Span], seed: int) -> None:
        if not spans:
            raise ValueError("no samples to put in order")
        self.seed = seed
        self._first_S, self._samples_S = (np.array(column, dtype=np.int64) for column in zip(*spans, strict=True))
        self.samples = int(self._samples_S.sum())
        self.chunks = max(1, round(self.samples / CHUNK_SAMPLES))
        self._epoch = lru_cache(maxsize=2)(self._plan)

    def __reduce__(self) -> tuple[type["PairOrder"], tuple[list[Span], int]]:
        return PairOrder, (list(map(Span, self._first_S.tolist(), self._samples_S.tolist())), self.seed)

    def find_chunk(self, position: int) -> Chunk:
        """The chunk in which a position lies; raises ValueError below zero."""
        if position < 0:
            raise ValueError(f"position {position}, expected 0 or more")
        epoch, place = divmod(position, self.samples)
        starts_C = self._epoch(epoch).starts_C
        return self.chunk(epoch, int(np.searchsorted(starts_C, place, side="right")) - 1)

    def chunk(self, epoch: int, number: int) -> Chunk:
        """One chunk of an epoch, from 0 to `chunks` - 1."""
        plan = self._epoch(epoch)
        spans = plan.span_S[plan.chunk_S == number]
        place_N = np.concatenate([np.arange(self._samples_S[span]) + self._first_S[span] for span in spans])
        draws = make_sample_generator(Purpose.CHUNK_ORDER, self.seed, epoch, number)
        start = epoch * self.samples + int(plan.starts_C[number])
        return Chunk(epoch, number, start, place_N[draws.permutation(len(place_N))])

    def iterate_chunks(self, position: int) -> Iterator[Chunk]:
        """The chunk of a position and all after it, without end."""
        chunk = self.find_chunk(position)
        while True:
            yield chunk
            chunk = self.find_chunk(chunk.stop)

    def places(self, start: int, stop: int) -> NDArray[np.int64]:
        """The samples at these positions, as places among the training's samples."""
        found = [np.empty(0, dtype=np.int64)]
        for chunk in self.iterate_chunks(start):
            if chunk.start >= stop:
                break
            found.append(chunk.place_N[max(0, start - chunk.start) : stop - chunk.start])
        return np.concatenate(found)

    def _plan(self, epoch: int) -> "_EpochPlan":
        span_S = make_generator(Purpose.SPAN_ORDER, self.seed, epoch).permutation(len(self._samples_S))
        before_S = np.cumsum(self._samples_S[span_S]) - self._samples_S[span_S]
        chunk_S = before_S * self.chunks // self.samples
        return _EpochPlan(span_S, chunk_S, before_S[np.searchsorted(chunk_S, np.arange(self.chunks))])


class _EpochPlan(NamedTuple):
    """The spans in their order, each one's chunk, and how many samples lie before each chunk."""

    span_S: NDArray[np.int64]
    chunk_S: NDArray[np.int64]
    starts_C: NDArray[np.int64]


def split_into_spans(shard_N: NDArray[np.int32]) -> list[Span]:
    """Parts of up to `SPAN` neighbours of one shard, about equally long; `shard_N` is each sample's shard."""
    edges = [0, *(np.flatnonzero(np.diff(shard_N)) + 1).tolist(), len(shard_N)]
    spans = []
    for first, last in pairwise(edges):
        parts = -(-(last - first) // SPAN_SAMPLES)
        cuts = [first + (last - first) * part // parts for part in range(parts + 1)] if parts else []
        spans += [Span(cut, after - cut) for cut, after in pairwise(cuts)]
    return spans


class WorkerShare(NamedTuple):
    """What one of `world` workers takes: slice `rank` of every batch, the batches counted from position `origin`.

    So the batches are the same for any number of workers that divides `batch`. It ends at `stop`, if at all.
    """

    origin: int
    batch: int
    rank: int
    world: int
    stop: int | None = None

    @property
    def samples(self) -> int:
        """How many of each batch."""
        return self.batch // self.world

    def of(self, chunk: Chunk) -> NDArray[np.int64]:
        """Which of a chunk's samples are this worker's, by their places in the chunk's order."""
        stop = chunk.stop if self.stop is None else min(chunk.stop, self.stop)
        position_N = np.arange(max(chunk.start, self.origin), stop)
        mine_N = (position_N - self.origin) % self.batch // self.samples == self.rank
        number_N: NDArray[np.int64] = position_N[mine_N] - chunk.start
        return number_N
