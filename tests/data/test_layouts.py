"""Data of every layout become the same shards, and what is wrong with them is said with its row, column or key."""

import errno
import json
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

from command_line import gapctl
from gapctl.data.image_text import pack
from gapctl.data.image_text.index import read_samples
from gapctl.data.image_text.layouts import recognise_layout
from gapctl.data.image_text.manifest import read_manifest
from gapctl.data.image_text.pack import KeyNamer, pack_place, pack_shards, resolve_shards
from gapctl.data.image_text.questions import split_caption_lines
from gapctl.data.image_text.storage import list_shards
from gapctl.errors import InputError
from layout_places import (
    IMAGES,
    LAYOUTS,
    captions,
    coco,
    write_classification,
    write_coco,
    write_csv,
    write_folder,
    write_images,
    write_img2dataset,
)
from pair_shards import pair, write_pairs, write_shard


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GAPCTL_CACHE", str(folder))
    return folder


def contents(place: Path | str) -> list[tuple[bytes | None, list[str]]]:
    """Image and captions of every sample, in order, as other verbs would read them."""
    shards = [each for place in resolve_shards([str(place)], local=True) for each in place.shards]
    samples = [sample for shard in list_shards(shards) for sample in read_samples(Path(shard.address))]
    return [(sample.image, split_caption_lines(sample.caption or "")) for sample in samples]


SAME = [(pair(number)["jpg"], captions(number)) for number in IMAGES]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_the_same_images_and_captions_in_the_same_order(layout: str, tmp_path: Path) -> None:
    assert contents(LAYOUTS[layout](tmp_path)) == SAME


def test_what_is_packed_is_packed_once_and_again_when_a_file_changes(tmp_path: Path, cache: Path) -> None:
    place = write_folder(tmp_path)
    first = resolve_shards([str(place)], local=True)

    assert resolve_shards([str(place)], local=True) == first
    assert [path.name for path in (cache / "packed").iterdir()] == [Path(first[0].shards[0]).name]
    (place / "000000.txt").write_text("other words", encoding="utf-8")
    again = resolve_shards([str(place)], local=True)
    assert again[0].shards != first[0].shards
    assert contents(place)[0][1] == ["other words"]


def test_a_folder_of_the_cache_that_lost_a_shard_is_made_again(tmp_path: Path) -> None:
    place = write_folder(tmp_path)
    packed = Path(resolve_shards([str(place)], local=True)[0].shards[0])
    (packed / "00000.tar").unlink()

    assert contents(place) == SAME


def test_well_formed_shards_are_read_where_they_are(tmp_path: Path, cache: Path) -> None:
    place = str(write_img2dataset(tmp_path))

    assert [tuple(each) for each in resolve_shards([place], local=True)] == [(place, (place,), None)]
    assert not (cache / "packed").exists()


def test_a_manifest_stands_for_its_shards(tmp_path: Path) -> None:
    place = write_img2dataset(tmp_path)
    assert gapctl("data", "index", str(place), "--out", str(tmp_path / "m.parquet")).exit_code == 0

    assert contents(tmp_path / "m.parquet") == SAME


def test_packed_shards_are_the_same_bytes_each_time_and_of_the_size_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "SAMPLES_PER_SHARD", 4)
    place = write_coco(tmp_path)
    for name in ("one", "other"):
        pack_place(str(place), tmp_path / name)

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
        pack_place(place, out, on_progress=stop)
    assert not out.exists()
    shown: list[int] = []
    pack_place(place, out, on_progress=lambda done, total: shown.append(done))
    pack_place(place, tmp_path / "whole")

    assert shown == [5, 6]
    assert {path.name: path.read_bytes() for path in out.glob("*.tar")} == {
        path.name: path.read_bytes() for path in (tmp_path / "whole").glob("*.tar")
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out", "pairs.csv", "whole"]


def test_several_at_once_pack_a_place_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, made = str(write_folder(tmp_path)), []
    write = pack._write_shard

    def count(*arguments: Any) -> Any:
        made.append(arguments[0])
        time.sleep(0.2)  # long enough for the others to arrive
        return write(*arguments)

    monkeypatch.setattr(pack, "_write_shard", count)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: resolve_shards([place], local=True), range(4)))

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


