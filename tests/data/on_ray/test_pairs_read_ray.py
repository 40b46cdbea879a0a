"""Ray Data indexes and reads the same pairs as this process does, also in a trial on a machine that is full."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gapctl.config.trial import PairCaptions
from gapctl.data.image_text import feed as read_ray
from gapctl.data.image_text import pieces
from gapctl.data.image_text.feed import PairFeed, RayReader, require_cpus
from gapctl.data.image_text.index import build_manifest
from gapctl.data.image_text.manifest import Manifest
from gapctl.data.image_text.pieces import find_shared_folder
from gapctl.data.image_text.read import ReadOptions
from gapctl.data.image_text.storage import list_shards
from gapctl.data.parallel_shards import Workers
from gapctl.errors import InputError, WorkError
from pair_shards import write_pairs

RULE = ReadOptions(16, PairCaptions(keep="half"))


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    write_pairs(tmp_path / "a.tar", range(17))
    write_pairs(tmp_path / "b.tar", range(17, 30))
    return build_manifest(list_shards([str(tmp_path)]), Workers(1))


def feed(manifest: Manifest, reader: RayReader | None, **options: Any) -> PairFeed:
    return PairFeed(manifest, range(30), RULE, 1, 4, reader=reader, **options)


def at_addresses(manifest: Manifest) -> Manifest:
    """The same samples at addresses, as in an object store."""
    shards = [replace(shard, address=f"file://{shard.address}") for shard in manifest.shards]
    return Manifest(shards, manifest.samples.with_columns(shard="file://" + pl.col("shard")))


def test_ray_data_indexes_shards_as_one_process_does(ray_session: None, manifest: Manifest, tmp_path: Path) -> None:
    by_ray = build_manifest(list_shards([str(tmp_path)]), Workers(1, nullcontext))

    assert by_ray.samples.equals(manifest.samples)
    assert by_ray.shards == manifest.shards


def test_ray_data_reads_the_same_pairs_in_the_same_order(
    ray_session: None, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ray, "WINDOW_CHUNKS", 2)
    for options in ({"stop": 100}, {"position": 20, "stop": 60, "rank": 1, "world": 2}):
        by_ray, by_threads = (list(feed(manifest, reader, **options)) for reader in (RayReader(), None))
        assert len(by_ray) == len(by_threads) > 5
        for (one, position), (other, expected) in zip(by_ray, by_threads, strict=True):
            assert position == expected
            assert all(np.array_equal(mine, its) for mine, its in zip(one, other, strict=True))


def test_tasks_of_several_workers_share_what_they_fetch_and_read_the_same_pairs(
    ray_session: None, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far, folder, session = at_addresses(manifest), find_shared_folder(), uuid.uuid4().hex
    assert folder is not None
    with ThreadPoolExecutor(2) as pool:
        by_ray = pool.map(
            lambda rank: list(feed(far, RayReader(session=session), rank=rank, world=2, stop=16)), range(2)
        )
        for rank, mine in enumerate(by_ray):
            by_threads = list(feed(manifest, None, rank=rank, world=2, stop=16))
            for (one, position), (other, expected) in zip(mine, by_threads, strict=True):
                assert position == expected
                assert all(np.array_equal(mine, its) for mine, its in zip(one, other, strict=True))
    assert not (folder / session).exists()


def test_a_node_that_only_reads_keeps_no_pieces_once_the_training_has_ended(
    ray_session: None, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, session = find_shared_folder(), uuid.uuid4().hex
    assert folder is not None
    monkeypatch.setattr(pieces, "SHARED_PARENTS", ())  # this process stands for a trainer on another node
    batches = iter(feed(at_addresses(manifest), RayReader(session=session), rank=0, world=2, stop=16))
    next(batches)

    assert (folder / session / pieces.ALIVE).exists()  # with pieces that the other worker never reads
    assert len(list(batches)) == 3
    assert not (folder / session).exists()


def test_ray_data_cuts_a_pair_alike_in_every_epoch_where_the_cut_is_drawn_once(
    ray_session: None, manifest: Manifest
) -> None:
    once = ReadOptions(16, PairCaptions(keep="half", draw="once"))
    by_ray, by_threads, anew = (
        [batch for batch, _ in PairFeed(manifest, range(30), rule, 1, 4, reader=reader, stop=120)]
        for rule, reader in ((once, RayReader()), (once, None), (RULE, None))
    )

    assert all(np.array_equal(one.tokens_BL, other.tokens_BL) for one, other in zip(by_ray, by_threads, strict=True))
    for batches, cuts in ((by_ray, 1), (anew, 2)):
        read: dict[int, set[int]] = {}
        for batch in batches:
            for sample, text in zip(batch.sample_B.tolist(), batch.text_id_B.tolist(), strict=True):
                read.setdefault(sample, set()).add(text)
        assert max(map(len, read.values())) == cuts


def test_a_trial_reads_on_a_machine_that_is_full(ray_session: None, manifest: Manifest) -> None:
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    @ray.remote(num_cpus=1)
    class Trial:
        def positions(self, tasks: int) -> list[int]:
            found = PairFeed(manifest, range(30), RULE, 1, 4, reader=RayReader(tasks), stop=12)
            return [position for _, position in found]

    reserved = placement_group([{"CPU": 1.0}, {"CPU": 1.0}])
    try:
        assert reserved.wait(60)
        strategy = PlacementGroupSchedulingStrategy(reserved, 0, placement_group_capture_child_tasks=True)
        trial = Trial.options(scheduling_strategy=strategy).remote()

        assert ray.get(trial.positions.remote(1)) == [4, 8, 12]
        with pytest.raises(InputError, match="a training on 1 CPUs that reads through Ray Data on 2 more needs 3"):
            ray.get(trial.positions.remote(2))
    finally:
        remove_placement_group(reserved)


def test_a_shard_that_is_gone_is_named_as_without_ray(ray_session: None, manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "b.tar").unlink()
    messages = set()
    for reader in (RayReader(), None):
        with pytest.raises(WorkError, match=r"b\.tar: is gone") as raised:
            list(feed(manifest, reader, stop=20))
        assert type(raised.value) is WorkError
        messages.add(str(raised.value))
    assert len(messages) == 1


def test_a_machine_that_is_too_small_is_told() -> None:
    require_cpus(1, 1, 2)
    with pytest.raises(InputError, match="needs 3, and Ray has 2"):
        require_cpus(2, 1, 2)
