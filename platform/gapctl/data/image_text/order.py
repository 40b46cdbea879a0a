"""Order a training's pairs as a pure function of the data, the seed and the position.

1. `split_into_spans` cuts the samples into spans of neighbours in one shard.
2. Each epoch shuffles the spans; several make a `Chunk`, which is read in few pieces and shuffled.
3. `WorkerShare.of` selects a worker's slice of every batch from a chunk.

Positions count samples from the beginning of the training, through all epochs.

Index letters: N samples, S spans, C chunks.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.data.rng import Purpose, make_generator

SPAN_SAMPLES: Final = 256
"""Most samples of a span: about 5 MB of 256-pixel images, large enough for an efficient read."""
CHUNK_SAMPLES: Final = 2_048
"""Approximate number of samples that are shuffled together; a smaller data set is shuffled whole."""


class Span(NamedTuple):
    """Neighbours in one shard: the place of the first among the training's samples, and their number."""

    first: int
    samples: int


class Chunk(NamedTuple):
    """A chunk of an epoch: the position of its first sample, and its samples in order.

    `place_N` are places among the training's samples.
    """

    epoch: int
    number: int
    start: int
    place_N: NDArray[np.int64]

    @property
    def stop(self) -> int:
        """The position after its last sample."""
        return self.start + len(self.place_N)


class PairOrder:
    """The order of these spans' samples in every epoch of a seed. Raise ValueError without spans."""

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
        """Return the chunk of a position. Raise ValueError below zero."""
        if position < 0:
            raise ValueError(f"position {position}, expected 0 or more")
        epoch, place = divmod(position, self.samples)
        starts_C = self._epoch(epoch).starts_C
        return self.chunk(epoch, int(np.searchsorted(starts_C, place, side="right")) - 1)

    def chunk(self, epoch: int, number: int) -> Chunk:
        """Return one chunk of an epoch, from 0 to `chunks` - 1."""
        plan = self._epoch(epoch)
        spans = plan.span_S[plan.chunk_S == number]
        place_N = np.concatenate([np.arange(self._samples_S[span]) + self._first_S[span] for span in spans])
        draws = make_generator(Purpose.CHUNK_ORDER, self.seed, epoch, number)
        start = epoch * self.samples + int(plan.starts_C[number])
        return Chunk(epoch, number, start, place_N[draws.permutation(len(place_N))])

    def iterate_chunks(self, position: int) -> Iterator[Chunk]:
        """Yield the chunk of a position and all later ones, without end."""
        chunk = self.find_chunk(position)
        while True:
            yield chunk
            chunk = self.find_chunk(chunk.stop)

    def _plan(self, epoch: int) -> "_EpochPlan":
        span_S = make_generator(Purpose.SPAN_ORDER, self.seed, epoch).permutation(len(self._samples_S))
        before_S = np.cumsum(self._samples_S[span_S]) - self._samples_S[span_S]
        chunk_S = before_S * self.chunks // self.samples
        return _EpochPlan(span_S, chunk_S, before_S[np.searchsorted(chunk_S, np.arange(self.chunks))])


class _EpochPlan(NamedTuple):
    """The spans in their order, each one's chunk, and the number of samples before each chunk."""

    span_S: NDArray[np.int64]
    chunk_S: NDArray[np.int64]
    starts_C: NDArray[np.int64]


def split_into_spans(edges: Sequence[int]) -> list[Span]:
    """Cut the samples into spans of up to `SPAN_SAMPLES` neighbours of one shard, of about equal length.

    `edges` are the places where the samples of a shard begin, and the end.
    """
    spans = []
    for first, last in pairwise(edges):
        parts = -(-(last - first) // SPAN_SAMPLES)
        cuts = [first + (last - first) * part // parts for part in range(parts + 1)] if parts else []
        spans += [Span(cut, after - cut) for cut, after in pairwise(cuts)]
    return spans


class WorkerShare(NamedTuple):
    """The share of one of `world` workers: slice `rank` of every batch, counted from position `origin`.

    Batches are the same for any number of workers that divides `batch`. The share ends at `stop`, if given.
    """

    origin: int
    batch: int
    rank: int
    world: int
    stop: int | None = None

    @property
    def samples(self) -> int:
        """The number of samples of each batch."""
        return self.batch // self.world

    def of(self, chunk: Chunk) -> NDArray[np.int64]:
        """Return which of a chunk's samples are this worker's, by their places in the chunk's order."""
        stop = chunk.stop if self.stop is None else min(chunk.stop, self.stop)
        position_N = np.arange(max(chunk.start, self.origin), stop)
        mine_N = (position_N - self.origin) % self.batch // self.samples == self.rank
        number_N: NDArray[np.int64] = position_N[mine_N] - chunk.start
        return number_N
