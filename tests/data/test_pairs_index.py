"""`gapctl data index`: where samples lie, what is wrong with them, and what is read again."""

import io
import json
import os
import tarfile
from pathlib import Path

import fsspec
import polars as pl
import pytest

from command_line import gapctl
from gapctl.data.image_text.index import build_manifest, index_shards, make_manifest_part
from gapctl.data.image_text.manifest import read_manifest, require_unchanged_shards
from gapctl.data.image_text.read import read_rows_with_samples
from gapctl.data.image_text.shard_index import index_shard
from gapctl.data.image_text.storage import list_shards
from gapctl.data.image_text.tar import SampleProblem, scan_tar
from gapctl.data.parallel_shards import Workers
from gapctl.errors import InputError
from pair_shards import pair, write_pairs, write_shard
from shard_mutations import Exploding, animated, bomb, picture

HERE = Workers(1)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in range(3):
        write_pairs(folder / f"{number:05d}.tar", range(4 * number, 4 * number + 4))
    return folder


def test_every_part_of_a_sample_lies_where_the_manifest_says(shards: Path) -> None:
    ran = gapctl("data", "index", str(shards))
    assert (ran.exit_code, ran.err) == (0, "")
    assert "12 usable of 12 samples in 3 shards" in ran.out
    manifest = read_manifest(shards / "manifest.parquet")
    require_unchanged_shards(shards / "manifest.parquet", manifest)
    found = list(read_rows_with_samples(manifest.samples))
    assert len(found) == 12
    for number, (row, sample) in enumerate(found):
        expected = pair(number)
        assert (sample.key, sample.image) == (f"{number:06d}", expected["jpg"])
        assert sample.caption == expected["txt"].decode()
        assert sample.about == json.loads(expected["json"])
        assert (row["form"], row["width"], row["height"], row["words"]) == ("jpeg", 40, 48, 3)
        span = Path(row["shard"]).read_bytes()[row["offset"] : row["offset"] + row["bytes"]]
        with tarfile.open(fileobj=io.BytesIO(span + bytes(1024))) as alone:
            assert len(alone.getnames()) == 3


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_tarfile_finds(form: int, tmp_path: Path) -> None:
    path, long = tmp_path / "a.tar", "folder/" * 13 + "name" * 4
    with tarfile.open(path, "w", format=form) as archive:
        for name in ("a.jpg", "ä.txt", f"{long}.jpg", "folder", "b.jpg"):
            info = tarfile.TarInfo(name)
            info.size, info.type = (0, tarfile.DIRTYPE) if name == "folder" else (len(name) * 99, tarfile.REGTYPE)
            if form == tarfile.PAX_FORMAT:
                info.mtime = 1.5
            archive.addfile(info, io.BytesIO(b"." * info.size))
    with tarfile.open(path) as archive:
        expected = [(each.name.encode(), each.offset_data, each.size) for each in archive if each.isfile()]
    found = scan_tar(path.read_bytes())
    assert [(each.name, each.start, each.size) for each in found.members] == expected
    assert (found.others, found.damage) == (1, None)


def test_the_same_command_reads_only_what_is_new_or_changed(shards: Path) -> None:
    def read() -> int:
        return int(json.loads(gapctl("data", "index", str(shards), "--json").out)["read"])

    assert (read(), read()) == (3, 0)
    write_pairs(shards / "00003.tar", range(50, 52))
    os.utime(shards / "00001.tar", ns=(1, 1))
    assert (read(), read()) == (2, 0)


