"""Write one shard of MAD: draw its digits' variants, write a temporary file, rename it, and record it.

A shard counts as finished only with its record beside it. Its bytes are a function of (digits, first index, key) alone,
so a repeated or concurrent run makes the same file.

Index letters: N digits, H and W 28 rows and columns.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.factors import COLOURS, FACTORS, VARIANTS
from gapctl.data.mad.images import render_images
from gapctl.data.mad.morphology import draw_shapes
from gapctl.data.mad.shards import MAKING_FOLDER, Shard
from gapctl.data.mad.source import Split
from gapctl.data.rng import Purpose, make_generator
from gapctl.io.atomic import hash_file, write_atomically, write_whole

DIGIT_BYTES: Final = 24 * 28 * 28
_DIGITS_AT_ONCE: Final = 64
_TAR_BLOCK: Final = 512
_SHAPES: Final = np.arange(len(VARIANTS))
_TarSample = dict[str, str | bytes]


class ShardInput(NamedTuple):
    """The input of a shard: its digits, their labels, and the key of its random choices."""

    digits_NHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    key: int


class MadShardRecord(NamedTuple):
    """A finished shard's size and sha256, and the offset of each digit in it."""

    bytes: int
    sha256: str
    offsets: tuple[int, ...]


def make_shard(folder: Path, shard: Shard, drawn: ShardInput) -> MadShardRecord:
    """Draw, write and record one shard. Raise OSError if it cannot be written."""
    making = folder / MAKING_FOLDER
    with write_atomically(folder / shard.name, making) as temporary:
        if shard.format == "npy":
            offsets = _write_arrays(temporary, shard, drawn)
        else:
            offsets = write_tar(temporary, shard, *drawn)
        record = MadShardRecord(temporary.stat().st_size, hash_file(temporary), offsets)
    write_whole(locate_record_file(folder, shard), json.dumps(record._asdict()).encode(), making)
    return record


def locate_record_file(folder: Path, shard: Shard) -> Path:
    """Return the path of a finished shard's record while the folder is being made."""
    return folder / MAKING_FOLDER / f"{shard.name}.json"


def _write_arrays(path: Path, shard: Shard, drawn: ShardInput) -> tuple[int, ...]:
    header = {"descr": "|u1", "fortran_order": False, "shape": (shard.count, 24, 28, 28)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        begin = file.tell()
        for at in range(0, shard.count, _DIGITS_AT_ONCE):
            file.write(draw_shapes(drawn.digits_NHW[at : at + _DIGITS_AT_ONCE], shard.first + at, drawn.key).data)
    return tuple(begin + DIGIT_BYTES * row for row in range(shard.count))


def write_tar(
    path: Path, shard: Shard, digits_NHW: NDArray[np.uint8], labels_N: NDArray[np.int64], key: int
) -> tuple[int, ...]:
    """Write a shard's samples, digit by digit; return the offset of each digit's first sample."""
    from webdataset import ShardWriter

    offsets, end = [], 0
    options = {"maxcount": len(VARIANTS) * shard.count, "verbose": 0, "encoder": False, "mtime": 0}
    with path.open("wb") as file, ShardWriter("%d", opener=lambda _: file, **options) as writer:
        for row in range(shard.count):
            offsets.append(end)
            digit = shard.first + row
            for sample in _render_samples(shard.split, digit, digits_NHW[row : row + 1], int(labels_N[row]), key):
                writer.write(sample)
                end += sum(_compute_tar_size(content) for content in sample.values() if isinstance(content, bytes))
    return tuple(offsets)


def draw_colours(digit: int, key: int) -> NDArray[np.int64]:
    """Return the colours of a digit's 24 variants, a function of the digit's index and the key."""
    return make_generator(Purpose.COLOUR, key, digit).integers(0, len(COLOURS), len(VARIANTS))


def _render_samples(
    split: Split, digit: int, plain_1HW: NDArray[np.uint8], label: int, key: int
) -> Iterator[_TarSample]:
    colours_V = draw_colours(digit, key)
    pictures_VCHW = render_images(draw_shapes(plain_1HW, digit, key), np.zeros_like(_SHAPES), _SHAPES, colours_V)
    for variant, picture_CHW in enumerate(pictures_VCHW):
        labels = (label, *VARIANTS[variant], int(colours_V[variant]))
        values = {factor.name: factor.values[value] for factor, value in zip(FACTORS, labels, strict=True)}
        described = {**values, "split": split, "index": digit, "variant": variant}
        yield {
            "__key__": f"{split}-{digit:05d}-{variant:02d}",
            "png": _encode_png(picture_CHW),
            "txt": "-".join(values.values()).encode(),
            "json": json.dumps(described).encode(),
        }


def _encode_png(picture_CHW: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture_CHW.transpose(1, 2, 0))).save(buffer, format="PNG")
    return buffer.getvalue()


def _compute_tar_size(content: bytes) -> int:
    return _TAR_BLOCK + -(-len(content) // _TAR_BLOCK) * _TAR_BLOCK
