"""A shard for webdataset's readers: coloured pictures with captions that say all six factors.

Each sample is `key.png` (28x28 RGB), `key.txt` (the caption) and `key.json` (the factors by name, the digit's index
and the variant). Nothing in the file depends on when or by whom it was written.

Index letters: N digits, V the 24 variants, H and W 28 rows and columns, 6 factors.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.draws import Purpose, generator
from gapctl.data.mad.factors import COLOURS, FACTORS, VARIANTS
from gapctl.data.mad.render import render
from gapctl.data.mad.shapes import draw_shapes
from gapctl.data.mad.shards.layout import Shard
from gapctl.data.mad.source import Split

_BLOCK: Final = 512
_SHAPES: Final = np.arange(len(VARIANTS))
_Sample = dict[str, str | bytes]


def write_tar(
    path: Path, shard: Shard, digits_NHW: NDArray[np.uint8], labels_N: NDArray[np.int64], key: int
) -> tuple[int, ...]:
    """Write a shard's samples, digit by digit; return where each digit's first sample begins."""
    from webdataset import ShardWriter

    offsets, end = [], 0
    options = {"maxcount": len(VARIANTS) * shard.count, "verbose": 0, "encoder": False, "mtime": 0}
    with path.open("wb") as file, ShardWriter("%d", opener=lambda _: file, **options) as writer:
        for row in range(shard.count):
            offsets.append(end)
            digit = shard.first + row
            for sample in _samples(shard.split, digit, digits_NHW[row : row + 1], int(labels_N[row]), key):
                writer.write(sample)
                end += sum(_size_in_tar(content) for content in sample.values() if isinstance(content, bytes))
    return tuple(offsets)


def colours_of(digit: int, key: int) -> NDArray[np.int64]:
    """Return the colour of each of a digit's 24 variants, frozen by the digit's index and the key."""
    return generator(Purpose.COLOUR, key, digit).integers(0, len(COLOURS), len(VARIANTS))


def _samples(split: Split, digit: int, plain_1HW: NDArray[np.uint8], label: int, key: int) -> Iterator[_Sample]:
    colours_V = colours_of(digit, key)
    pictures_VCHW = render(draw_shapes(plain_1HW, digit, key), np.zeros_like(_SHAPES), _SHAPES, colours_V)
    for variant, picture_CHW in enumerate(pictures_VCHW):
        values = _values(label, variant, int(colours_V[variant]))
        described = {**values, "split": split, "index": digit, "variant": variant}
        yield {
            "__key__": f"{split}-{digit:05d}-{variant:02d}",
            "png": _png(picture_CHW),
            "txt": "-".join(values.values()).encode(),
            "json": json.dumps(described).encode(),
        }


def _values(label: int, variant: int, colour: int) -> dict[str, str]:
    labels = (label, *VARIANTS[variant], colour)
    return {factor.name: factor.values[value] for factor, value in zip(FACTORS, labels, strict=True)}


def _png(picture_CHW: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture_CHW.transpose(1, 2, 0))).save(buffer, format="PNG")
    return buffer.getvalue()


def _size_in_tar(content: bytes) -> int:
    return _BLOCK + -(-len(content) // _BLOCK) * _BLOCK
