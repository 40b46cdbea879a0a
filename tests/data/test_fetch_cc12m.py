"""`gapctl data fetch cc12m` brings shards from a hub in its real protocol: planned, resumed, checked and counted."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from command_line import Answer, assert_refused, gapctl
from gapctl.data import published_shards
from gapctl.data.image_text import index
from gapctl.data.image_text import manifest as manifests
from gapctl.data.image_text.index import build_manifest
from gapctl.data.image_text.manifest import read_manifest, require_unchanged_shards
from gapctl.data.image_text.storage import ShardReader, list_shards
from gapctl.data.parallel_shards import Workers
from hub import Hub, serve_hub, use_hub
from object_store import BUCKET, Store, object_store
from pair_shards import write_pairs

REPOSITORY = "datasets/pixparse/cc12m-wds"
SHARDS = {f"cc12m-train-{number:04d}.tar": range(3 * number, 3 * number + 3) for number in range(5)}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with five small shards in the layout of pixparse/cc12m-wds, whose lists come in pages of two."""
    from huggingface_hub import HfFileSystem

    folder = tmp_path / "hub"
    folder.mkdir()
    for name, numbers in SHARDS.items():
        write_pairs(folder / name, numbers)
    split = {"name": "train", "filenames": list(SHARDS), "shard_lengths": [3] * 5, "num_samples": 15}
    (folder / "_info.json").write_text(json.dumps({"name": "cc12m", "splits": {"train": split}}), encoding="utf-8")
    (folder / "README.md").write_text("CC12M", encoding="utf-8")
    monkeypatch.setattr(published_shards, "CC12M", replace(published_shards.CC12M, shards=5, samples=15))
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path / "cache"))
    HfFileSystem.clear_instance_cache()
    with serve_hub() as hub:
        hub.page = 2
        hub.add(REPOSITORY, folder)
        use_hub(hub, tmp_path / "hf", monkeypatch)
        yield hub
    HfFileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with object_store() as served:
        yield served


def fetch(out: Path | str, *more: str) -> Answer:
    return gapctl("data", "fetch", "cc12m", "--out", str(out), *more)


def test_the_counts_are_those_that_were_published() -> None:
    assert (published_shards.CC12M.shards, published_shards.CC12M.samples) == (2_176, 10_968_539)


def test_a_plan_says_bytes_hours_and_disk_and_downloads_nothing(hub: Hub, tmp_path: Path) -> None:
    size = sum(len(content) for name, content in hub.repositories[REPOSITORY].items() if name.endswith(".tar"))

    document = json.loads(fetch(tmp_path / "cc12m", "--plan", "--json").out)
    text = fetch(tmp_path / "cc12m", "--plan").out

    assert (document["shards"], document["samples"], document["shards_left"]) == (5, 15, 5)
    assert document["bytes"] == document["bytes_left"] == document["disk_needed"] == size
    assert document["hours"]["1 Gbit/s"] == round(size * 8 / 1e9 / 3600, 2)
    assert "left to bring to" in text
    assert "1 Gbit/s" in text
    assert not hub.downloads()
    assert not (tmp_path / "cc12m").exists()


