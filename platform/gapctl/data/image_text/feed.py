"""Feed batches of image-text pairs, in an order that is a pure function of the data, the seed and the position.

1. `build_pair_table` lists where the training's samples lie; `PairOrder` puts them in the order of each epoch.
2. `WorkerShare` selects this worker's samples: its slice of every batch.
3. A reader (`ThreadReader`, or `RayReader` on a cluster) turns them into arrays by a `ChunkReader`, in that order.
   A `PieceFetcher` brings it the bytes from object stores.
4. `PairFeed` cuts these into batches, counts, and stops if too many samples cannot be read.

`decode_manifest_rows` reads chosen rows instead, such as the gallery that `sample_gallery_rows` chooses for every trial
on a source, and `read_zero_shot_labels` reads their answers to questions.

Index letters: N samples, B samples of a worker's batch.
"""

import importlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gapctl.data.image_text.class_prompts import PromptSet, read_sample_labels
from gapctl.data.image_text.index import Sample
from gapctl.data.image_text.manifest import Manifest, build_pair_table
from gapctl.data.image_text.order import Chunk, PairOrder, WorkerShare, split_into_spans
from gapctl.data.image_text.pieces import (
    NODE_CACHE_BYTES,
    RELEASE_SECONDS,
    NodeWorkers,
    PieceFetcher,
    delete_task_cache,
    open_node_cache,
    open_task_cache,
)
from gapctl.data.image_text.read import (
    CaptionBatch,
    ChunkReader,
    FeedCounts,
    PairBatch,
    ReadContext,
    ReadOptions,
    ReadStatus,
    allocate_pair_batch,
    filter_pair_batch,
    join_pair_batches,
    split_pair_batch,
)
from gapctl.data.image_text.row_arrays import release_mapped_pages
from gapctl.data.image_text.shard_index import parse_metadata
from gapctl.data.image_text.storage import ShardReader
from gapctl.data.rng import Purpose, make_generator
from gapctl.errors import InputError, WorkError

if TYPE_CHECKING:
    from ray import ObjectRef

MAX_BAD_SHARE: Final = 0.05
MIN_JUDGED_SAMPLES: Final = 1_000
"""Samples before the share of bad ones is judged, or an epoch if that is less."""
MAX_NAMED: Final = 5
PART_SAMPLES: Final = 128
PARTS_AHEAD: Final = 2
GALLERY_SEED: Final = 2404_07983
PART_BYTES: Final = 1 << 24
"""Bytes of pixels that are decoded together; several parts wait in memory."""
MIN_PART_SAMPLES: Final = 16
AHEAD_BYTES: Final = NODE_CACHE_BYTES // 2
"""Most bytes of chunks that workers of one node read ahead, but for one chunk: what is shared must fit its folder."""
RELEASED_SAMPLES: Final = 1 << 17
"""Samples of the training after which the memory of what was read of a mapped table is given back."""

CallResult = TypeVar("CallResult")
TaskInputs = tuple[ReadContext, PairOrder, WorkerShare, str]
WINDOW_CHUNKS: Final = 1_024
"""Chunks of one Ray Data plan, about two million samples; an endless training makes one plan after the other."""
BLOCK_BYTES: Final = 1 << 25
STORE_BYTES: Final = 1 << 30
CHUNK_COLUMN: Final = "chunk"
FAILED_COLUMN: Final = "failed"
"""The column that returns a task's WorkError; raised, Ray would wrap it in advice about transient failures."""
NODE_COLUMN: Final = "node"
"""The column that returns the Ray node of a task that shares pieces there."""


