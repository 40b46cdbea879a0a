"""MNIST digits with their labels: the bundled ones, or those of a folder of IDX files.

Index letters: N digits, H and W the 28 rows and columns.
"""

import gzip
import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.shards import open_images, read_shards_source
from gapctl.data.mad.source import (
    BUNDLED,
    BUNDLED_FILE,
    SPLITS,
    IdxFiles,
    Split,
    find_idx_files,
    read_idx,
    resolve_source_folder,
)
from gapctl.errors import InputError, WorkError

# Raise this whenever the same digits would give other images than before: caches and trial ids follow it.
GENERATOR_VERSION: Final = 1


def compute_dataset_fingerprint(source: str) -> str:
    """Return the name of a source's images, such as `06012fb109735539-v1`: its bytes, the generator's
    version.

    A folder of shards has the name of what it was made from, and so the same one if its images are the same.
    Raises InputError as `source_fingerprint` does.
    """
    if (shards := read_shards_source(source)) is not None:
        return shards.request.fingerprint
    return f"{compute_source_fingerprint(source)}-v{GENERATOR_VERSION}"


def compute_source_fingerprint(source: str) -> str:
    """Return 16 hex digits that change when any byte of the source's files does, gzipped or not.

    Raises InputError if the folder or one of its files is missing.
    """
    paths = [BUNDLED_FILE] if source == BUNDLED else _list_source_files(resolve_source_folder(source))
    digest = hashlib.sha256()
    for path in paths:
        try:
            digest.update(_hash_content(path))
        except OSError as error:
            raise _make_read_error(path, error) from error
    return digest.hexdigest()[:16]


def _hash_content(path: Path) -> bytes:
    if path.suffix == ".gz":
        try:
            with gzip.open(path) as file:
                return hashlib.file_digest(file, "sha256").digest()
        except (gzip.BadGzipFile, zlib.error, EOFError):
            pass  # damaged, or not gzipped at all: reading the digits tells
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _list_source_files(folder: Path) -> list[Path]:
    return [path for split in SPLITS for path in find_idx_files(folder, split)]


def _make_read_error(path: Path, error: OSError) -> InputError | WorkError:
    if path == BUNDLED_FILE:
        return WorkError(f"{path}: the bundled digits cannot be read ({error.strerror}). Install gapctl again.")
    return InputError(f"{path}: cannot be read ({error.strerror}). Check its permissions.")


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
    if read_shards_source(source) is not None:
        raise InputError(
            f"{source}: a folder of MAD's shards, expected the digits that they were made from: `bundled` or a folder "
            "of IDX files."
        )
    fingerprint = compute_source_fingerprint(source)
    if source == BUNDLED:
        images, labels = _read_bundled(split)
    else:
        files = find_idx_files(resolve_source_folder(source), split)
        images, labels = read_idx(files.images, 3), read_idx(files.labels, 1)
        _check_digits(files, images, labels)
    return Digits(images, labels.astype(np.int64), fingerprint)


def _read_bundled(split: Split) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    try:
        with np.load(BUNDLED_FILE) as arrays:
            return arrays[f"{split}_images"], arrays[f"{split}_labels"]
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError) as error:
        raise WorkError(f"{BUNDLED_FILE}: the bundled digits are damaged ({error}). Install gapctl again.") from error


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


def count_digits(source: str) -> dict[Split, int]:
    """Return the digits per split; raises InputError for a source that a trial cannot be trained on."""
    if read_shards_source(source) is None:
        return {split: len(load_digits(source, split)) for split in SPLITS}
    return {split: len(open_images(resolve_source_folder(source), split)[0]) for split in SPLITS}
