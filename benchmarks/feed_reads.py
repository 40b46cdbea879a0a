"""Samples a second of each of several workers on one node, whose shards lie in a store that answers after 30 ms.

    python benchmarks/feed_reads.py [--workers 1 2 4 8] [--mode paced] [--pace 400] [--stretch 10] [--json FILE]

Each worker is a process; all take their part of each batch together, as a training's do. One run reads an epoch of the
same number of samples for each worker. `--mode` says what a worker does with a sample:

    paced     nothing, but takes so many a second as a GPU would (`--pace`): 8 workers need few CPUs
    bytes     nothing, as fast as it can: what the machine can move, which 8 workers on 2 cores share
    decoded   decodes, crops and tokenises it, as fast as it can: bound by the CPUs

`--stretch 10` makes the store ten times as slow, and the workers, and gives rates as if it had not: so workers find ten
times the CPU, as on a node with many cores, and what is left is the waiting for requests.

The store gives the bytes of one made shard for every address, out of the page cache. Requests and bytes are those that
it was asked for by all workers, the bytes beside those of the samples that were trained on.
"""

import argparse
import io
import tarfile
import tempfile
import threading
import time
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import ClassVar, NamedTuple
from unittest.mock import patch

import fsspec
import numpy as np
import polars as pl
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from gapctl.data.image_text.feed import PairFeed, ThreadReader
from gapctl.data.image_text.index import build_manifest
from gapctl.data.image_text.manifest import Manifest
from gapctl.data.image_text.pieces import NodeWorkers, find_shared_folder
from gapctl.data.image_text.read import ChunkReader, PairBatch, ReadOptions, ReadStatus
from gapctl.data.image_text.storage import list_shards
from gapctl.data.parallel_shards import Workers
from row import Row, report

PER_SHARD, BATCH, SIZE = 1_024, 1_024, 224
PICTURES, SIDE, QUALITY = 32, 256, 90
WANTED_SHARE, MOST_BYTES = 0.8, 1.1
SECONDS = 0.03
LONGEST_SECONDS = 600


class LateStore(LocalFileSystem):  # type: ignore[misc]
    """`late://NUMBER/PATH`: the file at that path, after so many seconds; `sizes` are those of all answers."""

    protocol: ClassVar[str] = "late"
    sizes: ClassVar[list[int]] = []
    seconds: ClassVar[float] = SECONDS
    lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("late://").partition("/")[2]

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: object) -> bytes:
        """Return the bytes of a range, late."""
        time.sleep(self.seconds)
        content = bytes(super().cat_file(path, start=start, end=end, **options))
        with self.lock:
            self.sizes.append(len(content))
        return content


class WorkerRun(NamedTuple):
    """What one worker read after its first batch, and what its process asked of the store."""

    samples: int
    seconds: float
    requests: int
    bytes: int


