"""Shards of the usual layout are indexed in bulk, with the same rows and fingerprint as member by member."""

import io
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gapctl.data.image_text import shard_index
from gapctl.data.image_text.class_prompts import CaptionLineMode
from gapctl.data.image_text.regular_tar import group_regular_members, scan_regular_tar
from gapctl.data.image_text.shard_index import index_members, index_shard
from pair_shards import pair
from shard_mutations import mutated_shard
from tar_blocks import BLOCK, END, header, member, sample, samples, tar_of

JPEG = pair(0)["jpg"]


def is_regular(content: bytes) -> bool:
    """Whether the shard is taken in bulk, as far as its headers and names go."""
    tar = scan_regular_tar(content)
    return tar is not None and group_regular_members(tar) is not None


def assert_indexed_alike(content: bytes, captions: CaptionLineMode | None = None) -> None:
    """Both ways give one index."""
    bulk, single = index_shard(content, captions), index_members(content, captions)
    assert bulk.rows.equals(single.rows)
    assert bulk.rows.schema == single.rows.schema
    assert bulk[1:] == single[1:]
    assert bulk.samples == single.samples


def picture(mode: str, size: tuple[int, int], form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.Generator(np.random.Philox(size[0])).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(noise).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


IMAGES: Mapping[str, bytes] = {
    "JPEG": JPEG,
    "progressive": picture("RGB", (40, 30), "JPEG", progressive=True),
    "grey": picture("L", (40, 30), "JPEG"),
    "CMYK": picture("CMYK", (40, 30), "JPEG"),
    "one pixel wide": picture("RGB", (1, 30), "JPEG"),
    "a long comment": picture("RGB", (40, 30), "JPEG", comment=b"x" * 60_000),
    "many comments": JPEG[:2] + 40 * b"\xff\xfe\x00\x05abc" + JPEG[2:],
    "filled up": JPEG[:2] + 10 * b"\xff" + JPEG[2:],
    "filled up for long": JPEG[:2] + 100 * b"\xff" + JPEG[2:],
    "bare markers": JPEG[:2] + b"\xff\xd0\xff\x01" + JPEG[2:],
    "a segment without length": JPEG[:2] + b"\xff\xfe\0\0" + JPEG[2:],
    "no segment": JPEG[:2] + b"\xff\x00" + JPEG[2:],
    "cut in the header": JPEG[:100],
    "only three bytes": JPEG[:3],
    "two bytes": JPEG[:2],
    "nothing": b"",
    "no height": JPEG.replace(b"\x00\x30\x00\x28", b"\x00\x00\x00\x28", 1),
    "large": picture("RGB", (300, 200), "JPEG"),
    "511 bytes": picture("RGB", (4, 4), "PNG").ljust(511, b"\1"),
    "512 bytes": picture("RGB", (4, 4), "PNG").ljust(512, b"\1"),
    "513 bytes": picture("RGB", (4, 4), "PNG").ljust(513, b"\1"),
    "PNG": picture("RGB", (40, 30), "PNG"),
    "absurd PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\xff" * 8 + bytes(20),
    "WebP": picture("RGB", (40, 30), "WEBP"),
    "lossless WebP": picture("RGB", (40, 30), "WEBP", lossless=True),
    "HTML": b"<html>gone",
}
CAPTIONS: Mapping[str, bytes] = {
    "plain": b"a red square",
    "one word": b"square",
    "accents": "une étoile à côté".encode(),
    "other white space": "a\u3000star\x1cand\xa0a\x85moon".encode(),
    "a mark that is not shown": "a\u200bstar".encode(),
    "a byte order mark": b"\xef\xbb\xbfa red square",
    "two of them": b"\xef\xbb\xbf\xef\xbb\xbfa red square",
    "spaces around": b"  a red square ",
    "two spaces": b"a  red square",
    "a tab": b"a\tred square",
    "a line end": b"a red square\n",
    "two lines": b"a red square\na blue bar",
    "a lone carriage return": b"a red square\ra blue bar",
    "a NUL": b"a\0red",
    "blank": b" \n ",
    "nothing": b"",
    "not UTF-8": b"caf\xe9",
    "64 KiB": b"a " * 32_768,
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_of_every_kind_are_inspected_alike(name: str) -> None:
    members = {
        "0.jpg": JPEG,
        "0.txt": b"before",
        "1.jpg": IMAGES[name],
        "1.txt": b"words",
        "2.jpg": JPEG,
        "2.txt": b"x",
    }
    content = tar_of(members)

    assert is_regular(content)
    assert_indexed_alike(content)


@pytest.mark.parametrize("mode", [None, *CaptionLineMode])
def test_captions_of_every_kind_are_inspected_alike(mode: CaptionLineMode | None) -> None:
    about = {"whole": b'{"caption": "a red square a blue bar"}', "other": b'{"caption": "a bar"}', "broken": b"{"}
    for words in about.values():
        members = {}
        for number, caption in enumerate(CAPTIONS.values()):
            members |= {f"{number}.jpg": JPEG, f"{number}.txt": caption, f"{number}.json": words}
        content = tar_of(members)
        assert is_regular(content)
        assert_indexed_alike(content, mode)


@given(st.lists(st.one_of(st.text(), st.text(alphabet=" ab\n\u00e9\u2028")), min_size=1, max_size=8))
def test_any_text_is_inspected_alike(texts: list[str]) -> None:
    content = tar_of(
        {f"{n}.{e}": c for n, text in enumerate(texts) for e, c in (("jpg", JPEG), ("txt", text.encode()))}
    )

    assert_indexed_alike(content)


LAYOUTS: Mapping[str, tuple[bytes, bool]] = {
    "as usual": (samples(range(5)) + END, True),
    "without json": (b"".join(sample(n, ("jpg", "txt")) for n in range(3)) + END, True),
    "in another order": (b"".join(sample(n, ("txt", "json", "jpg")) for n in range(3)) + END, True),
    "an image alone": (sample(0, ("jpg",)) + samples([1]) + END, True),
    "a caption alone": (samples([0]) + sample(1, ("txt", "json")) + END, True),
    "two images of a key": (tar_of({"0.png": IMAGES["PNG"], "0.jpg": JPEG, "0.txt": b"a"}), True),
    "endings in capitals": (tar_of({"0.JPG": JPEG, "0.Txt": b"a", "1.jPeG": JPEG, "1.TXT": b"b"}), True),
    "keys of many lengths": (tar_of({"a.jpg": JPEG, "a.txt": b"a", "ab.jpg": JPEG, "ab.txt": b"b"}), True),
    "a name of 100 bytes": (tar_of({"k" * 96 + ".jpg": JPEG, "k" * 96 + ".txt": b"a"}), True),
    "one block of zeros": (samples([0]) + bytes(BLOCK), True),
    "files of the old kind": (member("0.jpg", JPEG, b"\0") + member("0.txt", b"a", b"7") + END, True),
    "no block of zeros": (samples([0]), False),
    "words at the end": (samples([0]) + END + b"words", False),
    "many zeros": (samples([0]) + bytes(60 * BLOCK), False),
    "zeros in place of a json": (samples([0]) + member("1.jpg", JPEG) + member("1.json", bytes(9)) + END, False),
    "an empty tar": (END, False),
    "nothing": (b"", False),
    "a key twice": (samples([0, 1, 0]) + END, False),
    "a member twice": (sample(0) + sample(0, ("txt",)) + END, False),
    "members apart": (sample(0, ("jpg",)) + sample(1) + sample(0, ("txt",)) + END, False),
    "other endings": (samples([0]) + member("000000.cls", b"3") + END, False),
    "a longer ending": (tar_of({"0.jpg": JPEG, "0.txt.gz": b"a", "0.jpegs": b"b"}), False),
    "no ending": (tar_of({"0.jpg": JPEG, "0": b"a"}), False),
    "a hidden file": (tar_of({".0.jpg": JPEG, "0.txt": b"a"}), False),
    "folders": (tar_of({"a/0.jpg": JPEG, "a/0.txt": b"a"}), False),
    "a way out": (tar_of({"..\\0.jpg": JPEG, "..\\0.txt": b"a"}), False),
    "names of other letters": (tar_of({"é.jpg": JPEG, "é.txt": b"a"}), False),
    "a long name": (tar_of({"k" * 200 + ".jpg": JPEG, "k" * 200 + ".txt": b"a"}), False),
    "a folder": (header(b"a/", b"%011o\0" % 0, b"5") + samples([0]) + END, False),
    "a wrong checksum": (samples([0, 1]).replace(b"000001.txt", b"000009.txt") + END, False),
    "a size in base 256": (header(b"0.txt", b"\x80" + bytes(10) + b"\1") + b"a".ljust(BLOCK, b"\0") + END, False),
    "a size with spaces": (header(b"0.txt", b"         1 \0") + b"a".ljust(BLOCK, b"\0") + END, False),
    "a negative size": (samples([0]) + header(b"0.txt", b"-0000000001\0") + END, False),
    "a size with a line": (samples([0]) + header(b"0.txt", b"0000000_001\0") + b"a".ljust(BLOCK, b"\0") + END, False),
    "something behind a name": (header(b"0.txt\0x", b"%011o\0" % 1) + b"a".ljust(BLOCK, b"\0") + END, False),
    "a larger caption": (tar_of({"0.jpg": JPEG, "0.txt": b"a" * 70_000}), True),
    "a larger json": (tar_of({"0.jpg": JPEG, "0.txt": b"a\nb", "0.json": b" " * (1 << 20) + b"{}"}), True),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_other_layouts_are_left_to_the_pass_over_single_members(name: str) -> None:
    content, regular = LAYOUTS[name]

    assert is_regular(content) == regular
    assert_indexed_alike(content)


def test_spoilt_shards_are_indexed_alike() -> None:
    regular = 0
    for seed in range(300):
        content, done = mutated_shard(seed)
        try:
            assert_indexed_alike(content)
        except Exception as error:
            error.add_note(f"seed {seed}: {done}")
            raise
        regular += is_regular(content)
    assert 30 < regular < 270


def test_large_shards_are_read_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gapctl.data.image_text.regular_tar.HEADERS_AT_ONCE", 4)
    monkeypatch.setattr(shard_index, "HASHED_IMAGES", 3)
    monkeypatch.setattr(shard_index, "HASH_PIECE_BYTES", 100)
    content = samples(range(11)) + END

    assert is_regular(content)
    assert_indexed_alike(content)
