"""Data of a layout with something wrong are answered with the row, column or key."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from command_line import gapctl
from gapctl.data.image_text.layouts import recognise_layout
from gapctl.errors import InputError
from layout_places import (
    coco,
    write_csv,
    write_folder,
    write_images,
    write_img2dataset,
)
from pair_shards import pair, write_pairs, write_shard

pytestmark = pytest.mark.usefixtures("cache")


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
