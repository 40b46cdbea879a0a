"""Data that are no shards are packed once, go on where they were stopped, and harm no other file."""

import errno
import json
import shutil
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from command_line import gapctl
from gapctl.data.image_text import pack
from gapctl.data.image_text.layouts import recognise_layout
from gapctl.data.image_text.pack import find_or_pack_shards, pack_place_into_shards, pack_shards
from gapctl.errors import InputError
from layout_places import (
    SAME,
    contents,
    write_coco,
    write_csv,
    write_folder,
    write_images,
)

pytestmark = pytest.mark.usefixtures("cache")


def test_what_is_packed_is_packed_once_and_again_when_a_file_changes(tmp_path: Path, cache: Path) -> None:
    place = write_folder(tmp_path)
    first = find_or_pack_shards([str(place)], local=True)

    assert find_or_pack_shards([str(place)], local=True) == first
    assert [path.name for path in (cache / "packed").iterdir()] == [Path(first[0].shards[0]).name]
    (place / "000000.txt").write_text("other words", encoding="utf-8")
    again = find_or_pack_shards([str(place)], local=True)
    assert again[0].shards != first[0].shards
    assert contents(place)[0][1] == ["other words"]


def test_a_folder_of_the_cache_that_lost_a_shard_is_made_again(tmp_path: Path) -> None:
    place = write_folder(tmp_path)
    packed = Path(find_or_pack_shards([str(place)], local=True)[0].shards[0])
    (packed / "00000.tar").unlink()

    assert contents(place) == SAME


def test_packed_shards_are_the_same_bytes_each_time_and_of_the_size_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "SAMPLES_PER_SHARD", 4)
    place = write_coco(tmp_path)
    for name in ("one", "other"):
        pack_place_into_shards(str(place), tmp_path / name)

    one, other = (sorted((tmp_path / name).glob("*.tar")) for name in ("one", "other"))
    assert [path.name for path in one] == ["00000.tar", "00001.tar"]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    with tarfile.open(one[1]) as tar:
        assert tar.getnames() == [f"{n:06d}.{ending}" for n in (4, 5) for ending in ("jpg", "txt", "json")]


class StoppedError(Exception):
    """In place of a kill at this moment."""


def test_stopped_work_goes_on_after_its_last_whole_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "SAMPLES_PER_SHARD", 2)
    place, out = str(write_csv(tmp_path)), tmp_path / "out"

    def stop(done: int, total: int) -> None:
        assert total == 6
        if done == 5:
            raise StoppedError

    with pytest.raises(StoppedError):
        pack_place_into_shards(place, out, on_progress=stop)
    assert not out.exists()
    (scratch,) = tmp_path.glob(".out.packing-*")
    (scratch / ".00002.tar.0123abcd.part").write_bytes(b"of a killed process")
    shown: list[int] = []
    pack_place_into_shards(place, out, on_progress=lambda done, total: shown.append(done))
    pack_place_into_shards(place, tmp_path / "whole")

    assert shown == [5, 6]
    assert {path.name: path.read_bytes() for path in out.glob("*.tar")} == {
        path.name: path.read_bytes() for path in (tmp_path / "whole").glob("*.tar")
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out", "pairs.csv", "whole"]
    assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}


def test_several_at_once_pack_a_place_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, made = str(write_folder(tmp_path)), []
    write = pack._write_shard

    def count(*arguments: Any, **options: Any) -> Any:
        made.append(arguments[0])
        time.sleep(0.2)  # long enough for the others to arrive
        return write(*arguments, **options)

    monkeypatch.setattr(pack, "_write_shard", count)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: find_or_pack_shards([place], local=True), range(4)))

    assert found == [found[0]] * 4
    assert len(made) == 1
    assert [path.name for path in (cache / "packed").iterdir()] == [Path(found[0][0].shards[0]).name]


def test_a_full_disk_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gapctl.data.image_text.pack.tarfile.TarFile.addfile", full)
    ran = gapctl("data", "pack", str(write_folder(tmp_path)), "--out", str(tmp_path / "out"))

    assert (ran.exit_code, ran.out) == (1, "")
    assert ran.err == (
        f"gapctl: {tmp_path}/out: cannot be written (No space left on device). Make room, or set GAPCTL_CACHE to "
        "another folder; finished shards are kept\n"
    )


def test_pack_and_index_say_where_the_shards_are(tmp_path: Path, cache: Path) -> None:
    place = str(write_csv(tmp_path))
    packed = gapctl("data", "pack", place, "--out", str(tmp_path / "out"))
    indexed = gapctl("data", "index", place, "--json")

    assert packed.out == f"{tmp_path}/out: a table, 6 usable of 6 samples with 30 captions, in 1 shard\n"
    document = json.loads(indexed.out)
    assert (document["usable"], Path(document["manifest"]).parent.parent) == (6, cache / "packed")
    again = gapctl("data", "pack", place, "--out", str(tmp_path / "out"))
    assert again == packed
    refused = gapctl("data", "pack", str(write_folder(tmp_path)), "--out", str(tmp_path / "out"))
    assert (refused.exit_code, refused.out) == (2, "")
    assert "out: holds other data; expected a new or empty folder. Nothing there was changed" in refused.err