class PairReader(Protocol):
    """Reads samples in order; `ThreadReader` and `RayReader` return the same."""

    def read(self, reading: ReadContext, order: PairOrder, share: WorkerShare) -> Iterator[PairBatch]:
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
        self.order = PairOrder(split_into_spans(table.edges), seed)
        self.counts = counts or FeedCounts()
        self._reading = ReadContext(table, rule, seed)
        self._blank_L = None if rule.tokenizer is None else rule.get_tokenizer()([""])[0]
        whole = None if stop is None else position + max(0, stop - position) // batch_size * batch_size
        self._share = WorkerShare(position, batch_size, rank, world, whole)
        self._reader = reader or ThreadReader()
        self._limit = bad_share
        self._manifest = manifest
        self._bad: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[tuple[PairBatch, int]]:
        """Yield batches and positions; each iterator begins at the feed's position."""
        position, held = self._share.origin, list[PairBatch]()
        parts = self._reader.read(self._reading, self.order, self._share)
        began = time.perf_counter()
        while position != self._share.stop:
            asked = time.perf_counter()
            while sum(len(part.sample_B) for part in held) < self._share.samples:
                held.append(next(parts))
            read, rest = split_pair_batch(join_pair_batches(held), self._share.samples)
            held = [rest] if len(rest.sample_B) else []
            now = time.perf_counter()
            self.counts.waited_s += now - asked
            self.counts.total_s += now - began
            began = now
            self._count_samples(read)
            if position // RELEASED_SAMPLES != (position + self._share.batch) // RELEASED_SAMPLES:
                release_mapped_pages(self._reading.table.whole_N2)
            position += self._share.batch
            yield read, position

    def _count_samples(self, read: PairBatch) -> None:
        self.counts.add(read, self._blank_L)
        wrong = read.bad_B != ReadStatus.SOUND
        if not wrong.any():
            return
        self._bad += list(zip(read.planned_B[wrong].tolist(), read.bad_B[wrong].tolist(), strict=True))
        del self._bad[MAX_NAMED:]
        counts = self.counts
        judged = counts.samples >= min(MIN_JUDGED_SAMPLES, self.order.samples)
        if judged and counts.substituted_share > self._limit:
            raise WorkError(self._explain_failure())

    def _explain_failure(self) -> str:
        counts = self.counts
        keys = self._manifest.take(np.array([row for row, _ in self._bad]), "shard", "key").iter_rows()
        named = ", ".join(
            f"{shard} {key} ({ReadStatus(bad).words})" for (shard, key), (_, bad) in zip(keys, self._bad, strict=True)
        )
        reasons = ", ".join(f"{words}: {count:,}" for words, count in counts.substituted.items())
        return (
            f"{counts.substituted_share:.1%} of {counts.samples:,} samples could not be read, more than the "
            f"{self._limit:.1%} that are allowed ({reasons}). The first: {named}. `gapctl data verify` finds what "
            "cannot be decoded, and `gapctl data captions` what a treatment needs"
        )


@dataclass(frozen=True)
class ThreadReader:
    """Decodes in `threads` threads, each up to `ahead` parts ahead of the training; others fetch the next chunks.

    Workers of one training on one `node` share what they fetch from object stores.
    """

    threads: int = 1
    ahead: int = 2
    node: NodeWorkers | None = None

    def read(self, reading: ReadContext, order: PairOrder, share: WorkerShare) -> Iterator[PairBatch]:
        """Yield a worker's samples in their order, from the share's origin on.

        Raise WorkError for missing shards.
        """

        def decode(chunk: Future[ChunkReader], part_N: NDArray[np.int64]) -> PairBatch:
            return chunk.result().read_part(part_N)

        with PieceFetcher(open_node_cache(self.node)) as fetcher:
            opener = ThreadPoolExecutor(1)
            try:
                yield from run_in_order(
                    (
                        partial(decode, chunk, part_N)
                        for chunk, number_N in self._prefetch_chunks(opener, fetcher, reading, order, share)
                        for part_N in split_chunk(number_N, reading.rule.image_size)
                    ),
                    self.threads,
                    self.threads * self.ahead,
                )
            finally:
                opener.shutdown(cancel_futures=True)

    def _prefetch_chunks(
        self,
        opener: ThreadPoolExecutor,
        fetcher: PieceFetcher,
        reading: ReadContext,
        order: PairOrder,
        share: WorkerShare,
    ) -> Iterator[tuple[Future[ChunkReader], NDArray[np.int64]]]:
        """Yield chunks whose bytes are being read, as many ahead of the one being decoded as the node has workers.

        So each worker has about as many samples ahead as one alone.
        """
        ranks = (share.rank,) if self.node is None else self.node.ranks
        ahead: deque[tuple[Future[ChunkReader], NDArray[np.int64], int]] = deque()
        for chunk in order.iterate_chunks(share.origin):
            number_N = share.of(chunk)
            if len(number_N):
                others = [share._replace(rank=rank).of(chunk) for rank in ranks if rank != share.rank]
                opened = opener.submit(ChunkReader, reading, chunk, number_N, fetcher, others)
                ahead.append((opened, number_N, int(reading.table.whole_N2[chunk.place_N, 1].sum())))
            while len(ahead) > len(ranks) or (len(ahead) > 1 and sum(size for *_, size in ahead) > AHEAD_BYTES):
                yield ahead.popleft()[:2]
            if share.stop is not None and chunk.stop >= share.stop:
                break
        yield from (each[:2] for each in ahead)


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


