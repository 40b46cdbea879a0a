"""Small shards of image-text pairs, sound or spoilt, made as img2dataset lays them out."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gapctl.data.image_text.order import PairOrder

COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}
SHAPES = ("square", "bar")

Members = Mapping[str, bytes]


def jpeg(colour: str, shape: str, seed: int) -> bytes:
    """A picture of a coloured shape on noise."""
    pixels = np.random.Generator(np.random.Philox(seed)).integers(0, 60, size=(48, 40, 3)).astype(np.uint8)
    pixels[8:40, 4 : (36 if shape == "square" else 12)] = COLOURS[colour]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG")
    return buffer.getvalue()


def pair(number: int, **changed: Any) -> dict[str, bytes]:
    """The members of one sample by their endings."""
    colour, shape = list(COLOURS)[number % 3], SHAPES[number % 2]
    about = {"shape": shape, "colour": colour, "number": number, **changed}
    return {
        "jpg": jpeg(colour, shape, number),
        "txt": f"a {colour} {shape}".encode(),
        "json": json.dumps(about).encode(),
    }


def write_shard(path: Path, samples: Iterable[tuple[str, Members]]) -> Path:
    """A tar of these samples, by key."""
    with tarfile.open(path, "w") as archive:
        for key, members in samples:
            for ending, content in members.items():
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def write_pairs(path: Path, numbers: Iterable[int]) -> Path:
    """A sound shard of these samples."""
    return write_shard(path, ((f"{number:06d}", pair(number)) for number in numbers))


def write_mixed(folder: Path) -> dict[str, int]:
    """Two sound samples of 12 in four shards, with how many of the others are left out for which reason."""
    gif = io.BytesIO()
    Image.new("RGB", (9, 9)).save(gif, format="GIF")
    broken = pair(2)["jpg"][:400]
    first = [
        ("sound", pair(1)),
        ("silent", {"jpg": pair(3)["jpg"]}),
        ("blind", {"txt": b"words"}),
        ("page", {**pair(4), "jpg": b"<html>gone"}),
        ("gif", {**pair(5), "jpg": gif.getvalue()}),
        ("latin", {**pair(6), "txt": b"caf\xe9"}),
        ("apart", {"jpg": pair(7)["jpg"]}),
        ("broken", {**pair(2), "jpg": broken}),
        ("apart", {"txt": b"words", "cls": b"3"}),
    ]
    write_shard(folder / "00000.tar", first)
    write_shard(folder / "00001.tar", [])
    write_shard(folder / "00002.tar", [("one", {"json": b"{}"}), ("two", {"json": b"{}"})])
    write_shard(folder / "00003.tar", [("sound", pair(1)), ("other", pair(9))])
    return {
        "no caption": 1,
        "no image": 3,
        "HTML in place of an image": 1,
        "not a JPEG, PNG or WebP": 1,
        "caption not UTF-8": 1,
        "members of one key apart": 1,
        "the same key and image as an earlier sample": 1,
        "undecodable image": 1,
    }


def places_of(order: PairOrder, start: int, stop: int) -> NDArray[np.int64]:
    """The samples at positions `start` to `stop`, as places among the training's samples."""
    parts = [np.empty(0, dtype=np.int64)]
    for chunk in order.iterate_chunks(start):
        if chunk.start >= stop:
            break
        parts.append(chunk.place_N[max(0, start - chunk.start) : stop - chunk.start])
    return np.concatenate(parts)