@pytest.mark.parametrize("many", [False, True])
def test_shards_arrive_with_a_manifest_that_is_a_source(
    many: bool, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if many:  # too many rows for memory
        for module in (published_shards, index, manifests):
            monkeypatch.setattr(module, "MAX_LOADED_SAMPLES", 0)
    ran = fetch(tmp_path / "cc12m", "--json")
    document = json.loads(ran.out)

    assert (ran.exit_code, document["fetched"], document["samples"], document["wrong_shards"]) == (0, 5, 15, []), (
        ran.err
    )
    for name in SHARDS:
        assert (tmp_path / "cc12m" / name).read_bytes() == hub.repositories[REPOSITORY][name]
    manifest = read_manifest(tmp_path / "cc12m" / "manifest.parquet")
    require_unchanged_shards(tmp_path / "cc12m" / "manifest.parquet", manifest)
    indexed = build_manifest(list_shards([str(tmp_path / "cc12m")]), Workers(1))
    assert (manifest.fingerprint, manifest.shards) == (indexed.fingerprint, indexed.shards)
    assert manifest.samples.equals(indexed.samples)

    before = hub.downloads()
    assert json.loads(fetch(tmp_path / "cc12m", "--json").out)["fetched"] == 0
    assert hub.downloads() == before
    assert json.loads(fetch(tmp_path / "cc12m", "--plan", "--json").out)["bytes_left"] == 0


def test_a_download_that_broke_off_goes_on_and_brings_only_what_is_left(hub: Hub, tmp_path: Path) -> None:
    hub.stops[f"{REPOSITORY}/cc12m-train-0003.tar"] = 2_000

    ran = fetch(tmp_path / "cc12m")
    assert ran.exit_code == 1
    assert "cc12m-train-0003.tar could not be downloaded from" in ran.err
    assert "What has arrived is kept" in ran.err

    hub.stops.clear()
    hub.asked.clear()
    document = json.loads(fetch(tmp_path / "cc12m", "--json").out)
    assert (document["samples"], document["fetched"]) == (15, len(hub.downloads()))
    assert f"/storage/{REPOSITORY}/cc12m-train-0003.tar" in hub.downloads()
    assert document["fetched"] < 5


def test_a_shard_with_another_content_or_size_is_brought_again(hub: Hub, tmp_path: Path) -> None:
    hub.spoilt = {f"{REPOSITORY}/cc12m-train-0001.tar"}
    ran = fetch(tmp_path / "cc12m")
    assert (ran.exit_code, "arrived with sha256" in ran.err) == (1, True)

    hub.spoilt = set()
    assert fetch(tmp_path / "cc12m").exit_code == 0
    cut = tmp_path / "cc12m" / "cc12m-train-0004.tar"
    cut.write_bytes(cut.read_bytes()[:-512])
    assert json.loads(fetch(tmp_path / "cc12m", "--plan", "--json").out)["shards_left"] == 1
    assert fetch(tmp_path / "cc12m").exit_code == 0
    assert cut.read_bytes() == hub.repositories[REPOSITORY][cut.name]


def test_a_bucket_gets_the_same_shards_and_nothing_stays_here(hub: Hub, store: Store, tmp_path: Path) -> None:
    out = f"s3://{BUCKET}/cc12m"
    ran = fetch(out, "--json")

    assert ran.exit_code == 0, ran.err
    assert [name for name in store.names() if name.startswith("cc12m/")] == [
        *(f"cc12m/{name}" for name in SHARDS),
        "cc12m/manifest.parquet",
    ]
    for name in SHARDS:
        body = store.client().get_object(Bucket=BUCKET, Key=f"cc12m/{name}")["Body"].read()
        assert body == hub.repositories[REPOSITORY][name]
    manifest = read_manifest(f"{out}/manifest.parquet")
    require_unchanged_shards(f"{out}/manifest.parquet", manifest)
    assert [shard.samples for shard in manifest.shards] == [3] * 5
    assert not list((tmp_path / "cache").rglob("*.tar"))
    assert json.loads(fetch(out, "--json").out)["fetched"] == 0


def test_counts_that_differ_from_the_published_ones_are_told(hub: Hub, tmp_path: Path) -> None:
    files = hub.repositories[REPOSITORY]
    files["cc12m-train-0002.tar"] = write_pairs(tmp_path / "fewer.tar", range(2)).read_bytes()
    ran = fetch(tmp_path / "cc12m")
    assert ran.exit_code == 1
    assert "cc12m-train-0002.tar: 2 samples, 3 published" in ran.out

    def publish(counts: bytes) -> None:
        files["_info.json"] = counts
        shutil.rmtree(tmp_path / "hf")  # another commit of the data set would be another file of the client's cache

    publish(files["_info.json"].replace(b"3, 3]", b"3, 4]"))
    assert_refused(fetch(tmp_path / "other"), "found 5 shards of 16 samples; expected 5 of 15, as published")
    publish(b"[]")
    assert_refused(fetch(tmp_path / "other"), "its _info.json does not count the shards of train")
    assert not (tmp_path / "other").exists()


def test_a_disk_with_too_little_room_is_refused_before_a_byte(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published_shards, "_measure_free_disk", lambda *_: 1_000)

    assert_refused(fetch(tmp_path / "cc12m"), "0.0 GB are free; expected more room, or an object store such as s3://")
    assert "TOO LITTLE" in fetch(tmp_path / "cc12m", "--plan").out
    assert not hub.downloads()


@pytest.mark.parametrize(("status", "message"), [(403, "set HF_TOKEN"), (503, "answered 503")])
def test_a_hub_that_refuses_is_quoted(hub: Hub, tmp_path: Path, status: int, message: str) -> None:
    hub.statuses[REPOSITORY] = status

    ran = fetch(tmp_path / "cc12m")

    assert ran.exit_code in (1, 2)
    assert message in ran.err
    assert "Traceback" not in ran.err


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    assert_refused(gapctl("data", "fetch", "cc12m"), "--out: none given; expected where CC12M goes")
    assert_refused(gapctl("data", "fetch", "mnist", "--plan"), "--plan: only for cc12m")
    assert_refused(fetch(tmp_path, "--mirror", "a", "--mirror", "b"), "--mirror: 2 given; expected one hub")
    for what in ("mnist", "coco"):
        assert_refused(
            gapctl("data", "fetch", what, "--out", "s3://b/a"), "--out s3://b/a: an address; expected a path"
        )


def test_shards_of_the_hub_are_read_where_they_are_with_a_token(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_ours"
    web = f"{hub.address}/{REPOSITORY}/resolve/main/cc12m-train-{{0000..0004}}.tar"
    refused = gapctl("data", "index", web, "--out", str(tmp_path / "m.parquet"), "--workers", "1")
    assert refused.exit_code == 2, refused.err

    from huggingface_hub import HfFileSystem

    HfFileSystem.clear_instance_cache()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    files = [hub.repositories[REPOSITORY][name] for name in SHARDS]
    for place in (web, f"hf://{REPOSITORY}", f"{hub.address}/{REPOSITORY}/tree/main"):
        out = tmp_path / "manifest.parquet"
        ran = gapctl("data", "index", place, "--out", str(out), "--workers", "1")
        assert ran.exit_code == 0, ran.err
        manifest = read_manifest(out)
        assert [shard.bytes for shard in manifest.shards] == list(map(len, files))
        assert all(shard.address.startswith("hf://") and shard.modified for shard in manifest.shards)
        out.unlink()
    hub.asked.clear()
    with ShardReader() as opened:
        assert opened.read(manifest.shards[1].address, 512, 1024) == files[1][512:1536]
    assert [part for method, path, part in hub.asked if "/storage/" in path] == ["bytes=512-1535"]
