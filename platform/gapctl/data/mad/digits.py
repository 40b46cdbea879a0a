"""MNIST digits with their labels: the bundled ones, or those of a folder of IDX files.

Index letters: N digits, H and W the 28 rows and columns.
"""

import zipfile
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.fingerprint import source_fingerprint
from gapctl.data.mad.idx import read_idx
from gapctl.data.mad.shards.description import shards_source
from gapctl.data.mad.source import BUNDLED, BUNDLED_FILE, IdxFiles, Split, find_files, source_folder
from gapctl.errors import InputError, WorkError

_SIDE: Final = 28
_CLASSES: Final = 10


@dataclass(frozen=True)
class Digits:
    """The digits of one split; `fingerprint` names the whole source that they come from."""

    images_NHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels_N)


def load_digits(source: str, split: Split) -> Digits:
    """Return a split's digits from `bundled` or a folder of IDX files.

    Raises InputError for a folder of shards (which hold images, not digits), if the folder or a file is missing,
    damaged, of another size than 28x28, if there are not as many labels as images, and if a label is not 0 to 9.
    """
    if shards_source(source) is not None:
        raise InputError(
            f"{source}: a folder of MAD's shards, expected the digits that they were made from: `bundled` or a folder "
            "of IDX files."
        )
    fingerprint = source_fingerprint(source)
    if source == BUNDLED:
        images, labels = _read_bundled(split)
    else:
        files = find_files(source_folder(source), split)
        images, labels = read_idx(files.images, 3), read_idx(files.labels, 1)
        _check(files, images, labels)
    return Digits(images, labels.astype(np.int64), fingerprint)


def _read_bundled(split: Split) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    try:
        with np.load(BUNDLED_FILE) as arrays:
            return arrays[f"{split}_images"], arrays[f"{split}_labels"]
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError) as error:
        raise WorkError(f"{BUNDLED_FILE}: the bundled digits are damaged ({error}). Install gapctl again.") from error


def _check(files: IdxFiles, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
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
