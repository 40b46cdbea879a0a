"""One shard: its digits' variants drawn, written under a temporary name, renamed, and then recorded.

A shard counts as made only with its record beside it, and its bytes are a function of (digits, first index, key)
alone: whoever makes it again, after a kill or at the same time, makes the same file.

Index letters: N digits, H and W 28 rows and columns.
"""

import json
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.shards.atomic import appearing, sha256_of, write_whole
from gapctl.data.mad.shards.layout import MAKING, Shard

DIGIT_BYTES: Final = 24 * 28 * 28
_AT_ONCE: Final = 64


class Drawn(NamedTuple):
    """What a shard is drawn from: its own digits, their labels, and the key of its random choices."""

    digits_NHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    key: int


class ShardRecord(NamedTuple):
    """A finished shard's size and sha256, and where in it each digit begins."""

    bytes: int
    sha256: str
    offsets: tuple[int, ...]


def make_shard(folder: Path, shard: Shard, drawn: Drawn) -> ShardRecord:
    """Draw and write one shard, and record it; raises OSError if it cannot be written."""
    making = folder / MAKING
    with appearing(folder / shard.name, making) as temporary:
        write = _write_arrays if shard.format == "npy" else _write_tar
        offsets = write(temporary, shard, drawn)
        record = ShardRecord(temporary.stat().st_size, sha256_of(temporary), offsets)
    write_whole(record_file(folder, shard), json.dumps(record._asdict()).encode(), making)
    return record


def record_file(folder: Path, shard: Shard) -> Path:
    """Where a finished shard is recorded while the folder is being made."""
    return folder / MAKING / f"{shard.name}.json"


def _write_arrays(path: Path, shard: Shard, drawn: Drawn) -> tuple[int, ...]:
    from gapctl.data.mad.shapes import draw_shapes

    header = {"descr": "|u1", "fortran_order": False, "shape": (shard.count, 24, 28, 28)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        begin = file.tell()
        for at in range(0, shard.count, _AT_ONCE):
            file.write(draw_shapes(drawn.digits_NHW[at : at + _AT_ONCE], shard.first + at, drawn.key).data)
    return tuple(begin + DIGIT_BYTES * row for row in range(shard.count))


def _write_tar(path: Path, shard: Shard, drawn: Drawn) -> tuple[int, ...]:
    from gapctl.data.mad.shards.write_tar import write_tar

    return write_tar(path, shard, *drawn)
