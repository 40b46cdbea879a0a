"""Where digits come from: the bundled file, or the files of a folder that follow MNIST's names."""

import gzip
import zlib
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.errors import InputError
from gapctl.folders import expand_home

Split = Literal["train", "test"]
SPLITS: Final[tuple[Split, ...]] = ("train", "test")
BUNDLED: Final = "bundled"
BUNDLED_FILE: Final = Path(__file__).parent / "bundled" / "digits.npz"
_PREFIX: Final[dict[Split, str]] = {"train": "train", "test": "t10k"}


class IdxFiles(NamedTuple):
    """The two files of a split."""

    images: Path
    labels: Path


def resolve_source_folder(source: str) -> Path:
    """Return the folder that a source names, `~` replaced; raises InputError if that is nobody's."""
    return expand_home(source)


def find_idx_files(folder: Path, split: Split) -> IdxFiles:
    """Return a split's files; raises InputError if the folder or a file is missing, with the names sought."""
    found = _explain_missing(folder)
    if found:
        raise InputError(
            f"{folder}: the data source {found}. Expected `bundled` or a folder with MNIST's IDX files "
            f"({', '.join(_list_file_names(split, 'images', 3))}) . "
            "`gapctl data fetch mnist --out mnist` brings these; a sweep also takes the shards that "
            "`gapctl data mad --source mnist --out SHARDS` makes of them."
        )
    return IdxFiles(_find_idx_file(folder, split, "images", 3), _find_idx_file(folder, split, "labels", 1))


def _explain_missing(folder: Path) -> str | None:
    try:
        if folder.is_dir():
            return None
        return "is a file" if folder.exists() else "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _list_file_names(split: Split, kind: str, dimensions: int) -> tuple[str, ...]:
    stem = f"{_PREFIX[split]}-{kind}"
    plain = (f"{stem}-idx{dimensions}-ubyte", f"{stem}.idx{dimensions}-ubyte")
    return tuple(name + suffix for name in plain for suffix in ("", ".gz"))


def _find_idx_file(folder: Path, split: Split, kind: str, dimensions: int) -> Path:
    names = _list_file_names(split, kind, dimensions)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    present = sorted(path.name for path in folder.iterdir())[:8]
    raise InputError(
        f"{folder}: no {split} {kind} there. Sought {', '.join(names)}; the folder holds "
        f"{', '.join(present) or 'nothing'}. Put MNIST's four IDX files there, gzipped or not."
    )


_GZIP_MAGIC: Final = b"\x1f\x8b"
_UNSIGNED_BYTES: Final = 8
_COPY_AGAIN: Final = "Copy or download the file again."


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the array in an IDX file, gzipped or not.

    Raises InputError for broken gzip, another format, and a size that differs from what the header says.
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
    return _shape_values(path, content[header:], shape)


def _read_content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == _GZIP_MAGIC else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: broken gzip ({error}): the file is truncated or damaged. {_COPY_AGAIN}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error


def _shape_values(path: Path, values: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    expected = 1
    for length in shape:
        expected *= length
    if len(values) != expected:
        sizes = " x ".join(map(str, shape))
        kind = "truncated" if len(values) < expected else "too long"
        raise InputError(
            f"{path}: {kind}: {len(values)} bytes of values, but its header says {sizes} = {expected}. {_COPY_AGAIN}"
        )
    return np.frombuffer(values, np.uint8).reshape(shape)
