"""Saved embeddings from wherever they are: one file, a pair of arrays, or a folder of shards in the order of names."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gapctl.errors import InputError
from gapctl.metrics.embeddings.content import (
    ArrayFacts,
    EmbeddingsFile,
    Pairing,
    check_shard,
    check_whole,
    embeddings_of,
)
from gapctl.metrics.embeddings.found import Found, files_in
from gapctl.metrics.embeddings.npy import npy_shards, read_npy
from gapctl.metrics.embeddings.npz import read_npz
from gapctl.metrics.embeddings.parquet import read_parquet
from gapctl.metrics.embeddings.safetensors import read_safetensors

READERS: Final[Mapping[str, Callable[[Path], Found]]] = {
    ".npz": read_npz,
    ".parquet": read_parquet,
    ".safetensors": read_safetensors,
}


def read_embeddings(place: str) -> EmbeddingsFile:
    """Reads and checks embeddings; nothing in them is ever unpickled. Raises InputError on whatever is wrong.

    `place` is a file (.npz, .parquet, .safetensors), two .npy files with a comma between them, or a folder: of
    `image.npy` and `text.npy`, of such files with a number (`image_0.npy`), or of files of one of the other formats.
    """
    path = Path(place)
    if "," in place and not path.exists():
        return _whole(path, _pair(place))
    if path.is_dir():
        return _folder(path)
    return _whole(path, READERS.get(path.suffix, read_npz)(path))


def _pair(place: str) -> Found:
    names = place.split(",")
    if len(names) != 2 or not all(name.endswith(".npy") for name in names):
        expected = "expected two .npy files, the images' and the texts', as image.npy,text.npy"
        raise InputError(f"--embeddings {place}: {expected}")
    return read_npy(dict(zip(("image", "text"), map(Path, names), strict=True)))


def _folder(folder: Path) -> EmbeddingsFile:
    by_format = {ending: files_in(folder, ending) for ending in (*READERS, ".npy")}
    present = [ending for ending, paths in by_format.items() if paths]
    if not present:
        raise InputError(
            f"{folder}: a folder; expected an .npz archive with the arrays `image` and `text`, or in the folder "
            "image.npy and text.npy, or shards in one of the formats .npz, .parquet, .safetensors"
        )
    if len(present) > 1:
        raise InputError(f"{folder}: files of {' and '.join(present)}; expected shards of one format")
    if present == [".npy"]:
        return _joined(folder, _npy_shards(folder))
    return _joined(folder, {path: READERS[present[0]](path) for path in by_format[present[0]]})


def _npy_shards(folder: Path) -> dict[Path, Found]:
    shards, unknown = npy_shards(folder)
    for shard, paths in shards.items():
        for name in ("image", "text"):
            if name not in paths:
                raise InputError(f"{folder}: no file {name}{shard}.npy beside {next(iter(paths.values())).name}")
    if not shards:
        raise InputError(f"{folder}: no image.npy and text.npy; the folder has {', '.join(unknown)}")
    return {folder / f"*{shard}.npy": read_npy(paths, unknown) for shard, paths in shards.items()}


def _joined(folder: Path, shards: Mapping[Path, Found]) -> EmbeddingsFile:
    if len(shards) == 1:
        return _whole(*next(iter(shards.items())))
    pairings = {path: check_shard(path, found.arrays) for path, found in shards.items()}
    _require_alike(shards, pairings)
    arrays = {name: _stacked(name, list(shards.values())) for name in next(iter(shards.values())).arrays}
    unknown = sorted({name for found in shards.values() for name in found.unknown})
    files = {name: sha256 for found in shards.values() for name, sha256 in found.files.items()}
    return _whole(folder, Found(arrays, tuple(unknown), files))


def _require_alike(shards: Mapping[Path, Found], pairings: Mapping[Path, Pairing]) -> None:
    first = next(iter(shards))
    expected = _kind(shards[first].arrays)
    for path, found in shards.items():
        if pairings[path] == "labels":
            raise InputError(f"{path}: class prompts, which no shards can share; expected a text for each image")
        kind = _kind(found.arrays)
        for name in sorted({*kind, *expected}):
            if kind.get(name) != expected.get(name):
                raise InputError(
                    f"{path}: `{name}`: {kind.get(name, 'missing')}; expected {expected.get(name, 'none')}, "
                    f"as {first.name} has it"
                )


def _kind(arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """What the shards' arrays must have in common."""
    return {
        name: f"{array.shape[1]} wide" if array.ndim == 2 else "one number for each row"
        for name, array in arrays.items()
    }


def _stacked(name: str, shards: Sequence[Found]) -> NDArray[Any]:
    """One array of all shards; in each of them `text_to_image` counts the shard's own images."""
    parts = [found.arrays[name] for found in shards]
    if name == "text_to_image":
        before = np.cumsum([0, *(len(found.arrays["image"]) for found in shards)])
        parts = [part.astype(np.int64) + first for part, first in zip(parts, before, strict=False)]
    return np.concatenate(parts)


def _whole(path: Path, found: Found) -> EmbeddingsFile:
    pairing = check_whole(path, found.arrays)
    return EmbeddingsFile(
        embeddings=embeddings_of(found.arrays, pairing),
        pairing=pairing,
        files=found.files,
        arrays={name: ArrayFacts(array.shape, str(array.dtype)) for name, array in found.arrays.items()},
        unused=found.unknown,
    )