def make_shard(path: Path) -> None:
    """A shard of pictures of about 30 kB, each of which returns under other names."""
    draws = np.random.Generator(np.random.Philox(0))
    pictures = []
    for _ in range(PICTURES):
        coarse = draws.integers(0, 256, size=(SIDE // 4, SIDE // 4, 3)).astype(np.uint8)
        buffer = io.BytesIO()
        picture = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        picture.save(buffer, "JPEG", quality=QUALITY)
        pictures.append(buffer.getvalue())
    with tarfile.open(path, "w") as archive:
        for number in range(PER_SHARD):
            for ending, content in (("jpg", pictures[number % PICTURES]), ("txt", b"a man near a red bicycle")):
                info = tarfile.TarInfo(f"{number:06d}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def spread_manifest(one: Manifest, shards: int) -> Manifest:
    """Return a manifest of so many shards at addresses, each of which has the content of the one shard."""
    (shard,) = one.shards
    addresses = [f"late://{number}{shard.address}" for number in range(shards)]
    samples = pl.concat([one.samples.with_columns(shard=pl.lit(address)) for address in addresses])
    return Manifest([replace(shard, address=address) for address in addresses], samples)


class Meeting(NamedTuple):
    """Where the workers of a run meet: the shard, the folder that they share, a barrier, and where they tell."""

    shard: Path
    folder: Path | None
    step: Barrier
    told: "Queue[WorkerRun]"


def run_worker(rank: int, world: int, meeting: Meeting, options: argparse.Namespace) -> None:
    """Read an epoch in step with the other workers, and tell what was read."""
    fsspec.register_implementation("late", LateStore, clobber=True)
    LateStore.seconds = SECONDS * options.stretch
    shard, folder, step, told = meeting
    if options.mode != "decoded":
        patch.object(ChunkReader, "_read_sample", skip_decoding).start()
    manifest = spread_manifest(build_manifest(list_shards([str(shard)]), Workers(1)), options.shards * world)
    kept_N = np.random.default_rng(0).random(len(manifest.samples)) >= options.held_out
    rows, slice_samples = np.flatnonzero(kept_N), BATCH // world
    node = None if folder is None or world == 1 else NodeWorkers(tuple(range(world)), folder)
    reader, stop = ThreadReader(node=node), len(rows) // BATCH * BATCH
    feed = iter(PairFeed(manifest, rows, ReadOptions(SIZE), 0, BATCH, rank=rank, world=world, reader=reader, stop=stop))
    step.wait(LONGEST_SECONDS)
    next(feed)
    step.wait(LONGEST_SECONDS)
    began = due = time.perf_counter()
    samples = 0
    for batch, _ in feed:
        samples += len(batch.sample_B)
        if options.mode == "paced":
            due = max(due, time.perf_counter() - 1.0) + slice_samples / options.pace * options.stretch
            time.sleep(max(0.0, due - time.perf_counter()))
        step.wait(LONGEST_SECONDS)
    seconds = (time.perf_counter() - began) / options.stretch
    told.put(WorkerRun(samples, seconds, len(LateStore.sizes), sum(LateStore.sizes)))


def skip_decoding(reader: ChunkReader, number: int, box: object, out: PairBatch, slot: int) -> ReadStatus:
    """Take a sample's bytes and nothing else."""
    assert reader.get_bytes(number) is not None
    out.sample_B[slot] = reader._reading.table.row_N[reader._chunk.place_N[number]]
    return ReadStatus.SOUND


def run_workers(world: int, shard: Path, options: argparse.Namespace, *, shared: bool = True) -> list[WorkerRun]:
    """Read an epoch with so many processes."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["gapctl.data.image_text.feed", "gapctl.data.image_text.index"])
    parent, told = find_shared_folder(), context.Queue()
    folder = parent / f"{time.monotonic_ns():016x}" if parent is not None and shared else None
    meeting = Meeting(shard, folder, context.Barrier(world), told)
    processes = [context.Process(target=run_worker, args=(rank, world, meeting, options)) for rank in range(world)]
    for process in processes:
        process.start()
    found = [told.get(timeout=LONGEST_SECONDS) for _ in processes]
    for process in processes:
        process.join()
    return found


def main() -> None:
    """Prints the figures, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--mode", choices=["paced", "bytes", "decoded"], default="paced")
    parser.add_argument("--pace", type=float, default=400.0)
    parser.add_argument("--stretch", type=float, default=1.0)
    parser.add_argument("--held-out", type=float, default=0.0)
    parser.add_argument("--shards", type=int, default=6, help="shards of 1,024 samples for each worker")
    parser.add_argument("--apart", action="store_true", help="workers share nothing, as on nodes of their own")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows, alone = list[Row](), 0.0
    with tempfile.TemporaryDirectory() as scratch:
        shard = Path(scratch) / "00000.tar"
        make_shard(shard)
        for world in options.workers:
            found = run_workers(world, shard, options, shared=not options.apart)
            rate = min(each.samples / each.seconds for each in found)
            alone = alone or rate
            trained = options.shards * world * (1 - options.held_out)
            share = sum(each.bytes for each in found) / (trained * shard.stat().st_size)
            asked = sum(each.requests for each in found)
            print(
                f"{options.mode}, {world} workers: {rate:,.0f} samples/s each ({rate / alone:.2f} of the first), "
                f"{rate * world:,.0f} in all; {asked:,} requests, {share:.2f} times the samples' bytes",
                flush=True,
            )
            what, why = f"a store {SECONDS * 1000:.0f} ms away, {world} workers, {options.mode}", "requests, then CPUs"
            rows.append(Row(f"{what}, each to the first", "", rate / alone, why, target=WANTED_SHARE))
            rows.append(Row(f"{what}, bytes read", "x", share, why, target=MOST_BYTES, better="lower"))
    report(rows, options.json)


if __name__ == "__main__":
    main()
