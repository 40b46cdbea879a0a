"""Reads pairs in the training's own process: a thread fetches chunks, others decode them, a few parts ahead."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from gapctl.data.pairs.decoded import Decoded
from gapctl.data.pairs.order import Chunk, PairOrder, Share
from gapctl.data.pairs.read_part import ChunkBytes, Reading, read_part

PART_BYTES: Final = 1 << 24
"""Pixels that are decoded at once; several parts wait in memory."""
FEWEST: Final = 16

Result = TypeVar("Result")


@dataclass(frozen=True)
class Threads:
    """So many threads decode, each up to `ahead` parts ahead of the training, and one reads the next chunk."""

    threads: int = 1
    ahead: int = 2

    def read(self, reading: Reading, order: PairOrder, share: Share) -> Iterator[Decoded]:
        """A worker's samples in their order, from the share's origin on; raises WorkError for shards that are gone."""
        fetcher = ThreadPoolExecutor(1)
        try:
            yield from in_order(
                (
                    partial(_decoded, reading, chunk, part_N, content)
                    for chunk, number_N, content in _fetched(fetcher, reading, order, share)
                    for part_N in parts_of(number_N, reading.rule.image_size)
                ),
                self.threads,
                self.threads * self.ahead,
            )
        finally:
            fetcher.shutdown(cancel_futures=True)


def in_order(calls: Iterator[Callable[[], Result]], threads: int, ahead: int) -> Iterator[Result]:
    """What the calls return, in their order, so many threads at work and so many results ahead of the caller."""
    pool, waiting = ThreadPoolExecutor(threads), deque[Future[Result]]()
    try:
        for call in calls:
            waiting.append(pool.submit(call))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _fetched(
    fetcher: ThreadPoolExecutor, reading: Reading, order: PairOrder, share: Share
) -> Iterator[tuple[Chunk, NDArray[np.int64], Future[ChunkBytes]]]:
    """Chunks whose bytes are on their way, one ahead of the one that is decoded."""
    ahead: deque[tuple[Chunk, NDArray[np.int64], Future[ChunkBytes]]] = deque()
    for chunk in order.chunks_from(share.origin):
        number_N = share.of(chunk)
        if len(number_N):
            ahead.append((chunk, number_N, fetcher.submit(ChunkBytes, reading, chunk, number_N)))
        if len(ahead) > 1:
            yield ahead.popleft()
        if share.stop is not None and chunk.stop >= share.stop:
            break
    yield from ahead


def _decoded(reading: Reading, chunk: Chunk, number_N: NDArray[np.int64], content: Future[ChunkBytes]) -> Decoded:
    return read_part(reading, chunk, number_N, content.result())


def parts_of(number_N: NDArray[np.int64], side: int) -> list[NDArray[np.int64]]:
    """Parts of a chunk that are decoded at once."""
    samples = max(FEWEST, PART_BYTES // (3 * side * side))
    return [number_N[first : first + samples] for first in range(0, len(number_N), samples)]
