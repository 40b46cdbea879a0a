"""Pieces of shards in an object store: the workers of a node fetch each once, whatever happens to one of them."""

import fcntl
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from counting_store import CountingStore
from gapctl.config.trial import PairCaptions
from gapctl.data.image_text import feed as feeds
from gapctl.data.image_text import order, pieces
from gapctl.data.image_text.feed import PairFeed, ThreadReader
from gapctl.data.image_text.index import build_manifest
from gapctl.data.image_text.manifest import Manifest, build_pair_table
from gapctl.data.image_text.pieces import (
    NodeCache,
    NodeWorkers,
    Piece,
    delete_task_cache,
    find_shared_folder,
    plan_pieces,
    request_piece,
)
from gapctl.data.image_text.read import PairBatch, ReadOptions
from gapctl.data.image_text.storage import ShardReader, list_shards
from gapctl.data.parallel_shards import Workers
from pair_shards import write_pairs

RULE = ReadOptions(16, PairCaptions(keep="half"))
ROWS, STOP = range(60), 120
Request = tuple[str, int, int]
Batches = list[tuple[PairBatch, int]]


@pytest.fixture
def near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Sixty samples on this machine, in chunks of about ten, of which every third was left out of the rows."""
    monkeypatch.setattr(order, "SPAN_SAMPLES", 4)
    monkeypatch.setattr(order, "CHUNK_SAMPLES", 10)
    (tmp_path / "shards").mkdir()
    for number in range(3):
        write_pairs(tmp_path / "shards" / f"{number}.tar", range(20 * number, 20 * number + 20))
    return build_manifest(list_shards([str(tmp_path / "shards")]), Workers(1))


@pytest.fixture
def far(near: Manifest) -> Manifest:
    """The same samples at addresses, as in an object store."""
    shards = [replace(shard, address=f"file://{shard.address}") for shard in near.shards]
    return Manifest(shards, near.samples.with_columns(shard="file://" + pl.col("shard")))


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """All requests to the store: address, first byte, bytes."""
    sent = list[Request]()
    read = ShardReader.read

    def count(opened: ShardReader, address: str, start: int, size: int) -> bytes:
        sent.append((address, start, size))
        time.sleep(0.002)  # so that requests of several workers meet
        return read(opened, address, start, size)

    monkeypatch.setattr(ShardReader, "read", count)
    return sent


def worker(manifest: Manifest, rank: int, world: int, folder: Path | None, batch: int = 8) -> PairFeed:
    node = None if folder is None else NodeWorkers(tuple(range(world)), folder)
    return PairFeed(manifest, ROWS, RULE, 1, batch, rank=rank, world=world, stop=STOP, reader=ThreadReader(node=node))


def same(ours: PairBatch, theirs: PairBatch) -> bool:
    return all(np.array_equal(mine, its) for mine, its in zip(ours, theirs, strict=True))


def assert_batches_are_those_of_a_disk(
    near: Manifest, found: list[list[tuple[PairBatch, int]]], batch: int = 8
) -> None:
    """Compare what each worker of a node read with what it reads by itself from this machine's files."""
    for rank, mine in enumerate(found):
        expected = list(worker(near, rank, len(found), None, batch))
        assert [position for _, position in mine] == [position for _, position in expected]
        assert all(same(read, planned) for (read, _), (planned, _) in zip(mine, expected, strict=True))


def in_step(manifest: Manifest, world: int, folder: Path, batch: int = 8) -> list[Batches]:
    """Read with all workers of a node, a batch at a time."""
    steps = list(zip(*(worker(manifest, rank, world, folder, batch) for rank in range(world)), strict=True))
    return [list(each) for each in zip(*steps, strict=True)]


@pytest.mark.parametrize(("world", "batch"), [(2, 8), (4, 8), (8, 8), (2, 60)])
def test_workers_of_a_node_fetch_each_byte_once_and_get_their_own_batches(
    near: Manifest, far: Manifest, requests: list[Request], tmp_path: Path, world: int, batch: int
) -> None:
    assert list(worker(far, 0, 1, None, batch))
    alone = sorted(requests)
    requests.clear()
    found = in_step(far, world, tmp_path / "node" / "one", batch)
    together = sorted(requests)

    assert_batches_are_those_of_a_disk(near, found, batch)
    assert together == alone
    assert not list((tmp_path / "node").iterdir())


