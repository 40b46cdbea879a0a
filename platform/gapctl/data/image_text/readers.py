"""Read pairs ahead of the training: in threads of its own process, or in Ray tasks on a cluster.

1. `ThreadReader` fetches the next chunk in one thread and decodes parts in others.
2. `RayReader` reads chunks in Ray Data tasks, inside or beside the trial's reservation of CPUs.
"""

import importlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from gapctl.data.image_text.order import Chunk, PairOrder, WorkerShare
from gapctl.data.image_text.read import ChunkBytes, DecodedSamples, ReadContext, allocate_samples, read_part
from gapctl.errors import InputError, WorkError

PART_BYTES: Final = 1 << 24
"""Bytes of pixels that are decoded together; several parts wait in memory."""
MIN_PART_SAMPLES: Final = 16

CallResult = TypeVar("CallResult")
WINDOW_CHUNKS: Final = 1_024
"""Chunks of one Ray Data plan, about two million samples; an endless training makes one plan after the other."""
BLOCK_BYTES: Final = 1 << 25
STORE_BYTES: Final = 1 << 30
CHUNK_COLUMN: Final = "chunk"
FAILED_COLUMN: Final = "failed"
"""The column that returns a task's WorkError; raised, Ray would wrap it in advice about transient failures."""


@dataclass(frozen=True)
class ThreadReader:
    """Decodes in `threads` threads, each up to `ahead` parts ahead of the training; one more reads the next chunk."""

    threads: int = 1
    ahead: int = 2

    def read(self, reading: ReadContext, order: PairOrder, share: WorkerShare) -> Iterator[DecodedSamples]:
        """Yield a worker's samples in their order, from the share's origin on.

        Raise WorkError for missing shards.
        """
        fetcher = ThreadPoolExecutor(1)
        try:
            yield from run_in_order(
                (
                    partial(_decode_part, reading, chunk, part_N, content)
                    for chunk, number_N, content in _prefetch_chunks(fetcher, reading, order, share)
                    for part_N in split_chunk(number_N, reading.rule.image_size)
                ),
                self.threads,
                self.threads * self.ahead,
            )
        finally:
            fetcher.shutdown(cancel_futures=True)


def run_in_order(calls: Iterator[Callable[[], CallResult]], threads: int, ahead: int) -> Iterator[CallResult]:
    """Yield the calls' results in their order, with `threads` at work and `ahead` results waiting."""
    pool, waiting = ThreadPoolExecutor(threads), deque[Future[CallResult]]()
    try:
        for call in calls:
            waiting.append(pool.submit(call))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _prefetch_chunks(
    fetcher: ThreadPoolExecutor, reading: ReadContext, order: PairOrder, share: WorkerShare
) -> Iterator[tuple[Chunk, NDArray[np.int64], Future[ChunkBytes]]]:
    """Yield chunks whose bytes are being read, one ahead of the one being decoded."""
    ahead: deque[tuple[Chunk, NDArray[np.int64], Future[ChunkBytes]]] = deque()
    for chunk in order.iterate_chunks(share.origin):
        number_N = share.of(chunk)
        if len(number_N):
            ahead.append((chunk, number_N, fetcher.submit(ChunkBytes, reading, chunk, number_N)))
        if len(ahead) > 1:
            yield ahead.popleft()
        if share.stop is not None and chunk.stop >= share.stop:
            break
    yield from ahead


def _decode_part(
    reading: ReadContext, chunk: Chunk, number_N: NDArray[np.int64], content: Future[ChunkBytes]
) -> DecodedSamples:
    return read_part(reading, chunk, number_N, content.result())


