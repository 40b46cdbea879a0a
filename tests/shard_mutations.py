"""Shards that went wrong, drawn from a seed: on the disk, on the way, or by malice; and everything that reads them."""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from gapctl.config.trial import PairCaptions
from gapctl.data.image_text.index import iterate_shard_samples, make_manifest_part
from gapctl.data.image_text.manifest import Manifest, parse_manifest
from gapctl.data.image_text.read import read_rows_with_samples
from gapctl.data.image_text.storage import list_shards
from gapctl.data.image_text.tools import verify_shards
from gapctl.data.parallel_shards import Workers
from gapctl.data.treatments import TREATMENT_TABLE, treat_caption
from gapctl.errors import InputError
from pair_shards import Members, pair

BLOCK: Final = 512
SAMPLES: Final = 6
Draws = np.random.Generator


def mutated_shard(seed: int) -> tuple[bytes, str]:
    """The bytes of a spoilt shard, and what was done to it."""
    draws = np.random.Generator(np.random.Philox(seed))
    samples = {f"{seed:05d}{number:04d}": dict(pair(number)) for number in range(SAMPLES)}
    done = []
    for _ in range(int(draws.integers(0, 3))):
        name = str(draws.choice(list(SAMPLE_CHANGES)))
        SAMPLE_CHANGES[name](samples[str(draws.choice(list(samples)))], draws)
        done.append(name)
    content = shard_bytes(samples, tarfile.PAX_FORMAT if draws.random() < 0.3 else tarfile.GNU_FORMAT, draws)
    for _ in range(int(draws.integers(0 if done else 1, 3))):
        if len(content) < BLOCK:
            break
        name = str(draws.choice(list(BYTE_CHANGES)))
        content = BYTE_CHANGES[name](content, draws)
        done.append(name)
    return content, ", ".join(done)


def shard_bytes(samples: Mapping[str, Members], form: int, draws: Draws) -> bytes:
    """A tar of these samples; some of the pax ones carry an extended header for each member."""
    buffer, extended = io.BytesIO(), draws.random() < 0.5
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for key, members in samples.items():
            for ending, content in members.items():
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(content)
                if extended:
                    info.pax_headers = {"comment": "ä" * int(draws.integers(1, 300))}
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Exploding:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        import os

        return os._exit, (86,)


def picture(mode: str, size: tuple[int, int], form: str, **options: object) -> bytes:
    """An image of one colour in any mode and file format."""
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, form, **options)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of a hundred bytes that says it has 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def animated() -> bytes:
    """A WebP of two frames."""
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def _image(make: Callable[[], bytes]) -> Callable[[dict[str, bytes], Draws], None]:
    return lambda members, draws: members.__setitem__("jpg", make())


def _member(ending: str, content: bytes) -> Callable[[dict[str, bytes], Draws], None]:
    return lambda members, draws: members.__setitem__(ending, content)


def _spoilt_image(members: dict[str, bytes], draws: Draws) -> None:
    if members.get("jpg"):
        members["jpg"] = _flip(members["jpg"], draws)


def _short_image(members: dict[str, bytes], draws: Draws) -> None:
    if members.get("jpg"):
        members["jpg"] = members["jpg"][: int(draws.integers(0, len(members["jpg"])))]


SAMPLE_CHANGES: Final[Mapping[str, Callable[[dict[str, bytes], Draws], object]]] = {
    "no caption": lambda members, draws: members.pop("txt", None),
    "no image": lambda members, draws: members.pop("jpg", None),
    "empty caption": _member("txt", b" \n"),
    "huge caption": _member("txt", b"word " * 100_000),
    "caption of any bytes": lambda members, draws: members.__setitem__("txt", draws.bytes(40)),
    "deep json": _member("json", b"[" * 100_000),
    "json of half a character": _member("json", json.dumps({"keywords": ["\ud800"], "pos": 3}).encode()),
    "json of another kind": _member("json", b"NaN"),
    "pickle": _member("pyd", pickle.dumps(Exploding())),
    "HTML": _image(lambda: b"<!doctype html><title>404</title>"),
    "bomb": _image(bomb),
    "CMYK": _image(lambda: picture("CMYK", (20, 20), "JPEG")),
    "one pixel": _image(lambda: picture("RGB", (1, 30), "JPEG")),
    "animated": _image(animated),
    "animated GIF": _image(lambda: picture("P", (9, 9), "GIF")),
    "PostScript": _image(lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%exit 86) (w) file\n"),
    "flipped image": _spoilt_image,
    "short image": _short_image,
}


