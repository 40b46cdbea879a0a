"""Embeddings in an .npz archive, by the names that `numpy.savez` was given."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapctl.errors import InputError
from gapctl.metrics.embeddings.found import DAMAGE, KNOWN, Found, sha256_of


def read_npz(path: Path) -> Found:
    """Reads an archive's known arrays; object arrays are refused. Raises InputError for whatever is wrong with it."""
    _require_archive(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            _require_clouds(path, archive.files)
            arrays = {name: _array(path, archive, name) for name in KNOWN if name in archive.files}
            unknown = tuple(sorted(set(archive.files) - set(KNOWN)))
    except (*DAMAGE, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: a damaged .npz archive ({error}); write it again with numpy.savez") from error
    return Found(arrays, unknown, {path.name: sha256_of(path)})


def _require_archive(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path}: no such file; expected an .npz archive with the arrays `image` and `text`")
    if path.is_dir():
        raise InputError(f"{path}: a folder; expected an .npz archive with the arrays `image` and `text`")
    try:
        with path.open("rb") as file:
            archive = zipfile.is_zipfile(file)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if not archive:
        raise InputError(
            f"{path}: not an .npz archive; expected what numpy.savez(file, image=..., text=...) writes. "
            "A single .npy array or a pickle holds no names, and pickles are never loaded"
        )


def _require_clouds(path: Path, present: Sequence[str]) -> None:
    for name in ("image", "text"):
        if name not in present:
            found = f"the archive has {', '.join(sorted(present))}" if present else "the archive is empty"
            raise InputError(
                f"{path}: no array `{name}`; {found}. Name the arrays in numpy.savez(file, image=..., text=...)"
            )


def _array(path: Path, archive: Mapping[str, Any], name: str) -> NDArray[Any]:
    try:
        array = archive[name]
    except (*DAMAGE, zlib.error, zipfile.BadZipFile, RuntimeError, MemoryError) as error:
        if "Object arrays" in str(error):
            reason = "an object array, which could only be unpickled, and that is never done; store it as numbers"
        else:
            reason = f"damaged, or larger than memory ({error}); write it again with numpy.savez"
        raise InputError(f"{path}: `{name}`: {reason}") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: `{name}`: not an array; expected what numpy.savez writes")
    return array
