"""Small shards of image-text pairs, sound or spoilt, made as img2dataset lays them out."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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