def test_lines_within_one_caption_become_spaces_and_labels_are_kept(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    rows = 'path,text,colour\nimages/000001.jpg,"two\nlines ",red\nimages/000002.jpg,more,\n'
    (tmp_path / "pairs.csv").write_text(rows, encoding="utf-8")
    pack_place(str(tmp_path / "pairs.csv"), tmp_path / "out")

    samples = list(read_samples(tmp_path / "out" / "00000.tar"))
    assert [(sample.key, sample.caption) for sample in samples] == [
        ("images/000001", "two lines"),
        ("images/000002", "more"),
    ]
    assert samples[0].about == {"path": "images/000001.jpg", "colour": "red"}
    assert samples[1].about == {"path": "images/000002.jpg"}


def test_the_json_of_a_folder_and_of_coco_is_kept(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    (folder / "000003.json").write_text('{"shape": "bar"}', encoding="utf-8")
    (tmp_path / "coco").mkdir()
    packed = {
        name: pack_place(str(place), tmp_path / name)
        for name, place in (("a", folder), ("b", write_coco(tmp_path / "coco")))
    }

    assert packed["a"].captions == packed["b"].captions == 30
    about = {name: [each.about for each in read_samples(tmp_path / name / "00000.tar")] for name in packed}
    assert about["a"] == [{}, {}, {}, {"shape": "bar"}, {}, {}]
    assert about["b"][1] == {"id": 101, "file_name": "000001.jpg", "height": 48}


def test_a_folder_of_a_folder_keeps_its_keys_and_odd_names_get_one_that_a_tar_can_have(tmp_path: Path) -> None:
    for name in ("b/a.1", "b/a_1", "c/x", ".hidden", "b/._y"):
        path = tmp_path / "photos" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pair(1)["jpg"])
        path.with_suffix(".txt").write_text("words", encoding="utf-8")
    (tmp_path / "photos" / "c" / "x.jpg").rename(tmp_path / "photos" / "c" / "x.JPG")
    pack_place(str(tmp_path / "photos"), tmp_path / "out")

    samples = list(read_samples(tmp_path / "out" / "00000.tar"))
    assert [(sample.key, sample.about) for sample in samples] == [
        ("b/a_1", {"source_key": "b/a.1"}),
        ("b/a_1-2", {"source_key": "b/a_1"}),
        ("c/x", {}),
    ]


@pytest.mark.parametrize(
    ("wanted", "key"),
    [
        ("/data/a.jpg", "data/a"),
        ("../../a.png", "a"),
        ("a\\b.jpg", "a/b"),
        ("https", "https"),
        ("..", "image"),
        ("__MACOSX/a", "key___MACOSX_a"),
        (".a", "_a"),
    ],
)
def test_a_key_never_leaves_its_folder(wanted: str, key: str) -> None:
    assert KeyNamer().name_key(wanted) == key


def test_what_lacks_its_partner_or_is_no_image_is_counted(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    (folder / "000001.txt").unlink()
    (folder / "000002.jpg").unlink()
    (folder / "000003.jpg").write_bytes(b"<html>")
    (folder / "000004.txt").write_bytes(b"caf\xe9")
    (folder / "000005.jpg").rename(folder / "000005.gif")
    (folder / "000005.gif").write_bytes(b"GIF89a")

    ran = gapctl("data", "pack", str(folder), "--out", str(tmp_path / "out"), "--json")

    assert (ran.exit_code, ran.err) == (0, "")
    assert (json.loads(ran.out)["samples"], json.loads(ran.out)["usable"]) == (6, 1)
    problems = read_manifest(tmp_path / "out" / "manifest.parquet").samples["problem"].to_list()
    assert problems == [
        None,
        "no caption",
        "no image",
        "HTML in place of an image",
        "caption not UTF-8",
        "not a JPEG, PNG or WebP",
    ]


def test_shards_with_class_labels_get_prompts_for_captions_and_keep_the_labels(tmp_path: Path) -> None:
    place = write_classification(tmp_path)
    pack_place(str(place), tmp_path / "out")

    samples = list(read_samples(tmp_path / "out" / "00000.tar"))
    assert [sample.caption for sample in samples[:2]] == ["a photo of a cat.", "a photo of a dog."]
    assert [sample.about for sample in samples[1:3]] == [{"cls": 1, "class": "dog"}, {"cls": 2, "class": "dog"}]
    classes = pack.find_packed_classes([str(tmp_path / "out")])
    assert classes is not None
    assert classes.build_prompts().prompts == {
        "0": ("a photo of a cat.", "a drawing of a cat."),
        "1": ("a photo of a dog.", "a drawing of a dog."),
        "2": ("a photo of a dog.", "a drawing of a dog."),
    }


def test_a_key_that_stands_several_times_in_an_unsorted_tar_is_as_many_samples(tmp_path: Path) -> None:
    first = [("a", {"jpg": pair(1)["jpg"]}), ("b", {"jpg": pair(2)["jpg"]}), ("a", {"jpg": pair(3)["jpg"]})]
    then = [("b", {"txt": b"of b"}), ("a", {"txt": b"first"}), ("a", {"txt": b"second"}), ("c", {"txt": b"c"})]
    place = write_shard(tmp_path / "a.tar", [*first, *then])

    assert contents(place) == [
        (pair(1)["jpg"], ["first"]),
        (pair(2)["jpg"], ["of b"]),
        (pair(3)["jpg"], ["second"]),
        (None, ["c"]),
    ]


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
    assert "out: holds other data; expected a new or empty folder. Nothing was written" in refused.err


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


def wrong_csv(text: str | bytes) -> Callable[[Path], Path]:
    def write(place: Path) -> Path:
        write_images(place)
        (place / "p.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        return place / "p.csv"

    return write


def wrong_coco(text: str) -> Callable[[Path], Path]:
    def write(place: Path) -> Path:
        write_images(place)
        (place / "c.json").write_text(text, encoding="utf-8")
        return place / "c.json"

    return write


def changed_coco(change: Callable[[dict[str, list[dict[str, object]]]], object]) -> Callable[[Path], Path]:
    document = coco()
    change(document)
    return wrong_coco(json.dumps(document))


def parquet(**columns: object) -> Callable[[Path], Path]:
    def write(place: Path) -> Path:
        write_images(place)
        pl.DataFrame(columns).write_parquet(place / "p.parquet")
        return place / "p.parquet"

    return write


def mixed(*layouts: Callable[[Path], Path], name: str = "photos") -> Callable[[Path], Path]:
    def write(place: Path) -> Path:
        for layout in layouts:
            layout(place / name if layout in (write_csv, write_two_csv) else place)
        return place / name

    return write


def write_two_csv(place: Path) -> Path:
    for name in ("train", "test"):
        (place / f"{name}.csv").write_text("image,caption\n", encoding="utf-8")
    return place


def write_pairs_beside(place: Path) -> Path:
    return write_pairs(place / "photos" / "0.tar", [1, 2])


def write_twins(place: Path) -> Path:
    write_folder(place)
    (place / "photos" / "000000.png").touch()
    return place / "photos"


def splits(place: Path) -> Path:
    for name in ("train", "test"):
        (place / "set" / name).mkdir(parents=True)
        write_pairs(place / "set" / name / "0.tar", [1])
    return place / "set"


def labels_of(
    label: bytes | None, names: str | None = "cat\ndog\n", templates: str = "a {c}\n"
) -> Callable[[Path], Path]:
    def write(place: Path) -> Path:
        members = {"jpg": pair(1)["jpg"], **({"cls": label} if label is not None else {})}
        write_shard(place / "0.tar", [("k1", {"jpg": pair(0)["jpg"], "cls": b"0"}), ("k2", members)])
        if names is not None:
            (place / "classnames.txt").write_text(names, encoding="utf-8")
        (place / "zeroshot_classification_templates.txt").write_text(templates, encoding="utf-8")
        return place

    return write


def a_file(name: str, content: bytes = b"PK\3\4") -> Callable[[Path], Path]:
    def write(place: Path) -> Path:
        (place / name).write_bytes(content)
        return place / name

    return write


GOOD = "image,caption\n000000.jpg,words\n"
WRONG: dict[str, tuple[Callable[[Path], Path], str]] = {
    "too many cells": (wrong_csv(GOOD + "000001.jpg,one, two\n"), "p.csv: row 2 (line 3): 3 cells; expected 2, as"),
    "an empty caption": (wrong_csv(GOOD + "000001.jpg,  \n"), "row 2 (line 3), column 'caption': empty; expected a"),
    "an empty path": (wrong_csv(GOOD + '\n"",x\n'), "row 2 (line 4), column 'image': empty; expected the path"),
    "a missing image": (
        wrong_csv(GOOD + "a.jpg,x\nb.jpg,y\n"),
        "row 2 (line 3): a.jpg is not in {place} (2 of 3 images are missing)",
    ),
    "not UTF-8": (wrong_csv(GOOD.encode() + b"000001.jpg,caf\xe9\n"), "row 2 (line 3), column 'caption': not UTF-8"),
    "UTF-16": (wrong_csv(GOOD.encode("utf-16")), "p.csv: no csv: text in UTF-16, or no text at all"),
    "an unclosed quote": (wrong_csv(GOOD + '000001.jpg,"words\n'), "p.csv: line 3: no csv (unexpected end of data)"),
    "no table": (wrong_csv("some words\nmore\n"), "p.csv: no csv with a heading line: its first line is 'some words'"),
    "nothing": (wrong_csv(""), "p.csv: no csv with a heading line"),
    "no heading": (wrong_csv("000000.jpg,words\n"), "p.csv: no heading line: its first line is data ('000000.jpg')"),
    "no rows": (wrong_csv("image,caption\n"), "p.csv: no rows below the heading"),
    "no caption column": (wrong_csv("image,b\n000000.jpg,x\n"), "no column of captions; its heading has 'image', 'b'"),
    "a program": (wrong_csv(GOOD + "sftp://host/a.jpg,x\n"), "row 2 (line 3): sftp://host/a.jpg: an address by sftp://"),
    "no parquet": (a_file("p.parquet", b"words" * 9), "p.parquet: not a parquet table, or a damaged one"),
    "an empty cell": (parquet(path=["000000.jpg", None], text=["a", "b"]), "p.parquet: row 2, column 'path': empty"),
    "an empty list": (parquet(path=["000000.jpg"], text=[[""]]), "p.parquet: row 1, column 'text': empty"),
    "numbers": (parquet(path=[1], text=["a"]), "column 'path' holds Int64; expected paths, addresses or images"),
    "no bytes": (parquet(image=[None, b"a"], text=["a", "b"]), "p.parquet: row 1, column 'image': empty"),
    "no json": (wrong_coco("{"), "c.json: no json ("),
    "a list": (wrong_coco("[1]"), "c.json: no list `images` of objects in it (it has list); expected COCO's json"),
    "other json": (wrong_coco('{"a": 1}'), "c.json: no list `images` of objects in it (it has a); expected COCO"),
    "boxes": (
        changed_coco(lambda it: it["annotations"].insert(1, {"image_id": 100, "bbox": []})),
        "c.json: annotations, row 1: no `caption` (it has bbox, image_id): of boxes or key points?",
    ),
    "a caption of no image": (
        changed_coco(lambda it: it["annotations"][2].update(image_id=7)),
        "annotations, row 2: image_id 7 is none of the 6 images",
    ),
    "an empty annotation": (
        changed_coco(lambda it: it["annotations"][2].update(caption=" ")),
        "annotations, row 2: the caption of image 102 is empty",
    ),
    "an id twice": (changed_coco(lambda it: it["images"].append({**it["images"][0]})), "images, row 6: the id 100"),
    "no file name": (changed_coco(lambda it: it["images"][1].pop("file_name")), "images, row 1: without `id`"),
    "a missing file": (changed_coco(lambda it: it["images"][4].update(file_name="x.jpg")), "image 104: x.jpg is not"),
    "no images": (changed_coco(lambda it: it["images"][0].update(file_name="x.jpg")), "image 100: x.jpg is neither in"),
    "captions and shards": (mixed(write_folder, write_pairs_beside), "photos: shards (0.tar) and images with captions"),
    "captions and a table": (mixed(write_folder, write_csv), "captions beside images (000000) and a table (pairs.csv)"),
    "two tables": (mixed(write_csv, write_two_csv), "several files that may hold the captions: pairs.csv, test.csv,"),
    "images alone": (write_images, "6 images and no captions; expected tar shards"),
    "two images of one name": (write_twins, "000000.jpg and 000000.png have one caption, 000000.txt"),
    "two splits": (splits, "shards in several folders; expected one of them: {place}/set/test or {place}/set/train"),
    "no class names": (labels_of(b"1", names=None), "shards with class labels (.cls) and no captions (.txt), with"),
    "a class without a name": (labels_of(b"0", names="cat\n\ndog\n"), "classnames.txt: line 2 is empty; expected"),
    "one class": (labels_of(b"0", names="cat\n"), "classnames.txt: 1 classes; expected at least 2"),
    "a class too many": (labels_of(b"2"), "0.tar: sample k2: its class is '2'; expected a number from 0 to 1, a line"),
    "a class in words": (labels_of(b"dog"), "sample k2: its class is 'dog'"),
    "no class": (labels_of(None), "sample k2: its class is ''"),
    "no place for a class": (labels_of(b"1", templates="a {c}\na {}\n"), "templates.txt: line 2 with {c}; expected"),
    "an archive": (a_file("photos.zip"), "photos.zip: a file of no kind that is known here; expected tar shards"),
    "words": (a_file("words", b"words"), "words: a file of no kind that is known here; expected tar shards"),
    "nothing there": (lambda at: at / "nothing", "nothing: no such file or folder; expected tar shards (img2dataset's"),
    "a missing csv": (lambda at: at / "no.csv", "no.csv: no such file or folder; expected tar shards"),
    "a missing json": (lambda at: at / "no.json", "no.json: no such file or folder; expected tar shards"),
    "shards": (write_img2dataset, "shards: read as tar shards, which need no packing; expected"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_data_are_answered_with_where_and_what(wrong: str, tmp_path: Path) -> None:
    write, message = WRONG[wrong]
    place = write(tmp_path)

    ran = gapctl("data", "pack", str(place), "--out", str(tmp_path / "out"))

    assert (ran.exit_code, ran.out) == (2, ""), ran.err
    assert ran.err.startswith("gapctl: ")
    assert message.replace("{place}", str(tmp_path)) in ran.err
    assert ran.err.count("\n") == 1
    assert not [path.name for path in tmp_path.iterdir() if "out" in path.name]


def test_a_table_does_not_carry_other_files_of_the_machine_into_shards(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("root:x:0:0")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/x.csv").write_text("filepath,caption\n../secret,words\n")
    with pytest.raises(InputError, match=r"row 1 .*\.\./secret: outside the folder and not named as a picture"):
        recognise_layout(str(tmp_path / "data/x.csv"))


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
