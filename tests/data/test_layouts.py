"""Data of every layout become the same samples, with their labels, json and keys."""

import json
from pathlib import Path

import pytest

from command_line import gapctl
from gapctl.data.image_text import pack
from gapctl.data.image_text.index import iterate_shard_samples
from gapctl.data.image_text.manifest import read_manifest
from gapctl.data.image_text.pack import KeyNamer, find_or_pack_shards, pack_place_into_shards
from layout_places import (
    LAYOUTS,
    SAME,
    contents,
    write_classification,
    write_coco,
    write_folder,
    write_images,
    write_img2dataset,
)
from pair_shards import pair, write_shard

pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_the_same_images_and_captions_in_the_same_order(layout: str, tmp_path: Path) -> None:
    assert contents(LAYOUTS[layout](tmp_path)) == SAME


def test_well_formed_shards_are_read_where_they_are(tmp_path: Path, cache: Path) -> None:
    place = str(write_img2dataset(tmp_path))

    assert [tuple(each) for each in find_or_pack_shards([place], local=True)] == [(place, (place,), None)]
    assert not (cache / "packed").exists()


def test_a_manifest_stands_for_its_shards(tmp_path: Path) -> None:
    place = write_img2dataset(tmp_path)
    assert gapctl("data", "index", str(place), "--out", str(tmp_path / "m.parquet")).exit_code == 0

    assert contents(tmp_path / "m.parquet") == SAME


def test_lines_within_one_caption_become_spaces_and_labels_are_kept(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    rows = 'path,text,colour\nimages/000001.jpg,"two\nlines ",red\nimages/000002.jpg,more,\n'
    (tmp_path / "pairs.csv").write_text(rows, encoding="utf-8")
    pack_place_into_shards(str(tmp_path / "pairs.csv"), tmp_path / "out")

    samples = list(iterate_shard_samples(tmp_path / "out" / "00000.tar"))
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
        name: pack_place_into_shards(str(place), tmp_path / name)
        for name, place in (("a", folder), ("b", write_coco(tmp_path / "coco")))
    }

    assert packed["a"].captions == packed["b"].captions == 30
    about = {name: [each.about for each in iterate_shard_samples(tmp_path / name / "00000.tar")] for name in packed}
    assert about["a"] == [{}, {}, {}, {"shape": "bar"}, {}, {}]
    assert about["b"][1] == {"id": 101, "file_name": "000001.jpg", "height": 48}


def test_a_folder_of_a_folder_keeps_its_keys_and_odd_names_get_one_that_a_tar_can_have(tmp_path: Path) -> None:
    for name in ("b/a.1", "b/a_1", "c/x", ".hidden", "b/._y"):
        path = tmp_path / "photos" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pair(1)["jpg"])
        path.with_suffix(".txt").write_text("words", encoding="utf-8")
    (tmp_path / "photos" / "c" / "x.jpg").rename(tmp_path / "photos" / "c" / "x.JPG")
    pack_place_into_shards(str(tmp_path / "photos"), tmp_path / "out")

    samples = list(iterate_shard_samples(tmp_path / "out" / "00000.tar"))
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
    pack_place_into_shards(str(place), tmp_path / "out")

    samples = list(iterate_shard_samples(tmp_path / "out" / "00000.tar"))
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