def test_workers_that_are_far_apart_share_as_well(
    near: Manifest, far: Manifest, requests: list[Request], tmp_path: Path
) -> None:
    assert list(worker(far, 0, 1, None, 6))
    alone = sorted(requests)
    requests.clear()
    others = [iter(worker(far, rank, 3, tmp_path / "node" / "one", 6)) for rank in (1, 2)]
    begun = [[next(other)] for other in others]
    first = list(worker(far, 0, 3, tmp_path / "node" / "one", 6))
    rest = [[*one, *other] for one, other in zip(begun, others, strict=True)]

    assert sorted(requests) == alone
    assert_batches_are_those_of_a_disk(near, [first, *rest], 6)


def test_nodes_do_not_wait_for_each_other(near: Manifest, far: Manifest, tmp_path: Path) -> None:
    folders = [tmp_path / "first" / "one", tmp_path / "second" / "one"]
    nodes = [NodeWorkers((0, 1), folders[0]), NodeWorkers((2, 3), folders[1])]
    found = [
        list(PairFeed(far, ROWS, RULE, 1, 8, rank=rank, world=4, stop=STOP, reader=ThreadReader(node=nodes[rank // 2])))
        for rank in range(4)
    ]

    assert_batches_are_those_of_a_disk(near, found)


@pytest.mark.parametrize("limit", [0, 20_000])
def test_a_small_folder_costs_requests_alone(
    near: Manifest, far: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    held = list[int]()
    store = NodeCache._store

    def watch(cache: NodeCache, *arguments: Any) -> None:
        store(cache, *arguments)
        held.append(sum(size_of(path) for path in cache.folder.iterdir() if not path.suffix))

    monkeypatch.setattr(NodeCache, "_store", watch)
    monkeypatch.setattr(feeds, "open_node_cache", lambda node: node and NodeCache(node.folder, limit))

    assert_batches_are_those_of_a_disk(near, in_step(far, 2, tmp_path / "node" / "one"))
    assert held
    assert max(held) <= limit


def test_a_piece_that_is_finished_while_room_is_looked_for_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = NodeCache(tmp_path / "node" / "one", limit=15)
    other, mine = (cache.folder / f"{name}.part" for name in ("other", "mine"))
    other.write_bytes(bytes(10))
    look = Path.open

    def finish_meanwhile(path: Path, *how: Any, **options: Any) -> Any:
        if path == other and other.exists():
            other.rename(other.with_suffix(""))
        return look(path, *how, **options)

    with mine.open("w+b", buffering=0) as file:
        monkeypatch.setattr(Path, "open", finish_meanwhile)
        assert cache._reserve_room(file, 10)

    assert not other.with_suffix("").exists(), "it was deleted for the room"
    assert (cache.folder / "alive").exists(), "whoever comes later sees that the folder is in use"
    cache.close()
    assert not cache.folder.exists()


def test_what_finds_no_room_is_requested_once_by_each_worker(
    far: Manifest, requests: list[Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(worker(far, 0, 1, None))
    alone = Counter(requests)
    requests.clear()
    monkeypatch.setattr(feeds, "open_node_cache", lambda node: node and NodeCache(node.folder, 0))
    in_step(far, 2, tmp_path / "node" / "one")

    assert Counter(requests).keys() == alone.keys()
    assert all(times <= 2 * alone[request] for request, times in Counter(requests).items())


def test_room_is_made_of_finished_pieces_and_of_what_a_killed_worker_left(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path / "node" / "one", limit=25)
    finished, left, fetched, mine = (
        cache.folder / name for name in ("finished", "left.part", "fetched.part", "mine.part")
    )
    for path in (finished, left, fetched):
        path.write_bytes(bytes(10))
    with fetched.open("r+b") as other, mine.open("w+b", buffering=0) as file:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert cache._reserve_room(file, 15)
        assert fetched.exists(), "another worker is fetching it"
        assert not left.exists()
        assert not finished.exists()
        assert not cache._reserve_room(file, 16), "with what the other worker is fetching it would be too much"

    assert (cache.folder / "alive").exists(), "whoever comes later sees that the folder is in use"
    cache.close()
    assert not cache.folder.exists()


def test_no_piece_is_deleted_for_one_that_has_no_room_all_the_same(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path / "node" / "one", limit=100)
    finished, fetched = cache.folder / "finished", cache.folder / "fetched.part"
    finished.write_bytes(bytes(30))
    fetched.write_bytes(bytes(90))
    with fetched.open("r+b") as other, (cache.folder / "mine.part").open("w+b", buffering=0) as file:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not cache._reserve_room(file, 30)

    assert finished.exists()
    cache.close()


def test_a_piece_that_another_worker_fetches_anew_stays_that_workers(
    far: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, piece = NodeCache(tmp_path / "node" / "one"), a_piece(far)
    finished = cache._find_path(piece)
    store = NodeCache._store

    def read_and_fetch_anew(cache: NodeCache, *arguments: Any) -> None:
        store(cache, *arguments)
        finished.unlink()
        finished.with_suffix(".part").write_bytes(b"begun by another worker")

    monkeypatch.setattr(NodeCache, "_store", read_and_fetch_anew)
    cache.fetch(piece)

    assert finished.with_suffix(".part").read_bytes() == b"begun by another worker"


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_a_folder_that_disappears_costs_requests_alone(near: Manifest, far: Manifest, tmp_path: Path) -> None:
    folder = tmp_path / "node" / "one"
    shares = [iter(worker(far, rank, 2, folder)) for rank in range(2)]
    found = [list(islice(share, 3)) for share in shares]
    folder.rename(tmp_path / "gone")
    for mine, share in zip(found, shares, strict=True):
        mine += share

    assert_batches_are_those_of_a_disk(near, found)


def a_piece(manifest: Manifest, readers: int = 2) -> Piece:
    table = build_pair_table(manifest, ROWS)
    return next(iter(plan_pieces(table, np.arange(5))))._replace(readers=readers)


FETCH_FOR_EVER = """
import sys, time
from pathlib import Path
from gapctl.data.image_text.pieces import NodeCache, Piece

def never(cache, file, content, path):
    file.write(content[: len(content) // 2])
    file.flush()
    print("begun", flush=True)
    time.sleep(600)

NodeCache._store = never
NodeCache(Path(sys.argv[1])).fetch(Piece([], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), readers=2))
"""


def test_nobody_waits_for_a_worker_that_was_killed(far: Manifest, tmp_path: Path) -> None:
    folder, piece = tmp_path / "node" / "one", a_piece(far)
    command = [sys.executable, "-c", FETCH_FOR_EVER, str(folder), piece.address, str(piece.start), str(piece.size)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    cache = NodeCache(folder)
    cache.fetch(piece)
    assert [path.suffix for path in folder.iterdir() if path.name.startswith(cache._find_path(piece).name)] == [".part"]
    process.kill()
    process.communicate()

    assert cache.read(piece, [(piece.start + 3, 100)]) == [request_piece(piece)[3:103]]
    cache.close()
    assert not folder.exists()


def test_nobody_waits_long_for_a_worker_that_is_frozen(
    far: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PATIENCE_SECONDS", 0.05)
    cache, piece = NodeCache(tmp_path / "node" / "one"), a_piece(far)
    unfinished = cache._find_path(piece).with_suffix(".part")
    with unfinished.open("wb") as frozen:
        frozen.write(b"half")
        fcntl.flock(frozen, fcntl.LOCK_EX)

        assert cache.read(piece, [(piece.start, 50)]) == [request_piece(piece)[:50]]


def test_half_a_piece_is_never_read(far: Manifest, tmp_path: Path) -> None:
    cache, piece = NodeCache(tmp_path / "node" / "one"), a_piece(far)
    path, content = cache._find_path(piece), request_piece(piece)
    path.with_suffix(".part").write_bytes(bytes(2 * piece.size))

    assert cache.read(piece, [(piece.start + 10, piece.size - 10)]) == [content[10:]]
    assert path.read_bytes() == content


def test_the_last_reader_deletes_a_piece(far: Manifest, tmp_path: Path, requests: list[Request]) -> None:
    caches, piece = [NodeCache(tmp_path / "node" / "one") for _ in range(3)], a_piece(far, readers=3)
    for number, cache in enumerate(caches):
        assert cache._find_path(piece).exists() == (number > 0)
        cache.read(piece, [(piece.start, 1)])

    assert len(requests) == 1
    assert {path.name for path in caches[0].folder.iterdir()} == {"alive", "room"}


def test_folders_of_trainings_that_ended_are_deleted_and_those_of_others_stay(tmp_path: Path) -> None:
    for name in ("killed", "living", "recent"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "alive").touch()
        (tmp_path / name / "piece").write_bytes(b"bytes")
        if name != "recent":  # tasks of Ray Data come and go
            os.utime(tmp_path / name / "alive", (0, 0))
    with (tmp_path / "living" / "alive").open() as alive:
        fcntl.flock(alive, fcntl.LOCK_SH)
        cache = NodeCache(tmp_path / "new")

        assert {path.name for path in tmp_path.iterdir()} == {"living", "new", "recent"}
        assert (tmp_path / "living" / "piece").exists()
    cache.close()
    assert not (tmp_path / "new").exists()


def test_the_end_of_a_session_deletes_its_folder_also_where_its_pieces_took_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.setattr(pieces, "SHARED_PARENTS", (str(first), str(second)))
    monkeypatch.setattr(pieces, "RELEASE_SECONDS", 0.1)
    used = NodeCache(second / f"gapctl-{os.getuid()}" / "session", keeps=True)

    delete_task_cache("session")
    assert used.folder.exists()
    used.close()
    delete_task_cache("session")
    assert not used.folder.exists()


def test_a_folder_that_others_could_write_to_is_not_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "SHARED_PARENTS", (str(tmp_path),))
    monkeypatch.setattr(pieces, "NODE_CACHE_BYTES", 1)
    folder = tmp_path / f"gapctl-{os.getuid()}"
    assert find_shared_folder() == folder
    folder.chmod(0o777)
    assert find_shared_folder() is None
    folder.rmdir()
    folder.symlink_to(tmp_path)
    assert find_shared_folder() is None
    monkeypatch.setattr(pieces, "NODE_CACHE_BYTES", 1 << 60)
    folder.unlink()
    assert find_shared_folder() is None


def test_several_requests_are_under_way(near: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "REMOTE_READ_BYTES", 4_000)
    for shard in near.shards:
        CountingStore().pipe_file(shard.address, Path(shard.address).read_bytes())
    shards = [replace(shard, address=f"counted://{shard.address}") for shard in near.shards]
    far = Manifest(shards, near.samples.with_columns(shard="counted://" + pl.col("shard")))
    CountingStore.forget()

    next(iter(worker(far, 0, 1, None)))

    assert 2 < CountingStore.most <= pieces.REQUESTS_AT_ONCE


@pytest.mark.parametrize("share", [1, 3])
def test_a_piece_reaches_over_small_gaps_and_holds_what_other_workers_want(
    near: Manifest, far: Manifest, share: int
) -> None:
    """Whole shards of an object store are one piece each; on a disk nothing is read for other workers."""
    row_N = np.flatnonzero(np.arange(60) % share == 0)
    odd_N, even_N = np.arange(1, len(row_N), 2), np.arange(0, len(row_N), 2)
    for manifest, others in ((far, [even_N]), (near, [])):
        table = build_pair_table(manifest, row_N)
        planned = list(plan_pieces(table, odd_N, others))
        assert [place for piece in planned for place in piece.place_N] == odd_N.tolist()
        assert [piece.readers for piece in planned] == [1 + len(others)] * 3
        reached = [odd_N, *others]
        for piece in planned:
            held_N = [
                place for place in np.concatenate(reached) if table.addresses[table.shard_N[place]] == piece.address
            ]
            whole_N2 = table.whole_N2[held_N]
            assert (piece.start, piece.start + piece.size) == (whole_N2[:, 0].min(), whole_N2.sum(axis=1).max())
