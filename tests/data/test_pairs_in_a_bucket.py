"""Image-text shards in a real object store: indexed and fed to a training as from a disk, also while it fails."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from command_line import gapctl
from gapctl.config.trial import PairCaptions
from gapctl.data.image_text import storage as stored
from gapctl.data.image_text.feed import PairFeed
from gapctl.data.image_text.index import build_manifest
from gapctl.data.image_text.manifest import Manifest, read_manifest
from gapctl.data.image_text.read import PairBatch, ReadOptions
from gapctl.data.image_text.storage import list_shards
from gapctl.data.parallel_shards import Workers
from gapctl.errors import InputError
from gapctl.io import retry as stores
from object_store import BUCKET, Store, object_store
from pair_shards import write_pairs

PLACE = f"s3://{BUCKET}/shards"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shards")


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[Store]:
    with object_store() as served:
        for name, numbers in (("a", range(9)), ("b", range(9, 16))):
            shard = write_pairs(folder / f"{name}.tar", numbers)
            served.client().upload_file(str(shard), BUCKET, f"shards/{name}.tar")
        yield served


def batches(manifest: Manifest) -> list[PairBatch]:
    rule = ReadOptions(16, PairCaptions(keep="half"))
    feed = PairFeed(manifest, batch_size=4, rows=range(16), rule=rule, seed=1)
    return [batch for batch, _ in islice(feed, 8)]


def same(ours: list[PairBatch], theirs: list[PairBatch]) -> bool:
    pairs = zip(ours, theirs, strict=True)
    return all(np.array_equal(mine, its) for one, other in pairs for mine, its in zip(one, other, strict=True))


def test_a_bucket_is_indexed_and_read_as_a_folder_is(store: Store, folder: Path, tmp_path: Path) -> None:
    answer = gapctl("data", "index", PLACE, "--out", str(tmp_path / "manifest.parquet"), "--workers", "1")
    assert answer.exit_code == 0, answer.err

    there, here = read_manifest(tmp_path / "manifest.parquet"), build_manifest(list_shards([str(folder)]), Workers(1))

    assert there.fingerprint == here.fingerprint
    assert same(batches(there), batches(here))


def test_a_store_that_fails_now_and_then_gives_the_same_pairs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "FIRST_PAUSE", 0.01)
    quiet = batches(build_manifest(list_shards([PLACE]), Workers(1)))
    with store.failing("InternalError", "reset", "answer lost", share=0.2, latency=0.002) as happened:
        assert same(batches(build_manifest(list_shards([PLACE]), Workers(1))), quiet)

    assert sum(happened.values())


def test_a_store_that_stays_away_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "RETRY_SECONDS", 0.5)
    with store.failing("InternalError"), pytest.raises(InputError, match=r"cannot be listed .*asked for"):
        list_shards([PLACE])
