"""Image-text shards in a real object store: indexed and fed to a training as from a disk, also while it fails."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from command_line import gapctl
from gapctl.config.trial import PairCaptions
from gapctl.data.image_text import storage as stored
from gapctl.data.image_text.feed import PairFeed
from gapctl.data.image_text.index import build_manifest, index_shards
from gapctl.data.image_text.manifest import Manifest, read_manifest
from gapctl.data.image_text.read import PairBatch, ReadOptions
from gapctl.data.image_text.storage import list_shards
from gapctl.data.image_text.tools import compute_pair_stats
from gapctl.data.parallel_shards import Workers
from gapctl.errors import InputError
from gapctl.io import retry as stores
from layout_places import write_csv
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


def sweep_on(source: str) -> list[str]:
    """Write a sweep on these pairs, in the working folder; return what `plan` and `sweep` are called with."""
    Path("pairs.yaml").write_text(
        "name: pairs\nquestion: Does it read them?\nvary: {train.lr: [1.0e-3]}\nbase:\n"
        f"  data: {{dataset: image_text, source: '{source}', held_out_share: 0.5}}\n"
        "  model: {preset: pairs-small}\n  evaluate: {gallery: 2}\n",
        encoding="utf-8",
    )
    return ["pairs.yaml", "--json"]


def trials_on(source: str) -> set[str]:
    """Return the ids of the trials of a plan, which name the data by their content."""
    ran = gapctl("plan", *sweep_on(source))
    Path("pairs.yaml").unlink()
    assert ran.exit_code == 0, ran.err
    return {trial["id"] for trial in json.loads(ran.out)["trials"]}


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


def test_a_manifest_in_a_bucket_is_the_source_of_a_sweep(
    store: Store, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    refused = gapctl("plan", *sweep_on(PLACE))
    Path("pairs.yaml").unlink()
    assert f"`gapctl data index '{PLACE}' --out PLACE.parquet` makes it" in refused.err
    assert gapctl("data", "index", PLACE, "--out", f"{PLACE}/manifest.parquet", "--workers", "1").exit_code == 0
    for name, place in (("whole", folder), ("part", folder / "b.tar")):
        gapctl("data", "index", str(place), "--out", f"{name}.parquet", "--workers", "1")

    assert trials_on(PLACE) == trials_on(f"{PLACE}/manifest.parquet") == trials_on("whole.parquet")
    assert trials_on(f"{PLACE}/{{b..b}}.tar") == trials_on("part.parquet") != trials_on("whole.parquet")
    there = [name for name in store.names() if name.startswith("shards/")]
    assert there == ["shards/a.tar", "shards/b.tar", "shards/manifest.parquet"]
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "part.parquet", "whole.parquet"}
    store.client().delete_object(Bucket=BUCKET, Key="shards/manifest.parquet")


def test_an_index_in_a_bucket_that_stopped_goes_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done:
            raise StoppedError

    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path))
    shards, out = list_shards([PLACE]), f"s3://{BUCKET}/other.parquet"
    with pytest.raises(StoppedError):
        index_shards(shards, out, Workers(1), stop)
    assert index_shards(shards, out, Workers(1)).read == 1
    assert index_shards(shards, out, Workers(1)).read == 0
    assert not list((tmp_path / "making").iterdir())
    store.client().delete_object(Bucket=BUCKET, Key="other.parquet")


def test_new_shards_in_a_bucket_are_those_of_a_folder(store: Store, folder: Path, tmp_path: Path) -> None:
    options = ("--per-shard", "6", "--validation", "0.3", "--workers", "1")
    far, near = f"s3://{BUCKET}/new", tmp_path / "new"
    for place in (far, str(near)):
        answer = gapctl("data", "reshard", str(folder), "--out", place, *options)
        assert answer.exit_code == 0, answer.err

    made = {str(path.relative_to(near)): path.read_bytes() for path in near.rglob("*.tar")}
    client = store.client()
    assert {
        name.removeprefix("new/"): client.get_object(Bucket=BUCKET, Key=name)["Body"].read()
        for name in store.names()
        if name.startswith("new/")
    } == made
    refused = gapctl("data", "reshard", str(folder), "--out", far, *options)
    assert (refused.exit_code, "holds other data" in refused.err) == (2, True)


def test_a_table_is_packed_into_a_bucket(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path / "cache"))
    table, out = write_csv(tmp_path), f"s3://{BUCKET}/packed"
    for _ in range(2):
        ran = gapctl("data", "pack", str(table), "--out", out)
        assert ran.exit_code == 0, ran.err

    assert [name for name in store.names() if name.startswith("packed/")] == [
        "packed/00000.tar",
        "packed/manifest.parquet",
        "packed/packed.json",
    ]
    assert gapctl("data", "verify", f"{out}/manifest.parquet", "--workers", "1").exit_code == 0
    monkeypatch.chdir(tmp_path)
    assert trials_on(out) == trials_on(str(table))
    refused = gapctl("data", "pack", str(table), "--out", PLACE)
    assert "holds other data (a.tar)" in refused.err
    other = write_csv(tmp_path / "other")
    refused = gapctl("data", "pack", str(other), "--out", out)
    assert "holds other data (00000.tar)" in refused.err


def test_packing_into_a_bucket_goes_on_where_it_was_stopped(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path / "cache"))
    table, out = write_csv(tmp_path), f"s3://{BUCKET}/stopped"
    assert gapctl("data", "pack", str(table), "--out", out).exit_code == 0
    whole = [name for name in store.names() if name.startswith("stopped/")]
    client, record = store.client(), "stopped/packed.json"
    kept = client.get_object(Bucket=BUCKET, Key="stopped/00000.tar")["LastModified"]
    fingerprint = json.loads(client.get_object(Bucket=BUCKET, Key=record)["Body"].read())["fingerprint"]
    client.delete_object(Bucket=BUCKET, Key=record)
    client.put_object(Bucket=BUCKET, Key=f"stopped/.packing-{fingerprint}", Body=b"")

    assert gapctl("data", "pack", str(write_csv(tmp_path / "other")), "--out", out).exit_code == 2
    assert gapctl("data", "pack", str(table), "--out", out).exit_code == 0
    assert [name for name in store.names() if name.startswith("stopped/")] == whole
    assert client.get_object(Bucket=BUCKET, Key="stopped/00000.tar")["LastModified"] == kept


def test_captions_are_counted_with_few_requests(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = list[tuple[int, int]]()
    read = stored.ShardReader.read

    def count(opened: stored.ShardReader, address: str, start: int, size: int) -> bytes:
        reads.append((start, size))
        return read(opened, address, start, size)

    near = compute_pair_stats(build_manifest(list_shards([str(folder)]), Workers(1)), Workers(1))
    far = build_manifest(list_shards([PLACE]), Workers(1))
    monkeypatch.setattr(stored.ShardReader, "read", count)

    assert compute_pair_stats(far, Workers(1)) == near
    assert len(reads) == len(far.shards) == 2

    reads.clear()
    monkeypatch.setattr(stored, "REMOTE_READ_BYTES", 4_000)
    assert compute_pair_stats(far, Workers(1)) == near
    assert 2 < len(reads) < len(far.samples)
    assert all(size <= 4_000 for _, size in reads)


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
