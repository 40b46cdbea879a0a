"""Identify MAD's images by a few hex digits, quickly and without numpy, for `gapctl plan`."""

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import Final

from gapctl.data.mad.shards import read_shards_source
from gapctl.data.mad.source import BUNDLED, BUNDLED_FILE, SPLITS, find_idx_files, resolve_source_folder
from gapctl.errors import InputError, WorkError

# Raise this when the same digits would give other images: caches and trial ids depend on it.
GENERATOR_VERSION: Final = 1


def compute_dataset_fingerprint(source: str) -> str:
    """Return the name of a source's images, such as `06012fb109735539-v1`: digest and generator version.

    A folder of shards has the name of its source, and so the same one if its images are the same. Raise InputError as
    `compute_source_fingerprint` does.
    """
    if (shards := read_shards_source(source)) is not None:
        return shards.request.fingerprint
    return f"{compute_source_fingerprint(source)}-v{GENERATOR_VERSION}"


def compute_source_fingerprint(source: str) -> str:
    """Return 16 hex digits that change with any byte of the source's files, gzipped or not.

    Raise InputError if the folder or one of its files is missing.
    """
    if source == BUNDLED:
        paths = [BUNDLED_FILE]
    else:
        folder = resolve_source_folder(source)
        paths = [path for split in SPLITS for path in find_idx_files(folder, split)]
    digest = hashlib.sha256()
    for path in paths:
        try:
            digest.update(_hash_content(path))
        except OSError as error:
            if path == BUNDLED_FILE:
                raise WorkError(
                    f"{path}: the bundled digits cannot be read ({error.strerror}). Install gapctl again."
                ) from error
            raise InputError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error
    return digest.hexdigest()[:16]


def _hash_content(path: Path) -> bytes:
    if path.suffix == ".gz":
        try:
            with gzip.open(path) as file:
                return hashlib.file_digest(file, "sha256").digest()
        except (gzip.BadGzipFile, zlib.error, EOFError):
            pass  # damaged, or not gzipped at all: reading the digits raises the error
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
