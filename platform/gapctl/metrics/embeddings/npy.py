"""Embeddings as single .npy arrays, mapped rather than read: two files, or a folder of files named by array."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gapctl.errors import InputError
from gapctl.metrics.embeddings.found import DAMAGE, KNOWN, Found, files_in, sha256_of

NAME: Final = re.compile(rf"(?P<array>{'|'.join(sorted(KNOWN, key=len, reverse=True))})(?P<shard>[-_.]?\d*)\.npy")
"""`image.npy`, or `image_00012.npy` where there are several shards."""


def read_npy(paths: Mapping[str, Path], unknown: Sequence[str] = ()) -> Found:
    """Maps each array's file; raises InputError for whatever is wrong with one."""
    arrays = {name: _mapped(path) for name, path in paths.items()}
    return Found(arrays, tuple(unknown), {path.name: sha256_of(path) for path in paths.values()})


def npy_shards(folder: Path) -> tuple[dict[str, dict[str, Path]], tuple[str, ...]]:
    """The files of a folder by shard and array, shards in the order of their numbers, and all other .npy names."""
    shards: dict[str, dict[str, Path]] = {}
    unknown = []
    for path in files_in(folder, ".npy"):
        named = NAME.fullmatch(path.name)
        if named is None:
            unknown.append(path.name)
        else:
            shards.setdefault(named["shard"], {})[named["array"]] = path
    return {shard: shards[shard] for shard in sorted(shards, key=_order)}, tuple(unknown)


def _order(shard: str) -> tuple[int, str]:
    digits = shard.strip("-_.")
    return (int(digits) if digits else -1, shard)


def _mapped(path: Path) -> NDArray[Any]:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected what numpy.save writes") from error
    except DAMAGE as error:
        raise InputError(f"{path}: {_reason(path, error)}") from error
    if not isinstance(found, np.ndarray):
        raise InputError(f"{path}: an archive of several arrays; give it alone, as --embeddings {path}")
    return found


def _reason(path: Path, error: Exception) -> str:
    if path.is_dir():
        return "a folder; expected a .npy file"
    said = str(error)
    if "Object arrays" in said or "object" in said or "pickle" in said.lower():
        return "a pickle or an object array, which is never loaded; expected numbers as numpy.save writes them"
    return f"a damaged .npy file ({said}); write it again with numpy.save"
