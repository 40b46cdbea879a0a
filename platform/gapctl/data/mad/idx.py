"""MNIST's file format (IDX), read with everything checked.

The format: two zero bytes, a type byte (8: unsigned bytes), the number of dimensions, each dimension as a
big-endian 32-bit number, then the values.
"""

import gzip
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapctl.errors import InputError

_GZIP_MAGIC: Final = b"\x1f\x8b"
_UNSIGNED_BYTES: Final = 8
_AGAIN: Final = "Copy or download the file again."


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the array in an IDX file, gzipped or not.

    Raises InputError for broken gzip, another format, and a size that differs from what the header says.
    """
    content = _content(path)
    expected = bytes((0, 0, _UNSIGNED_BYTES, dimensions))
    if content[:4] != expected:
        raise InputError(
            f"{path}: not an IDX file of unsigned bytes with {dimensions} dimensions: it begins with "
            f"{content[:4].hex(' ') or 'nothing'}, expected {expected.hex(' ')}. {_AGAIN}"
        )
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise InputError(f"{path}: truncated: {len(content)} bytes, less than its header of {header}. {_AGAIN}")
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, header, 4))
    return _shaped(path, content[header:], shape)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == _GZIP_MAGIC else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: broken gzip ({error}): the file is truncated or damaged. {_AGAIN}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error


def _shaped(path: Path, values: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    expected = 1
    for length in shape:
        expected *= length
    if len(values) != expected:
        sizes = " x ".join(map(str, shape))
        kind = "truncated" if len(values) < expected else "too long"
        raise InputError(
            f"{path}: {kind}: {len(values)} bytes of values, but its header says {sizes} = {expected}. {_AGAIN}"
        )
    return np.frombuffer(values, np.uint8).reshape(shape)
