"""What MAD's images are made from, in a few hex digits; quick and without numpy, for `gapctl plan`."""

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import Final

from gapctl.data.mad.shards import read_shards_source
from gapctl.data.mad.source import BUNDLED, BUNDLED_FILE, SPLITS, find_idx_files, resolve_source_folder
from gapctl.errors import InputError, WorkError

# Raise this whenever the same digits would give other images than before: caches and trial ids follow it.
GENERATOR_VERSION: Final = 1


def compute_dataset_fingerprint(source: str) -> str:
    """Return the name of a source's images, such as `06012fb109735539-v1`: its bytes, the generator's version.

    A folder of shards has the name of what it was made from, and so the same one if its images are the same.
    Raises InputError as `compute_source_fingerprint` does.
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
