"""Whatever mode and depth an image has, training, measuring and resharding see the same and the right colours."""

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command_line import gapctl
from gapctl.data.image_text.class_prompts import CaptionLineMode
from gapctl.data.image_text.image import convert_to_rgb, crop_centre, decode_rgb_image
from gapctl.data.image_text.index import build_manifest, iterate_shard_samples
from gapctl.data.image_text.storage import list_shards
from gapctl.data.image_text.tools import ReshardRequest, reshard_pairs
from gapctl.data.parallel_shards import Workers
from gapctl.inference.shards import read_batches
from pair_shards import write_shard

HERE = Workers(1)
WHITE = (255, 255, 255)
GREY, RGB, GREY_ALPHA, RGB_ALPHA = 0, 2, 4, 6
"""PNG's colour types."""


def png(depth: int, colour_type: int, row: bytes, width: int, transparent: Sequence[int] = ()) -> bytes:
    """A PNG of 24 equal rows; Pillow writes few of these."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 24, depth, colour_type, 0, 0, 0))
    colour = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b""
    return (
        b"\x89PNG\r\n\x1a\n" + header + colour + chunk(b"IDAT", zlib.compress((b"\0" + row) * 24)) + chunk(b"IEND", b"")
    )


def sixteen(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def stored(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def icon(ground: int = 0) -> Image.Image:
    """An opaque red half on a half that is as opaque as `ground` says, whose hidden colour is black."""
    image = Image.new("RGBA", (48, 24), (0, 0, 0, ground))
    image.paste((200, 0, 0, 255), (0, 0, 24, 24))
    return image


def pixels(content: bytes) -> list[tuple[int, ...]]:
    return [tuple(pixel) for pixel in np.asarray(decode_rgb_image(content))[12].tolist()]


def grey(*values: int) -> list[tuple[int, int, int]]:
    return [(value, value, value) for value in values]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(16, GREY, sixteen(0, 255, 256, 17408, 65535), 5), grey(0, 0, 1, 68, 255)),
        (png(16, GREY, sixteen(0, 1000, 1001, 65535), 4, [1000]), grey(0, 255, 3, 255)),
        (png(16, GREY_ALPHA, sixteen(17408, 65535, 0, 0), 2), grey(68, 255)),
        (png(16, RGB, sixteen(256, 512, 768, 65535, 0, 0), 2), [(1, 2, 3), (255, 0, 0)]),
        (png(16, RGB, sixteen(256, 512, 768, 65535, 0, 0), 2, [256, 512, 768]), [WHITE, (255, 0, 0)]),
        (png(16, RGB_ALPHA, sixteen(256, 512, 768, 65535, 1, 1, 1, 0), 2), [(1, 2, 3), WHITE]),
        (png(4, GREY, b"\x05\xaf", 4, [5]), grey(0, 255, 170, 255)),
        (png(2, GREY, b"\x1b", 4, [1]), grey(0, 255, 170, 255)),
        (png(2, GREY, b"\x1b", 4), grey(0, 85, 170, 255)),
        (png(1, GREY, b"\x50", 4, [0]), grey(255, 255, 255, 255)),
        (png(8, GREY, b"\x05\x06", 2, [5]), grey(255, 6)),
    ],
)
def test_a_png_of_any_depth_gives_its_colours(content: bytes, expected: list[tuple[int, ...]]) -> None:
    assert pixels(content) == expected


@pytest.mark.parametrize(
    "image",
    [
        icon(),
        icon().convert("LA"),
        icon().convert("RGBa"),
        icon().convert("LA").convert("La"),
        icon().convert("PA"),
        icon().convert("P"),
    ],
    ids=lambda image: image.mode,
)
def test_what_is_transparent_is_white_in_every_mode(image: Image.Image) -> None:
    shown = convert_to_rgb(image)

    assert (shown.mode, shown.getpixel((40, 12))) == ("RGB", WHITE)
    assert shown.getpixel((5, 12)) != WHITE


def test_half_transparent_parts_are_mixed_with_white() -> None:
    assert pixels(stored(icon(128), "PNG"))[40] == (127, 127, 127)
    assert pixels(stored(icon(128), "WEBP", lossless=True))[40] == (127, 127, 127)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I"])
def test_sixteen_bits_are_divided_by_256_in_every_byte_order(mode: str) -> None:
    values_HW = np.array([[0, 17408], [40000, 65535]])
    order = ">u2" if mode == "I;16B" else "<u2"
    image = Image.frombytes(mode, (2, 2), values_HW.astype("<i4" if mode == "I" else order).tobytes())

    assert np.asarray(convert_to_rgb(image))[..., 0].tolist() == [[0, 68], [156, 255]]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, WHITE),
        ("L", 70, (70, 70, 70)),
        ("F", 70.0, (70, 70, 70)),
        ("F", 999.0, WHITE),
        ("RGBX", (9, 8, 7, 0), (9, 8, 7)),
        ("CMYK", (255, 0, 0, 0), (0, 255, 255)),
        ("HSV", (0, 255, 255), (255, 0, 0)),
        ("YCbCr", (128, 128, 128), (128, 128, 128)),
        ("LAB", (128, 128, 128), (119, 119, 119)),
    ],
)
def test_every_other_mode_becomes_rgb(mode: str, colour: Any, expected: tuple[int, ...]) -> None:
    assert convert_to_rgb(Image.new(mode, (2, 2), colour)).getpixel((0, 0)) == expected


@pytest.mark.parametrize(
    ("transform", "channels", "expected"), [(0, (200, 100, 50, 0), (55, 155, 205)), (2, (76, 85, 255, 0), (255, 0, 0))]
)
def test_inverted_cmyk_and_ycck_jpegs_have_their_colours(
    transform: int, channels: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    content = stored(Image.new("CMYK", (16, 16), channels), "JPEG", quality=100)
    at = content.index(b"Adobe") + 11  # where Adobe's marker says what the four channels are
    shown = decode_rgb_image(content[:at] + bytes([transform]) + content[at + 1 :]).getpixel((8, 8))

    assert np.abs(np.subtract(shown, expected)).max() <= 4


@pytest.mark.parametrize("form", ["WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_read(form: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("lime", "red")]
    content = stored(frames[0], form, save_all=True, append_images=frames[1:], lossless=True)

    assert pixels(content)[0] == (0, 255, 0)


def turned() -> bytes:
    """A JPEG that is to be shown turned by a quarter; its left half is white as it is stored."""
    image = Image.new("RGB", (64, 48))
    image.paste(WHITE, (0, 0, 32, 48))
    exif = Image.Exif()
    exif[0x0112] = 6
    return stored(image, "JPEG", exif=exif)


IMAGES = {
    "grey16": png(16, GREY, sixteen(*range(0, 65536, 1024)), 64),
    "deep_alpha": png(16, RGB_ALPHA, sixteen(*[0, 40000, 0, 65535] * 16, *[0, 0, 0, 0] * 16), 32),
    "keyed_grey": png(2, GREY, b"\x00\x00\x55\x55", 16, [1]),
    "webp": stored(icon(), "WEBP", lossless=True),
    "palette": stored(icon().convert("P"), "PNG"),
    "turned": turned(),
}


@pytest.mark.parametrize("name", IMAGES)
def test_training_measuring_and_resharding_see_the_same(name: str, tmp_path: Path) -> None:
    content = IMAGES[name]
    read = decode_rgb_image(content)
    side = min(read.size)
    fed = crop_centre(content, read.size, side)
    left = round((read.width - side) / 2)
    assert np.array_equal(fed, np.asarray(read)[:side, left : left + side])

    ending = "jpg" if name == "turned" else "webp" if name == "webp" else "png"
    shard = write_shard(tmp_path / "a.tar", [("one", {ending: content, "txt": b"a caption"})])
    plain = {"size": (24, 24), "mean": (0, 0, 0), "std": (1, 1, 1), "resize_mode": "squash"}
    (row,) = read_batches(
        {"path": str(shard), "shard": 0}, model="ViT-S-32-alt", preprocess=plain, captions=CaptionLineMode.LINES
    )
    measured = np.frombuffer(row["images"], np.float32).reshape(3, 24, 24).transpose(1, 2, 0) * 255
    expected = np.asarray(read.resize((24, 24), Image.Resampling.BICUBIC), dtype=float)
    assert np.abs(measured - expected).max() < 1

    manifest = build_manifest(list_shards([str(shard)]), HERE)
    assert (manifest.usable["width"][0], manifest.usable["height"][0]) == read.size
    reshard_pairs(manifest, ReshardRequest(manifest.fingerprint, 8, resize=12), tmp_path / "out", HERE)
    (sample,) = iterate_shard_samples(tmp_path / "out" / "00000.tar")
    assert sample.image is not None
    smaller = decode_rgb_image(sample.image)
    expected = np.asarray(read.resize(smaller.size, Image.Resampling.LANCZOS), dtype=float)
    assert np.abs(np.asarray(smaller) - expected).mean() < 4


def test_verify_finds_undecodable_what_training_cannot_read(tmp_path: Path) -> None:
    sound, deep = IMAGES["grey16"], png(16, RGB, sixteen(1, 2, 3), 1000)
    shard = write_shard(
        tmp_path / "a.tar", [("deep", {"png": sound, "txt": b"x"}), ("short", {"png": deep, "txt": b"y"})]
    )
    answer = gapctl("data", "verify", str(shard))

    assert answer.exit_code == 1
    assert "1 undecodable image: short" in answer.out
    assert "1 of 2 samples" in answer.out
    with pytest.raises(ValueError, match="unreadable image"):
        crop_centre(deep, (1000, 24), 12)