def test_columns_and_the_folder_of_images_can_be_named(tmp_path: Path) -> None:
    images = write_images(tmp_path / "elsewhere" / "pictures")
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "list.tsv").write_text("was\tist\na\t000001.jpg\nb\t000002.jpg\n", encoding="utf-8")
    place, out = str(tmp_path / "table" / "list.tsv"), str(tmp_path / "out")
    named = ("--image-column", "ist", "--caption-column", "was")

    assert (
        "no column of images; its heading has 'was', 'ist', expected one such as"
        in gapctl("data", "pack", place, "--out", out).err
    )
    assert (
        "no column 'iss', which --image-column names"
        in gapctl("data", "pack", place, "--out", out, "--image-column", "iss").err
    )
    missing = gapctl("data", "pack", place, "--out", out, *named)
    assert "list.tsv: row 1 (line 2): 000001.jpg is neither in" in missing.err
    ran = gapctl("data", "pack", place, "--out", out, *named, "--images", str(images), "--json")
    assert (ran.exit_code, ran.err) == (0, "")
    assert json.loads(ran.out)["usable"] == 2


def test_files_that_appear_while_packing_are_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"pictures/{number}.png")
        (tmp_path / f"pictures/{number}.txt").write_text("a picture")
    out = tmp_path / "out"

    def write_beside(*_: object) -> None:
        out.mkdir(exist_ok=True)
        (out / "thesis.txt").write_text("mine")

    with pytest.raises(InputError, match="holds other data"):
        pack_shards(recognise_layout(str(tmp_path / "pictures")), out, write_beside)
    assert (out / "thesis.txt").read_text() == "mine"


def test_hidden_files_of_a_folder_stay_when_it_is_filled(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / ".git").mkdir(parents=True)
    (out / ".git" / "config").write_text("mine")

    pack_place_into_shards(str(write_folder(tmp_path)), out)
    assert (out / ".git" / "config").read_text() == "mine"
    assert contents(out) == SAME


def test_a_shard_that_others_added_to_packed_ones_is_not_deleted(tmp_path: Path) -> None:
    place, out = str(write_folder(tmp_path)), tmp_path / "out"
    pack_place_into_shards(place, out)
    (out / "mine.tar").write_bytes(b"mine")
    (out / "00000.tar").unlink()
    (out / "another.tar").write_bytes(b"mine too")

    with pytest.raises(InputError, match="holds other data"):
        pack_place_into_shards(place, out)
    assert (out / "mine.tar").read_bytes() == b"mine"


@pytest.mark.parametrize("after", ["packed.json", "manifest.parquet", "00000.tar"])
def test_a_folder_that_was_filled_in_part_is_filled_again(
    after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "SAMPLES_PER_SHARD", 3)
    place, out = str(write_folder(tmp_path)), tmp_path / "out"
    out.mkdir()

    def stop_after(move: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def stop(path: Path, target: Path) -> Path:
            moved = move(path, target)
            if target == out / after:
                raise StoppedError
            return moved

        return stop

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", stop_after(Path.rename))
        patched.setattr(Path, "replace", stop_after(Path.replace))
        with pytest.raises(StoppedError):
            pack_place_into_shards(place, out)

    assert pack_place_into_shards(place, out).shards == 2
    assert contents(out) == SAME
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize("moved", range(5))
def test_shards_of_an_earlier_time_are_never_taken_for_those_packed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int, moved: int
) -> None:
    monkeypatch.setattr(pack, "SAMPLES_PER_SHARD", 2)
    place, out, rename = str(write_folder(tmp_path)), tmp_path / "out", Path.rename
    pack_place_into_shards(place, out)
    anew = {path.name: path.read_bytes() for path in out.glob("*.tar")}
    for path in out.glob("*.tar"):
        path.write_bytes(b"fetched at an earlier time")
    (out / f"{lost:05d}.tar").unlink()
    renamed: list[Path] = []

    def stop(path: Path, target: Path) -> Path:
        if target.parent == out:
            if len(renamed) == moved:
                raise StoppedError
            renamed.append(path)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stop)
    with suppress(StoppedError):
        pack_place_into_shards(place, out)
    monkeypatch.setattr(Path, "rename", rename)
    pack_place_into_shards(place, out)

    assert {path.name: path.read_bytes() for path in out.glob("*.tar")} == anew
    assert contents(out) == SAME


def test_a_folder_without_a_name_is_refused_as_any_that_holds_other_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="/: holds other data"):
        pack_place_into_shards(str(write_folder(tmp_path)), Path("/"))


def test_work_that_was_stopped_when_all_was_packed_packs_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, out = str(write_folder(tmp_path)), tmp_path / "out"

    def stop(*_: Any, **__: Any) -> None:
        raise StoppedError

    move = pack._move_packed_files
    monkeypatch.setattr(pack, "_move_packed_files", stop)
    with pytest.raises(StoppedError):
        pack_place_into_shards(place, out)
    monkeypatch.setattr(pack, "_move_packed_files", move)
    monkeypatch.setattr(pack, "_write_shard", stop)

    assert pack_place_into_shards(place, out).samples == 6
    assert contents(out) == SAME


def test_the_lock_is_held_until_the_folder_of_failed_work_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, delete, locked = str(write_folder(tmp_path)), shutil.rmtree, []

    def stop(*_: Any, **__: Any) -> None:
        raise StoppedError

    def note_lock(folder: Path, **options: Any) -> None:
        locked.append((tmp_path / ".out.lock").exists())
        delete(folder, **options)

    monkeypatch.setattr(pack, "_write_shard", stop)
    monkeypatch.setattr(shutil, "rmtree", note_lock)
    with pytest.raises(StoppedError):
        pack_place_into_shards(place, tmp_path / "out")

    assert locked == [True]
    assert not (tmp_path / ".out.lock").exists()
