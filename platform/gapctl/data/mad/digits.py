"""Load MNIST digits with their labels: the bundled ones, or those of a folder of IDX files.

Index letters: N digits, H and W the 28 rows and columns.
"""

import gzip
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.source import (
    BUNDLED,
    BUNDLED_FILE,
    IdxFiles,
    Split,
    compute_source_fingerprint,
    find_idx_files,
    locate_source,
    read_source_description,
)
from gapctl.errors import InputError, WorkError

_SIDE: Final = 28
_CLASSES: Final = 10
_GZIP_MAGIC: Final = b"\x1f\x8b"
_UNSIGNED_BYTES: Final = 8
_COPY_AGAIN: Final = "Copy or download the file again."


@dataclass(frozen=True)
class Digits:
    """The digits of one split; `fingerprint` identifies their whole source."""

    images_NHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels_N)


def load_digits(source: str, split: Split) -> Digits:
    """Return a split's digits from `bundled` or a folder of IDX files.

    Raise InputError for a folder of shards (which hold images, not digits), for a missing or damaged folder or file,
    for images other than 28x28, for unequal numbers of labels and images, and for labels outside 0 to 9.
    """
    if read_source_description(source) is not None:
        raise InputError(
            f"{source}: a folder of MAD's shards, expected the digits that they were made from: `bundled` or a folder "
            "of IDX files."
        )
    fingerprint = compute_source_fingerprint(source)
    if source == BUNDLED:
        try:
            with np.load(BUNDLED_FILE) as arrays:
                images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError) as error:
            text = f"{BUNDLED_FILE}: the bundled digits are damaged ({error}). Install gapctl again."
            raise WorkError(text) from error
    else:
        files = find_idx_files(locate_source(source), split)
        images, labels = read_idx(files.images, 3), read_idx(files.labels, 1)
        _check_digits(files, images, labels)
    return Digits(images, labels.astype(np.int64), fingerprint)


def _check_digits(files: IdxFiles, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    if images.shape[1:] != (_SIDE, _SIDE):
        raise InputError(
            f"{files.images}: images of {images.shape[1]}x{images.shape[2]} pixels, expected {_SIDE}x{_SIDE}."
            " Use MNIST or a data set in its exact format."
        )
    if len(images) != len(labels):
        raise InputError(
            f"{files.labels}: {len(labels)} labels for the {len(images)} images of {files.images.name}, "
            "expected as many. Use the two files of one split."
        )
    if not len(images):
        raise InputError(f"{files.images}: no images in it, expected at least one. Use MNIST's own files.")
    wrong = np.flatnonzero(labels >= _CLASSES)
    if len(wrong):
        raise InputError(
            f"{files.labels}: label {labels[wrong[0]]} at position {wrong[0]}, expected 0 to {_CLASSES - 1}. "
            "Use the labels of digits."
        )


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the array in an IDX file, gzipped or not.

    Raise InputError for broken gzip, another format, and a size that differs from the header's.
    """
    content = _read_content(path)
    expected = bytes((0, 0, _UNSIGNED_BYTES, dimensions))
    if content[:4] != expected:
        raise InputError(
            f"{path}: not an IDX file of unsigned bytes with {dimensions} dimensions: it begins with "
            f"{content[:4].hex(' ') or 'nothing'}, expected {expected.hex(' ')}. {_COPY_AGAIN}"
        )
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise InputError(f"{path}: truncated: {len(content)} bytes, less than its header of {header}. {_COPY_AGAIN}")
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, header, 4))
    expected_bytes = math.prod(shape)
    values = content[header:]
    if len(values) != expected_bytes:
        sizes = " x ".join(map(str, shape))
        kind = "truncated" if len(values) < expected_bytes else "too long"
        raise InputError(
            f"{path}: {kind}: {len(values)} bytes of values, but its header says {sizes} = {expected_bytes}. "
            f"{_COPY_AGAIN}"
        )
    return np.frombuffer(values, np.uint8).reshape(shape)


def _read_content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == _GZIP_MAGIC else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: broken gzip ({error}): the file is truncated or damaged. {_COPY_AGAIN}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error
