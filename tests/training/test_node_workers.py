"""Workers find those on their own node, and share with them what they read from an object store."""

from itertools import islice
from pathlib import Path

import torch
from torch import distributed

from forked import PROCESSES
from gapctl.data.image_text import pieces
from gapctl.data.image_text.feed import RayReader
from gapctl.data.image_text.index import build_manifest
from gapctl.data.image_text.manifest import write_manifest
from gapctl.data.image_text.storage import list_shards
from gapctl.data.load import load_dataset
from gapctl.data.parallel_shards import Workers
from gapctl.sweep.pack_work import _build_reader
from gapctl.training.batches import find_node_workers, iterate_batches
from gapctl.training.trial_state import TrialState
from gapctl.training.workers import SINGLE_WORKER, WorkerGroup, get_worker_group
from memory_store import MemoryStore
from open_models import CPU
from pair_shards import write_pairs
from pair_trials import pair_config

BATCH, STEPS, WORKERS = 12, 4, 3


def read_batches(source: str, group: WorkerGroup) -> tuple[torch.Tensor, torch.Tensor]:
    """The images and tokens of the first steps of a training on these pairs."""
    config = pair_config(
        data={"source": source, "held_out_share": 0.3},
        train={"samples": STEPS * BATCH, "batch_size": BATCH},
        evaluate={"gallery": 2, "every": STEPS * BATCH},
    )
    member = TrialState(config, 0, load_dataset(config.data), MemoryStore(), CPU, leads=group.rank == 0)
    found = list(islice(iterate_batches([member], CPU, group, None), STEPS))
    return torch.stack([batch.image_SCHW for batch in found]), torch.stack([batch.second for batch in found])


def work(rank: int, folder: Path) -> None:
    """Read as one of three workers, of which the first two are on one node."""
    torch.set_num_threads(1)
    parent = folder / ("first" if rank < 2 else "second")
    parent.mkdir(exist_ok=True)
    pieces.SHARED_PARENTS = (str(parent),)  # type: ignore[misc]
    pieces.NODE_CACHE_BYTES = 1 << 20  # type: ignore[misc]
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=WORKERS)
    group = get_worker_group()
    node = find_node_workers(group)
    stored = list[str]()
    store = pieces.NodeCache._store

    def note(cache: pieces.NodeCache, *arguments: object) -> None:
        store(cache, *arguments)  # type: ignore[arg-type]
        stored.append(str(cache.folder.parent.parent))

    pieces.NodeCache._store = note  # type: ignore[method-assign]
    images, tokens = read_batches(f"file://{folder / 'far.parquet'}", group)
    reader = _build_reader(1, group)
    assert isinstance(reader, RayReader)
    found = (node and (node.ranks, node.folder.name), reader.session, stored, images, tokens)
    torch.save(found, folder / f"{rank}.pt")
    distributed.barrier()


def test_workers_share_with_those_on_their_node_and_read_what_one_worker_reads(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for number in range(2):
        write_pairs(tmp_path / "shards" / f"{number}.tar", range(30 * number, 30 * number + 30))
    for name, place in (("far", f"file://{tmp_path}/shards"), ("near", f"{tmp_path}/shards")):
        write_manifest(tmp_path / f"{name}.parquet", build_manifest(list_shards([place]), Workers(1)))
    processes = [PROCESSES.Process(target=work, args=(rank, tmp_path)) for rank in range(WORKERS)]
    for process in processes:
        process.start()
    expected = read_batches(str(tmp_path / "near.parquet"), SINGLE_WORKER)
    for process in processes:
        process.join(600)
        assert process.exitcode == 0
    nodes, sessions, stored, *read = zip(*(torch.load(tmp_path / f"{rank}.pt") for rank in range(WORKERS)), strict=True)

    assert nodes[0] == nodes[1]
    assert nodes[0][0] == (0, 1)
    assert nodes[2] is None
    assert sessions[0]
    assert len(set(sessions)) == 1
    assert {place for each in stored for place in each} == {str(tmp_path / "first")}
    for mine, alone in zip(read, expected, strict=True):
        assert torch.equal(torch.cat(mine, dim=1), alone)
    assert not list((tmp_path / "first").glob("gapctl-*/*"))