def split_chunk(number_N: NDArray[np.int64], side: int) -> list[NDArray[np.int64]]:
    """Return parts of a chunk that are decoded together."""
    samples = max(MIN_PART_SAMPLES, PART_BYTES // (3 * side * side))
    return [number_N[first : first + samples] for first in range(0, len(number_N), samples)]


@dataclass(frozen=True)
class RayReader:
    """Reads in concurrent Ray tasks, each on one CPU.

    Results ahead of the training take up to `store_bytes` of Ray's store. Tasks run inside the trial's reservation, or
    beside it if that is not `reserved` for them. The workers of one trial fill theirs, and a sweep then starts no more
    trials than there are CPUs for. Workers of one training have one `session`, a name by which those of their tasks
    that run on one node share what they fetch from object stores, until the last of them has read all that it wants.
    """

    cpus: int = 1
    store_bytes: int = STORE_BYTES
    reserved: bool = True
    session: str = ""

    def read(self, reading: ReadContext, order: PairOrder, share: WorkerShare) -> Iterator[PairBatch]:
        """Yield a worker's samples in their order, from the share's origin on.

        Raise WorkError for missing shards and if Ray loses a task for good, InputError if Ray has no CPU for reading.
        """
        import ray
        from ray.exceptions import RayError

        room = _choose_placement(self.cpus) if self.reserved else {}
        session = self.session if any("://" in address for address in reading.table.addresses) else ""
        held = ray.put((reading, order, share, session))  # once on each node
        first = order.find_chunk(share.origin)
        number = first.epoch * order.chunks + first.number
        last, nodes = None, set[str]()
        if share.stop is not None:
            end = order.find_chunk(max(share.origin, share.stop - 1))
            last = end.epoch * order.chunks + end.number + 1
        try:
            while last is None or number < last:
                chunks = WINDOW_CHUNKS if last is None else min(WINDOW_CHUNKS, last - number)
                yield from self._read_window(held, number, chunks, room, nodes)
                number += chunks
        except RayError as error:
            raise WorkError(
                f"a task of Ray Data failed: {str(error).strip().splitlines()[-1]}. What is trained is kept: the same "
                "command goes on from the last checkpoint"
            ) from error
        finally:
            if session and nodes:
                _delete_pieces_on_nodes(session, nodes)

    def _read_window(
        self, held: "ObjectRef[TaskInputs]", first: int, chunks: int, room: dict[str, Any], nodes: set[str]
    ) -> Iterator[PairBatch]:
        """Yield what the tasks of these chunks have read, and add the Ray nodes on which they did."""
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
            nodes.update(block.pop(NODE_COLUMN))
            failed = [message for message in block.pop(FAILED_COLUMN) if message]
            if failed:
                raise WorkError(failed[0])
            yield PairBatch(**block)


@dataclass(frozen=True)
class _ChunkTask:
    held: "ObjectRef[TaskInputs]"

    def __call__(self, row: dict[str, NDArray[np.int64]]) -> Iterator[dict[str, NDArray[np.generic]]]:
        import ray

        reading, order, share, session = _fetch_inputs(self.held)
        node = ray.get_runtime_context().get_node_id() if session else ""
        chunk = order.chunk(*divmod(int(row[CHUNK_COLUMN][0]), order.chunks))
        number_N = share.of(chunk)
        if not len(number_N):
            return
        try:
            ranks = range(share.world) if session else [share.rank]
            others = [share._replace(rank=rank).of(chunk) for rank in ranks if rank != share.rank]
            with PieceFetcher(open_task_cache(session)) as fetcher:
                reader = ChunkReader(reading, chunk, number_N, fetcher, others)
                for part_N in split_chunk(number_N, reading.rule.image_size):
                    yield _make_columns(reader.read_part(part_N), node)
        except WorkError as error:
            yield _make_columns(allocate_pair_batch(1, reading.rule), node, str(error))


def _make_columns(read: PairBatch, node: str, failed: str = "") -> dict[str, NDArray[np.generic]]:
    samples = len(read.sample_B)
    return {**read._asdict(), FAILED_COLUMN: np.full(samples, failed), NODE_COLUMN: np.full(samples, node)}


def _delete_pieces_on_nodes(session: str, nodes: Iterable[str]) -> None:
    """Delete what tasks of a session share, on all nodes where they ran; the workers that still read keep theirs.

    A node that does not answer in time keeps its pieces until another training reads there.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if not ray.is_initialized():  # the session of Ray has ended, and a call would begin another
        return
    delete = ray.remote(num_cpus=0, max_retries=0)(delete_task_cache)
    with suppress(RayError):
        asked = [
            delete.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(session)
            for node in sorted(nodes)
        ]
        ray.wait(asked, num_returns=len(asked), timeout=2 * RELEASE_SECONDS)


@lru_cache(maxsize=2)
def _fetch_inputs(held: "ObjectRef[TaskInputs]") -> TaskInputs:
    import ray

    inputs: TaskInputs = ray.get(held)
    return inputs


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


class UnreadableSample(NamedTuple):
    """A sample that could not be read, and the reason."""

    row: int
    shard: str
    key: str
    why: str


class GalleryPart(NamedTuple):
    """Neighbouring rows: the readable ones as a batch without substitutes, and the unreadable ones among them.

    `captions` are all captions of the readable ones, where they were asked for; `pairs` have one of each image.
    """

    pairs: PairBatch
    captions: CaptionBatch | None
    left_out: list[UnreadableSample]


def decode_manifest_rows(
    manifest: Manifest,
    rows: ArrayLike,
    rule: ReadOptions,
    *,
    seed: int,
    epoch: int = 0,
    augment: bool = False,
    threads: int = 1,
    all_captions: bool = False,
) -> Iterator[GalleryPart]:
    """Yield the samples of these rows in the given order, each once, treated by the rule.

    Without `augment` a picture's centre is cropped, as in open_clip's evaluation. An image that has several captions is
    read with one that is drawn, as in training, and with `all_captions` with each of them as well. Raise InputError for
    rows with a problem in the manifest, WorkError for missing shards.
    """
    row_N = np.asarray(rows, dtype=np.int64)
    reading = ReadContext(build_pair_table(manifest, row_N), rule, seed, augment)
    place_N = np.searchsorted(reading.table.row_N, row_N)
    chunks = (
        Chunk(epoch, 0, first, place_N[first : first + PART_SAMPLES]) for first in range(0, len(place_N), PART_SAMPLES)
    )

    def read_chunk(chunk: Chunk) -> tuple[PairBatch, CaptionBatch | None]:
        number_N = np.arange(len(chunk.place_N))
        with PieceFetcher() as fetcher:
            reader = ChunkReader(reading, chunk, number_N, fetcher)
            if all_captions:
                return reader.read_all_captions(number_N)
            return reader.read_without_substitutes(number_N), None

    calls = (partial(read_chunk, chunk) for chunk in chunks)
    for read, captions in run_in_order(calls, threads, PARTS_AHEAD * threads):
        sound_N = read.bad_B == ReadStatus.SOUND
        bad = filter_pair_batch(read, ~sound_N)
        named = manifest.take(bad.planned_B, "shard", "key").iter_rows() if len(bad.planned_B) else ()
        unreadable = [
            UnreadableSample(int(row), shard, key, ReadStatus(why).words)
            for row, why, (shard, key) in zip(bad.planned_B, bad.bad_B, named, strict=True)
        ]
        yield GalleryPart(filter_pair_batch(read, sound_N), captions, unreadable)


def sample_gallery_rows(row_N: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return `size` of these rows in rising order, or all if there are fewer: always the same ones."""
    order_N = make_generator(Purpose.GALLERY, GALLERY_SEED).permutation(len(row_N))
    chosen_S: NDArray[np.int64] = np.sort(row_N[order_N[:size]])
    return chosen_S


def read_zero_shot_labels(
    manifest: Manifest, row_N: NDArray[np.int64], questions: Mapping[str, PromptSet]
) -> dict[str, NDArray[np.int64]]:
    """Return each row's class by question. Raise InputError for a sample without a class of a question."""
    samples = []
    columns = manifest.take(row_N, "shard", "key", "json_offset", "json_bytes").iter_rows() if questions else ()
    try:
        with ShardReader() as opened:
            for shard, key, start, size in columns:
                samples.append(Sample(key, None, None, parse_metadata(opened.read(shard, start, size))))
    except OSError as error:
        raise WorkError(f"held-out pairs cannot be read ({error}); `gapctl data verify` says what is wrong") from error
    return {
        key: read_sample_labels("data.classes", samples, key, tuple(question.prompts)).label_N
        for key, question in questions.items()
    }