def _flip(content: bytes, draws: Draws) -> bytes:
    changed = bytearray(content)
    for place in draws.integers(0, len(content), int(draws.integers(1, 20))):
        changed[place] = draws.integers(0, 256)
    return bytes(changed)


def _cut(content: bytes, draws: Draws) -> bytes:
    return content[: int(draws.integers(0, len(content)))]


def _without_blocks(content: bytes, draws: Draws) -> bytes:
    at = int(draws.integers(0, len(content) // BLOCK)) * BLOCK
    return content[:at] + content[at + BLOCK * int(draws.integers(1, 5)) :]


def _foreign_block(content: bytes, draws: Draws) -> bytes:
    at = int(draws.integers(0, len(content) // BLOCK)) * BLOCK
    return content[:at] + (bytes(BLOCK) if draws.random() < 0.5 else draws.bytes(BLOCK)) + content[at:]


def _twice(content: bytes, draws: Draws) -> bytes:
    first, last = sorted(int(place) * BLOCK for place in draws.integers(0, len(content) // BLOCK, 2))
    return content[:last] + content[first:]


def _lying_header(content: bytes, draws: Draws) -> bytes:
    """A header with another name, size or kind, and the right checksum."""
    headers = [at for at in range(0, len(content) - BLOCK, BLOCK) if content[at + 257 : at + 262] == b"ustar"]
    if not headers:
        return content
    at = int(draws.choice(headers))
    header = bytearray(content[at : at + BLOCK])
    start, field = LIES[int(draws.integers(0, len(LIES)))]
    header[start : start + len(field)] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return content[:at] + bytes(header) + content[at + BLOCK :]


LIES: Final = (
    (0, b"../../../../tmp/escaped.jpg\0"),
    (0, b"/etc/passwd\0"),
    (0, b"\xff\xfe.jpg\0"),
    (0, b".\0"),
    (124, b"77777777777\0"),
    (124, b"-0000000001\0"),
    (124, b"\x80" + b"\xff" * 11),
    (124, b"\xff" * 12),
    (124, b"\0" * 12),
    (156, b"2"),
    (156, b"5"),
    (156, b"x"),
    (156, b"L"),
    (156, b"S"),
    (156, b"g"),
    (156, b"~"),
    (157, b"/etc/passwd\0"),
)

BYTE_CHANGES: Final[Mapping[str, Callable[[bytes, Draws], bytes]]] = {
    "flipped bytes": _flip,
    "cut": _cut,
    "blocks missing": _without_blocks,
    "a foreign block": _foreign_block,
    "blocks twice": _twice,
    "a lying header": _lying_header,
    "compressed": lambda content, draws: gzip.compress(content, 1),
    "a page of HTML": lambda content, draws: b"<html>403 Forbidden</html>",
    "nothing": lambda content, draws: b"",
}


def read_in_every_way(path: Path) -> None:
    (stored,) = list_shards([str(path)])
    indexed, checked = parse_manifest(make_manifest_part(stored)), verify_shards([stored], Workers(1)).found
    assert indexed.shards[0].fingerprint
    assert len(indexed.samples) == len(checked.samples)
    require_within(indexed, path.stat().st_size)
    for row, sample in read_rows_with_samples(checked.usable):
        assert sample.image
        assert sample.caption
        for keep in TREATMENT_TABLE:
            rule = PairCaptions.model_validate({"keep": keep, "field": "name"})
            treat_caption(rule, sample.caption, sample.about, 0, 0, row["offset"])
    with suppress(InputError):
        list(iterate_shard_samples(path))


def require_within(manifest: Manifest, size: int) -> None:
    for part in ("image", "caption", "json"):
        ends = manifest.samples[f"{part}_offset"] + manifest.samples[f"{part}_bytes"]
        assert (ends <= size).all()
        assert (manifest.samples[f"{part}_bytes"] >= 0).all()
