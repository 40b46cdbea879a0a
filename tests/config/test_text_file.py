"""A text file means the same whichever editor wrote it, and what is no text is named with its place."""

from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import gapctl
from gapctl.data.image_text.class_prompts import read_attribute_prompts, read_class_prompts
from gapctl.data.image_text.index import iterate_shard_samples
from gapctl.data.image_text.shard_index import index_shard
from gapctl.errors import InputError
from pair_shards import pair, write_shard

CLASSES = "# the shapes\na photo of a {}\nsquare\nbar = bar or stripe\n"
ATTRIBUTES = "[colour]\nred\ngreen\n"
MARK = "\ufeff"

EDITORS: dict[str, Callable[[str], str]] = {
    "with a byte order mark": lambda text: MARK + text,
    "with a mark before each line, as of files put together": lambda text: MARK + text.replace("\n", f"\n{MARK}"),
    "with Windows line ends": lambda text: MARK + text.replace("\n", "\r\n"),
    "with old Mac line ends": lambda text: text.replace("\n", "\r"),
    "with blanks at the ends of lines": lambda text: text.replace("\n", " \t\n"),
    "with empty lines": lambda text: text.replace("\n", "\n\n \n"),
    "without a last line end": str.rstrip,
}


@pytest.mark.parametrize("editor", EDITORS)
def test_prompts_are_the_same_from_every_editor(editor: str, tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_bytes(EDITORS[editor](CLASSES).encode())
    assert read_class_prompts(path).prompts == {
        "square": ("a photo of a square",),
        "bar": ("a photo of a bar or stripe",),
    }

    path.write_bytes(EDITORS[editor](ATTRIBUTES).encode())
    assert list(read_attribute_prompts(path)["colour"].prompts) == ["red", "green"]


def test_a_mark_that_comes_first_does_not_hide_a_comment_or_a_class_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(f"{MARK}# cat\ncat\ndog\n".encode())
    assert list(read_class_prompts(path).prompts) == ["cat", "dog"]

    path.write_bytes(f"cat\ndog\n{MARK}cat\n".encode())
    with pytest.raises(InputError, match="cat given twice"):
        read_class_prompts(path)


def test_only_line_ends_end_a_line(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("cat\u2028or kitten\ndog\x0band puppy\n".encode())

    assert list(read_class_prompts(path).prompts) == ["cat\u2028or kitten", "dog\x0band puppy"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat\nK\xe4fer\n".encode("latin-1"), "{}:2:2: not UTF-8: found the byte 0xe4; expected a text file in UTF-8"),
        ("cat\ndog\n".encode("utf-16"), "{}:1:1: not UTF-8: found the byte 0xff, as UTF-16 begins"),
        ("cat\ndog\n".encode("utf-16-be"), "{}:1: found the byte 0x00; expected a text file with one class per line"),
    ],
)
def test_another_encoding_is_named_with_its_place(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(content)

    with pytest.raises(InputError) as refused:
        read_class_prompts(path)
    assert str(refused.value).startswith(message.format(f"--classes {path}"))


def test_notes_on_findings_in_another_encoding_are_answered(tmp_path: Path) -> None:
    path = tmp_path / "notes.yaml"
    path.write_bytes("claim 1: caf\xe9\n".encode("latin-1"))
    answer = gapctl("claims", "--runs", str(tmp_path), "--notes", str(path))

    assert answer.exit_code == 2
    assert f"--notes {path}:1:13: not UTF-8: found the byte 0xe9" in answer.err
    assert f"--notes {tmp_path}: is a folder" in gapctl("claims", "--notes", str(tmp_path)).err


def test_captions_and_json_begin_after_a_byte_order_mark(tmp_path: Path) -> None:
    plain, about = pair(1)["txt"], pair(1)["json"]
    marked = {**pair(1), "txt": MARK.encode() + plain + b"\r\n", "json": MARK.encode() + about}
    empty = {**pair(2), "txt": MARK.encode()}
    shard = write_shard(tmp_path / "a.tar", [("plain", pair(1)), ("marked", marked), ("nothing", empty)])

    first, second, third = iterate_shard_samples(shard)
    assert (second.caption, second.about) == (first.caption, first.about)
    assert third.caption is None
    rows = index_shard(shard.read_bytes()).samples
    assert rows[0].caption_mark == rows[1].caption_mark
    assert rows[0].characters == rows[1].characters
    assert rows[2].problem == "no caption"