def split_chunk(number_N: NDArray[np.int64], side: int) -> list[NDArray[np.int64]]:
    """Return parts of a chunk that are decoded together."""
    samples = max(MIN_PART_SAMPLES, PART_BYTES // (3 * side * side))
    return [number_N[first : first + samples] for first in range(0, len(number_N), samples)]


@dataclass(frozen=True)
class RayReader:
    """Reads in concurrent Ray tasks, each on one CPU.

    Results ahead of the training take up to `store_bytes` of Ray's store. Tasks run inside the trial's reservation, or
    beside it if that is not `reserved` for them. The workers of one trial fill theirs, and a sweep then starts no more
    trials than there are CPUs for.
    """

    cpus: int = 1
    store_bytes: int = STORE_BYTES
    reserved: bool = True

    def read(self, reading: ReadContext, order: PairOrder, share: WorkerShare) -> Iterator[DecodedSamples]:
        """Yield a worker's samples in their order, from the share's origin on.

        Raise WorkError for missing shards and if Ray loses a task for good, InputError if Ray has no CPU for reading.
        """
        import ray
        from ray.exceptions import RayError

        room = _choose_placement(self.cpus) if self.reserved else {}
        held = ray.put(_SharedInputs(reading, order, share))
        first = order.find_chunk(share.origin)
        number = first.epoch * order.chunks + first.number
        last = None
        if share.stop is not None:
            end = order.find_chunk(max(share.origin, share.stop - 1))
            last = end.epoch * order.chunks + end.number + 1
        try:
            while last is None or number < last:
                chunks = WINDOW_CHUNKS if last is None else min(WINDOW_CHUNKS, last - number)
                yield from self._read_window(held, number, chunks, room)
                number += chunks
        except RayError as error:
            raise WorkError(
                f"a task of Ray Data failed: {str(error).strip().splitlines()[-1]}. What is trained is kept: the same "
                "command goes on from the last checkpoint"
            ) from error

    def _read_window(self, held: Any, first: int, chunks: int, room: dict[str, Any]) -> Iterator[DecodedSamples]:
        import ray.data
        from ray.data import ExecutionResources

        # Not range or from_arrow, which start tasks of their own outside of the trial's reservation, and wait for them.
        numbers = [{CHUNK_COLUMN: number} for number in range(first, first + chunks)]
        tasks = ray.data.from_items(numbers, override_num_blocks=chunks)
        context = tasks.context
        context.target_max_block_size = BLOCK_BYTES
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        context.execution_options.verbose_progress = False
        context.execution_options.resource_limits = ExecutionResources.for_limits(
            cpu=self.cpus, object_store_memory=self.store_bytes
        )
        read = tasks.map_batches(_ChunkTask(held), batch_size=1, num_cpus=1, **room)
        for block in read.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=1):
            failed = [message for message in block.pop(FAILED_COLUMN) if message]
            if failed:
                raise WorkError(failed[0])
            yield DecodedSamples(**block)


@dataclass(frozen=True)
class _SharedInputs:
    """The inputs of every task, stored once on each node."""

    reading: ReadContext
    order: PairOrder
    share: WorkerShare


@dataclass(frozen=True)
class _ChunkTask:
    held: Any

    def __call__(self, row: dict[str, NDArray[np.int64]]) -> Iterator[dict[str, NDArray[Any]]]:
        reading, order, share = _fetch_inputs(self.held)
        chunk = order.chunk(*divmod(int(row[CHUNK_COLUMN][0]), order.chunks))
        number_N = share.of(chunk)
        if not len(number_N):
            return
        side, context = reading.rule.image_size, reading.rule.context
        try:
            content = ChunkBytes(reading, chunk, number_N)
            for part_N in split_chunk(number_N, side):
                yield _make_columns(read_part(reading, chunk, part_N, content))
        except WorkError as error:
            yield _make_columns(allocate_samples(1, side, context), str(error))


def _make_columns(read: DecodedSamples, failed: str = "") -> dict[str, NDArray[Any]]:
    return {**read._asdict(), FAILED_COLUMN: np.full(len(read.sample_N), failed)}


@lru_cache(maxsize=2)
def _fetch_inputs(held: Any) -> tuple[ReadContext, PairOrder, WorkerShare]:
    import ray

    inputs: _SharedInputs = ray.get(held)
    return inputs.reading, inputs.order, inputs.share


def build_trial_bundles(training: Mapping[str, float], reading_cpus: int) -> list[dict[str, float]]:
    """Return the reservation of a trial that reads by a `RayReader`: one bundle to train, one to read."""
    return [dict(training), {"CPU": float(reading_cpus)}]


def require_cpus(training: float, reading: int, there: float) -> None:
    """Raise InputError if a machine or cluster of `there` CPUs cannot train and read at once."""
    if training + reading > there:
        raise InputError(
            f"a training on {training:g} CPUs that reads through Ray Data on {reading} more needs "
            f"{training + reading:g}, and Ray has {there:g}. Give it more, train on fewer (`resources.cpus`) or "
            "read in the training's own process"
        )


def _choose_placement(cpus: int) -> dict[str, Any]:
    """Return task options: inside the trial's reservation, or none if nothing is reserved."""
    from ray.util.placement_group import get_current_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    ray: Any = importlib.import_module("ray")
    runtime = ray.get_runtime_context()
    mine = float(runtime.get_assigned_resources().get("CPU", 0)) if runtime.get_actor_id() else 0.0
    group = get_current_placement_group()
    if group is None:
        require_cpus(mine, cpus, float(ray.cluster_resources().get("CPU", 0)))
        return {}
    require_cpus(mine, cpus, sum(float(bundle.get("CPU", 0)) for bundle in group.bundle_specs))
    return {"scheduling_strategy": PlacementGroupSchedulingStrategy(group)}