def test_stopped_work_goes_on_where_it_was_and_gives_the_same_manifest(shards: Path, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise StoppedError

    stored, out = list_shards([str(shards)]), tmp_path / "stopped.parquet"
    with pytest.raises(StoppedError):
        index_shards(stored, out, HERE, stop)
    assert not out.exists()
    assert index_shards(stored, out, HERE).read == 1
    whole = index_shards(stored, tmp_path / "whole.parquet", HERE).manifest
    assert whole.samples.equals(read_manifest(out).samples)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shards", "stopped.parquet", "whole.parquet"]


def test_a_manifest_moves_with_its_shards_and_has_the_same_fingerprint(shards: Path, tmp_path: Path) -> None:
    gapctl("data", "index", str(shards))
    before = read_manifest(shards / "manifest.parquet")
    moved = shards.rename(tmp_path / "moved")
    after = read_manifest(moved / "manifest.parquet")
    require_unchanged_shards(moved / "manifest.parquet", after)
    assert after.fingerprint == before.fingerprint
    assert after.shards[0].address == str(moved / "00000.tar")


def test_processes_give_what_one_process_gives(shards: Path) -> None:
    stored = list_shards([str(shards)])
    assert dict(Workers(2).each(make_manifest_part, stored)) == {
        place: make_manifest_part(each) for place, each in enumerate(stored)
    }


def test_shards_are_read_from_an_object_store(shards: Path) -> None:
    store = fsspec.filesystem("memory")
    for path in shards.iterdir():
        store.pipe_file(f"/bucket/{path.name}", path.read_bytes())
    there = build_manifest(list_shards(["memory:///bucket/{00000..00001}.tar"]), HERE)
    here = build_manifest(list_shards([str(shards)]), HERE)
    assert [shard.fingerprint for shard in there.shards] == [shard.fingerprint for shard in here.shards[:2]]
    assert len(list_shards(["memory:///bucket"])) == 3


WRONG: list[tuple[dict[str, bytes | None], SampleProblem]] = [
    ({"jpg": None}, SampleProblem.NO_IMAGE),
    ({"jpg": b""}, SampleProblem.NO_IMAGE),
    ({"txt": None}, SampleProblem.NO_CAPTION),
    ({"txt": b" \n"}, SampleProblem.NO_CAPTION),
    ({"txt": b"caf\xe9"}, SampleProblem.CAPTION_NOT_UTF8),
    ({"txt": b"word " * 20_000}, SampleProblem.CAPTION_HUGE),
    ({"jpg": b"\n <!DOCTYPE html><p>gone"}, SampleProblem.HTML),
    ({"jpg": b"GIF89a" + bytes(40)}, SampleProblem.NOT_AN_IMAGE),
    ({"jpg": bomb()}, SampleProblem.BOMB),
    ({"jpg": picture("RGB", (1, 30), "JPEG")}, SampleProblem.ONE_PIXEL),
    ({"jpg": picture("CMYK", (9, 9), "JPEG")}, SampleProblem.CMYK),
    ({"jpg": animated()}, SampleProblem.ANIMATED),
    ({"jpg": b"\xff\xd8\xff\xe0\0\x04ab"}, SampleProblem.UNREADABLE),
]


@pytest.mark.parametrize(("changed", "problem"), WRONG, ids=[f"{problem}" for _, problem in WRONG])
def test_what_is_wrong_with_a_sample_is_named_and_its_neighbours_stay(
    changed: dict[str, bytes | None], problem: SampleProblem, tmp_path: Path
) -> None:
    spoilt = {ending: content for ending, content in {**pair(0), **changed}.items() if content is not None}
    path = write_shard(tmp_path / "a.tar", [("0", pair(1)), ("1", spoilt), ("2", pair(2))])
    assert build_manifest(list_shards([str(path)]), HERE).samples["problem"].to_list() == [None, problem.value, None]


def test_a_size_below_zero_is_damage_and_no_way_back(tmp_path: Path) -> None:
    content = bytearray(write_pairs(tmp_path / "a.tar", [1]).read_bytes())
    content[124:136] = b"-0000000001\0"
    assert scan_tar(bytes(content)).damage == "what stands at byte 0 is not a tar header"


@pytest.mark.parametrize("name", ["../../etc/cron", "/etc/passwd", "a/../b"])
def test_a_name_that_leaves_the_folder_is_left_out(name: str, tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", [(name, pair(0))])
    assert build_manifest(list_shards([str(path)]), HERE).samples["problem"].to_list() == [SampleProblem.ODD_NAME.value]


@pytest.mark.parametrize(
    ("form", "size", "options"),
    [
        ("JPEG", (31, 17), {}),
        ("JPEG", (31, 17), {"progressive": True, "icc_profile": bytes(70_000)}),
        ("PNG", (300, 2), {}),
        ("WEBP", (31, 17), {}),
        ("WEBP", (31, 17), {"lossless": True}),
        ("WEBP", (31, 17), {"exif": b"Exif\0\0" + bytes(20)}),
    ],
)
def test_the_size_of_an_image_is_read_from_its_header(
    form: str, size: tuple[int, int], options: dict[str, object], tmp_path: Path
) -> None:
    path = write_shard(tmp_path / "a.tar", [("0", {**pair(0), "jpg": picture("RGB", size, form, **options)})])
    row = build_manifest(list_shards([str(path)]), HERE).samples.row(0, named=True)
    assert (row["form"], (row["width"], row["height"]), row["problem"]) == (form.lower(), size, None)


def test_members_of_other_kinds_are_counted_and_never_read(tmp_path: Path) -> None:
    import pickle

    path = write_shard(tmp_path / "a.tar", [("0", {**pair(0), "pyd": pickle.dumps(Exploding()), "cls": b"3"})])
    manifest = build_manifest(list_shards([str(path)]), HERE)
    assert manifest.shards[0].ignored == {"cls": 1, "pyd": 1}
    assert manifest.samples["problem"].to_list() == [None]


def test_a_shard_that_was_cut_keeps_the_samples_before_the_cut(shards: Path) -> None:
    path = shards / "00001.tar"
    content = path.read_bytes()
    whole = index_shard(content).samples
    path.write_bytes(content[: whole[2].image_offset + 10])
    ran = gapctl("data", "index", str(shards), "--json")
    document = json.loads(ran.out)
    assert (ran.exit_code, document["usable"]) == (0, 10)
    assert "cut short" in document["damaged"][str(path)]
    path.write_bytes(content)
    assert json.loads(gapctl("data", "index", str(shards), "--json").out)["usable"] == 12


def test_a_copy_of_a_sample_is_a_duplicate_and_a_shared_key_is_told(shards: Path) -> None:
    write_shard(shards / "00009.tar", [("000001", pair(1)), ("000002", pair(30))])
    document = json.loads(gapctl("data", "index", str(shards), "--json").out)
    assert document["problems"] == {SampleProblem.DUPLICATE.value: 1}
    assert document["shared_keys"] == 2
    (shards / "00009.tar").unlink()
    assert json.loads(gapctl("data", "index", str(shards), "--json").out)["problems"] == {}


@pytest.mark.parametrize("change", ["gone", "longer", "again"])
def test_a_manifest_older_than_its_shards_is_refused(shards: Path, change: str) -> None:
    gapctl("data", "index", str(shards))
    path = shards / "00001.tar"
    if change == "gone":
        path.unlink()
    elif change == "longer":
        path.write_bytes(path.read_bytes() + bytes(512))
    else:
        os.utime(path, ns=(1, 1))
    ran = gapctl("data", "stats", str(shards / "manifest.parquet"))
    assert (ran.exit_code, ran.out) == (2, "")
    assert f"is older than its shards: {path}" in ran.err
    assert "gapctl data index SHARDS --out" in ran.err


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (("nowhere",), "nowhere: no such file or folder; expected tar shards"),
        (("{0..",), "braces that do not match"),
        (("empty",), "no .tar file in this folder"),
        (("memory:///nothing",), "nothing is there"),
        (("foo://bucket/a.tar",), "s3:// needs the package s3fs"),
        (("shards", "--out", "page.tar/m.parquet"), "cannot be written"),
        (("shards", "--out", "m.csv"), "expected a name that ends in .parquet"),
        (("shards", "--out", "foreign.parquet"), "is not a manifest of shards. Nothing was written"),
        (("page.tar",), "none of its samples can be used"),
    ],
)
def test_what_cannot_be_indexed_is_one_message(
    shards: Path, monkeypatch: pytest.MonkeyPatch, places: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(shards.parent)
    Path("empty").mkdir()
    Path("page.tar").write_text("<html>", encoding="utf-8")
    pl.DataFrame({"a": [1]}).write_parquet("foreign.parquet")
    ran = gapctl("data", "index", *places)
    assert ran.exit_code == 2
    assert message in " ".join(ran.err.split())


def test_two_at_once_do_not_write_one_manifest(shards: Path, tmp_path: Path) -> None:
    stored, out = list_shards([str(shards)]), tmp_path / "m.parquet"

    def another(done: int, total: int) -> None:
        with pytest.raises(InputError, match="another gapctl is making it now"):
            index_shards(stored, out, HERE)

    index_shards(stored, out, HERE, another)
