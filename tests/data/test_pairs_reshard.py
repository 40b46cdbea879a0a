"""`gapctl data reshard`: the same bytes each time, nothing lost, no image on both sides of a split."""

import json
from pathlib import Path

import polars as pl
import pytest

from command_line import gapctl
from gapctl.data.image_text.index import build_manifest
from gapctl.data.image_text.manifest import Manifest
from gapctl.data.image_text.read import read_rows_with_samples
from gapctl.data.image_text.storage import list_shards
from gapctl.data.image_text.tools import ReshardRequest, reshard_pairs
from gapctl.data.parallel_shards import Workers
from pair_shards import pair, write_pairs, write_shard

HERE = Workers(1)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    write_pairs(tmp_path / "a.tar", range(20))
    write_shard(tmp_path / "b.tar", [("copy", pair(3)), ("bad", {**pair(1), "txt": b""})])
    return build_manifest(list_shards([str(tmp_path / "{a,b}.tar")]), HERE)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def described(folder: Path) -> pl.DataFrame:
    return build_manifest(list_shards([str(folder)]), HERE).samples


def test_new_shards_have_every_usable_sample_in_its_order(manifest: Manifest, tmp_path: Path) -> None:
    done = reshard_pairs(manifest, ReshardRequest(manifest.fingerprint, 8), tmp_path / "out", HERE)
    assert (done.shards, done.samples, done.made) == ({"train": 3}, {"train": 21}, 3)
    assert sorted(contents(tmp_path / "out")) == ["00000.tar", "00001.tar", "00002.tar"]
    rows = described(tmp_path / "out")
    assert rows["image_mark"].to_list() == manifest.usable["image_mark"].to_list()
    assert rows["key"].to_list()[7:9] == ["000000007", "000010000"]
    _, sample = next(read_rows_with_samples(rows))
    assert sample.caption == "a red square"
    assert sample.about["source_key"] == "000000"
    assert sample.about["shape"] == "square"


def test_a_shuffle_is_the_same_for_one_seed_and_another_for_another(manifest: Manifest, tmp_path: Path) -> None:
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        reshard_pairs(manifest, ReshardRequest(manifest.fingerprint, 8, shuffle=seed), tmp_path / name, HERE)
    first, again, other = (contents(tmp_path / name) for name in ("first", "again", "other"))
    assert first == again
    assert first != other
    assert sorted(described(tmp_path / "other")["image_mark"]) == sorted(manifest.usable["image_mark"])


def test_no_image_is_on_both_sides_of_a_split(manifest: Manifest, tmp_path: Path) -> None:
    for seed in range(4):
        request = ReshardRequest(manifest.fingerprint, 50, validation=0.4, split_seed=seed)
        done = reshard_pairs(manifest, request, tmp_path / f"{seed}", HERE)
        train, held_out = (set(described(tmp_path / f"{seed}" / name)["image_mark"]) for name in done.shards)
        assert train | held_out == set(manifest.usable["image_mark"])
        assert not train & held_out


def test_larger_images_get_the_shorter_side_and_smaller_ones_stay(manifest: Manifest, tmp_path: Path) -> None:
    for side, expected in ((20, (20, 24)), (60, (40, 48))):
        out = tmp_path / f"{side}"
        reshard_pairs(manifest, ReshardRequest(manifest.fingerprint, 50, resize=side), out, HERE)
        assert set(described(out).select("width", "height").rows()) == {expected}
    assert described(tmp_path / "60")["image_mark"].to_list() == manifest.usable["image_mark"].to_list()


def test_stopped_work_goes_on_and_gives_the_same_bytes(manifest: Manifest, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 8:
            raise StoppedError

    request = ReshardRequest(manifest.fingerprint, 8, shuffle=0)
    with pytest.raises(StoppedError):
        reshard_pairs(manifest, request, tmp_path / "stopped", HERE, stop)
    assert reshard_pairs(manifest, request, tmp_path / "stopped", HERE).made == 2
    reshard_pairs(manifest, request, tmp_path / "whole", HERE)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_work_that_was_begun_otherwise_is_not_mixed(manifest: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".resharding.json").write_text(json.dumps({"per_shard": 3}), encoding="utf-8")
    ran = gapctl("data", "reshard", str(tmp_path / "a.tar"), "--out", str(out))
    assert ran.exit_code == 2
    assert "was begun otherwise" in ran.err


def test_an_image_that_cannot_be_decoded_is_dropped_and_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [("good", pair(1)), ("cut", {**pair(2), "jpg": pair(2)["jpg"][:500]})])
    ran = gapctl("data", "reshard", str(tmp_path / "a.tar"), "--out", str(tmp_path / "out"), "--resize", "20")
    assert ran.exit_code == 0
    assert "1 images could not be decoded and were left out: cut" in ran.out
    assert len(described(tmp_path / "out")) == 1
