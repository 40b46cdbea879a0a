"""A shard comes as batches that hold what can be used of it, and what is wrong with it is said, not raised."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gapctl.data.image_text.class_prompts import CaptionLineMode
from gapctl.inference.shards import BATCH_SIZE, read_batches
from pair_shards import pair, write_pairs, write_shard

MODEL = "ViT-S-32-alt"
SIZE = 16
PREPROCESS: dict[str, Any] = {
    "size": SIZE,
    "mode": "RGB",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}


def batches(shard: Path, captions: CaptionLineMode = CaptionLineMode.LINES) -> list[dict[str, Any]]:
    row = {"shard": 7, "path": str(shard)}
    return list(read_batches(row, model=MODEL, preprocess=PREPROCESS, captions=captions))


def keys(batch: dict[str, Any]) -> list[str]:
    return [key for key, _, _ in json.loads(batch["samples"])]


def test_samples_come_in_the_order_of_the_tar_in_batches_of_one_size(tmp_path: Path) -> None:
    found = batches(write_pairs(tmp_path / "a.tar", range(2 * BATCH_SIZE + 3)))

    assert [len(keys(batch)) for batch in found] == [BATCH_SIZE, BATCH_SIZE, 3]
    assert [key for batch in found for key in keys(batch)] == [f"{number:06d}" for number in range(2 * BATCH_SIZE + 3)]
    assert [batch["last"] for batch in found] == [False, False, True]
    images = np.frombuffer(found[0]["images"], np.float32).reshape(BATCH_SIZE, 3, SIZE, SIZE)
    assert images[0, 0, 4, 8] > images[0, 1, 4, 8]  # the first picture is red
    assert len(found[0]["tokens"]) == 8 * BATCH_SIZE * 77


def test_a_shard_of_whole_batches_ends_in_an_empty_one(tmp_path: Path) -> None:
    found = batches(write_pairs(tmp_path / "a.tar", range(BATCH_SIZE)))

    assert [(len(keys(batch)), batch["last"], batch["error"]) for batch in found] == [
        (BATCH_SIZE, False, ""),
        (0, True, ""),
    ]


def test_what_cannot_be_used_is_left_out_and_named(tmp_path: Path) -> None:
    samples = {
        "sound": pair(0),
        "broken": {**pair(1), "jpg": pair(1)["jpg"][:200]},
        "noise": {**pair(2), "jpg": b"noise"},
        "silent": {**pair(3), "txt": b"  "},
        "blind": {"txt": b"words"},
    }
    (found,) = batches(write_shard(tmp_path / "a.tar", samples.items()))

    assert keys(found) == ["sound"]
    assert json.loads(found["skipped"]) == {
        "broken": "undecodable image",
        "noise": "undecodable image",
        "silent": "no caption",
        "blind": "no image",
    }


COCO = b"a red square\n\n  one square \r\na thing, red\n \n"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (CaptionLineMode.LINES, ["a red square", "one square", "a thing, red"]),
        (CaptionLineMode.WHOLE, ["a red square\n\n  one square \r\na thing, red"]),
    ],
)
def test_lines_are_captions_or_one_caption_and_blank_ones_are_none(
    tmp_path: Path, rule: CaptionLineMode, expected: list[str]
) -> None:
    samples = {"a": {**pair(0), "txt": COCO}, "b": pair(1), "c": {**pair(2), "txt": b"\n \r\n\t\n"}}
    (found,) = batches(write_shard(tmp_path / "a.tar", samples.items()), rule)

    assert [captions for _, captions, _ in json.loads(found["samples"])] == [expected, ["a green bar"]]
    assert found["texts"] == len(expected) + 1
    assert len(found["tokens"]) == 8 * 77 * found["texts"]
    assert json.loads(found["skipped"]) == {"c": "no caption"}


@pytest.mark.parametrize("text", [b"one\x0bline", "one\u2028line".encode(), b"one\x0cline\x1cindeed", b"one line\n"])
def test_only_line_ends_part_captions(tmp_path: Path, text: bytes) -> None:
    (found,) = batches(write_shard(tmp_path / "a.tar", [("a", {**pair(0), "txt": text})]))

    assert found["texts"] == 1


def test_a_text_of_thousands_of_lines_is_no_list_of_captions(tmp_path: Path) -> None:
    book = {**pair(0), "txt": b"word\n" * 1001}
    (found,) = batches(write_shard(tmp_path / "a.tar", [("book", book), ("sound", pair(1))]))

    assert (keys(found), json.loads(found["skipped"])) == (["sound"], {"book": "over 1,000 captions"})


def test_a_member_that_could_only_be_unpickled_is_passed_over(tmp_path: Path) -> None:
    (found,) = batches(write_shard(tmp_path / "a.tar", [("a", {**pair(0), "pyd": b"\x80\x04.", "pickle": b"cos\n"})]))

    assert (keys(found), found["error"]) == (["a"], "")


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:3000])
    return path


def test_a_tar_that_was_cut_short_is_an_error_with_its_place(tmp_path: Path) -> None:
    found = batches(cut(write_pairs(tmp_path / "a.tar", range(4))))[-1]

    assert found["error"].startswith(f"{tmp_path / 'a.tar'}: a damaged tar, after ")
    assert found["last"]


def cut_between_members(path: Path) -> Path:
    with tarfile.open(path) as archive:
        third = archive.getmembers()[6]
    path.write_bytes(path.read_bytes()[: third.offset])
    return path


def spoil_a_header(path: Path) -> Path:
    with tarfile.open(path) as archive:
        third = archive.getmembers()[6]
    content = bytearray(path.read_bytes())
    content[third.offset + 150] ^= 0xFF
    path.write_bytes(bytes(content))
    return path


@pytest.mark.parametrize("spoil", [cut_between_members, spoil_a_header])
def test_a_tar_that_ends_before_its_end_is_an_error(tmp_path: Path, spoil: Callable[[Path], Path]) -> None:
    found = batches(spoil(write_pairs(tmp_path / "a.tar", range(4))))[-1]

    assert "a damaged tar, after 2 samples" in found["error"]


def test_only_the_decoders_of_the_named_formats_see_an_image(tmp_path: Path) -> None:
    postscript = {**pair(0), "jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"}
    (found,) = batches(write_shard(tmp_path / "a.tar", [("eps", postscript), ("sound", pair(1))]))

    assert keys(found) == ["sound"]
    assert json.loads(found["skipped"]) == {"eps": "undecodable image"}


def test_samples_at_the_places_that_are_left_out_are_not_read(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "a.tar", range(4))
    row = {"shard": 7, "path": str(path), "left_out": "[0, 2]"}

    (found,) = read_batches(row, model=MODEL, preprocess=PREPROCESS, captions=CaptionLineMode.LINES)

    assert keys(found) == ["000001", "000003"]
    assert json.loads(found["skipped"]) == {}


@pytest.mark.parametrize("members", [{"txt": b"words"}, {"jpg": b"noise", "txt": b"words"}, {"jpg": pair(0)["jpg"]}])
def test_a_shard_of_which_nothing_is_left_has_no_samples_and_is_no_error(
    tmp_path: Path, members: dict[str, bytes]
) -> None:
    (found,) = batches(write_shard(tmp_path / "a.tar", [("a", members), ("b", members)]))

    assert (keys(found), found["images"], found["error"], found["last"]) == ([], b"", "", True)
    assert len(json.loads(found["skipped"])) == 2
