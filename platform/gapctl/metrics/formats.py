"""Read saved embeddings: one file, a pair of arrays, or a folder of shards in the order of their names.

1. `read_embeddings` picks the reader by the kind of place.
2. `read_npz`, `read_npy`, `read_parquet`, `read_safetensors` and `read_pt` return `LoadedArrays` of the known names.
3. `_join_shards` checks that shards agree and stacks them.
4. `check_arrays` checks the arrays, and `_build_embeddings_file` makes `Embeddings` of them.

`locate_npy_rows` gives access to a .npy file's rows by blocks, for embeddings that exceed memory.

Index letters: N images, M texts, A rows of any array, D embedding, B rows of a block, W entries of lists.
"""

import re
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from gapctl.errors import InputError, first_line_of_error
from gapctl.io.atomic import hash_file
from gapctl.io.retry import is_hidden_or_system_file
from gapctl.metrics.array_names import (
    WORDS,
    convert_words_to_numbers,
    list_array_aliases,
    match_array_names,
    read_torch_arrays,
)
from gapctl.metrics.checks import CLOUDS, NUMBERS, AnyArray, Pairing, check_arrays
from gapctl.metrics.embedding_set import Embeddings, build_embeddings

DAMAGE_ERRORS: Final = (OSError, ValueError, EOFError, OverflowError, SyntaxError, tokenize.TokenError)
"""Exceptions of numpy for a damaged .npy file; its header is parsed as Python's text."""

KNOWN_ARRAYS: Final = (*CLOUDS, *NUMBERS)
NPY_NAME: Final = re.compile(rf"(?P<array>{'|'.join(list_array_aliases(KNOWN_ARRAYS))})(?P<shard>[-_.]?\d*)\.npy")
"""`image.npy`, or `image_00012.npy` for one of several shards."""

WORD_TYPES: Final = (pl.String, pl.Categorical, pl.Enum)
INTEGER_TYPES: Final = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)
PACKED_TYPES: Final = ("F4", "F6_E2M3", "F6_E3M2")


class LoadedArrays(NamedTuple):
    """The known arrays of a file, the names of its other arrays, and the sha256 of each file that was read."""

    arrays: Mapping[str, AnyArray]
    unknown: tuple[str, ...]
    files: Mapping[str, str]


class ArrayInfo(NamedTuple):
    """Shape and type of an array, for the record."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class EmbeddingsFile:
    """Checked embeddings: how texts are paired with images, and which arrays are `unused`.

    `files` has the sha256 of every file by its name, in the order of reading.
    """

    embeddings: Embeddings
    pairing: Pairing
    files: Mapping[str, str]
    arrays: Mapping[str, ArrayInfo]
    unused: tuple[str, ...]


def read_embeddings(place: str) -> EmbeddingsFile:
    """Read and check embeddings; nothing in them is ever unpickled.

    `place` is a file (.npz, .parquet, .safetensors, .pt), two .npy files with a comma between them, or a folder: of
    `image.npy` and `text.npy`, of such files with a number (`image_0.npy`), or of files of one of the other formats.
    Raise InputError for anything else, and for arrays that do not fit together.
    """
    path = Path(place)
    if "," in place and not path.exists():
        names = place.split(",")
        if len(names) != 2 or not all(name.endswith(".npy") for name in names):
            expected = (
                "expected two .npy files, the images' and the texts', as image.npy,text.npy. With a labels.npy beside "
                "them, name their folder"
            )
            raise InputError(f"--embeddings {place}: {expected}")
        return _build_embeddings_file(path, read_npy(dict(zip(("image", "text"), map(Path, names), strict=True))))
    if path.is_dir():
        return _read_folder(path)
    return _build_embeddings_file(path, READERS.get(path.suffix, read_npz)(path))


def _read_folder(folder: Path) -> EmbeddingsFile:
    by_format = {ending: _list_files(folder, ending) for ending in (*READERS, ".npy")}
    present = [ending for ending, paths in by_format.items() if paths]
    if not present:
        raise InputError(
            f"{folder}: a folder; expected an .npz archive with the arrays `image` and `text`, or in the folder "
            "image.npy and text.npy, or shards in one of the formats .npz, .parquet, .safetensors, .pt"
        )
    if len(present) > 1:
        raise InputError(f"{folder}: files of {' and '.join(present)}; expected shards of one format")
    if present == [".npy"]:
        return _join_shards(folder, _read_npy_shards(folder))
    return _join_shards(folder, {path: READERS[present[0]](path) for path in by_format[present[0]]})


def _read_npy_shards(folder: Path) -> dict[Path, LoadedArrays]:
    shards: dict[str, dict[str, Path]] = {}
    unknown = []
    for path in _list_files(folder, ".npy"):
        named = NPY_NAME.fullmatch(path.name)
        if named is None:
            unknown.append(path.name)
        else:
            shards.setdefault(named["shard"], {})[named["array"]] = path
    in_order = sorted(shards.items(), key=lambda shard: (int(shard[0].strip("-_.") or -1), shard[0]))
    if not shards:
        raise InputError(f"{folder}: no image.npy and text.npy; the folder has {', '.join(unknown)}")
    loaded = {}
    for shard, paths in in_order:
        names = match_array_names(folder, paths, KNOWN_ARRAYS)
        for name in ("image", "text"):
            if name not in names:
                raise InputError(f"{folder}: no file {name}{shard}.npy beside {next(iter(paths.values())).name}")
        unused = [path.name for given, path in paths.items() if given not in names.values()]
        loaded[folder / f"*{shard}.npy"] = read_npy(
            {name: paths[given] for name, given in names.items()}, unknown + unused
        )
    return loaded


def _list_files(folder: Path, ending: str) -> list[Path]:
    """Return the files of a folder with this ending, sorted by name, without files that other systems leave there."""
    return sorted(path for path in folder.glob(f"*{ending}") if not is_hidden_or_system_file(path.name))


def _join_shards(folder: Path, shards: Mapping[Path, LoadedArrays]) -> EmbeddingsFile:
    if len(shards) == 1:
        return _build_embeddings_file(*next(iter(shards.items())))
    coded = convert_words_to_numbers({path: loaded.arrays for path, loaded in shards.items()})
    shards = {path: loaded._replace(arrays=coded[path]) for path, loaded in shards.items()}
    pairings = {path: _check_arrays_of_file(path, loaded.arrays, least=1) for path, loaded in shards.items()}
    _require_equal_kinds(shards, pairings)
    arrays = {name: _stack_arrays(name, list(shards.values())) for name in next(iter(shards.values())).arrays}
    unknown = sorted({name for loaded in shards.values() for name in loaded.unknown})
    files = {name: sha256 for loaded in shards.values() for name, sha256 in loaded.files.items()}
    return _build_embeddings_file(folder, LoadedArrays(arrays, tuple(unknown), files))


def _require_equal_kinds(shards: Mapping[Path, LoadedArrays], pairings: Mapping[Path, Pairing]) -> None:
    first = next(iter(shards))
    expected = _describe_kinds(shards[first].arrays)
    for path, loaded in shards.items():
        if pairings[path] == "labels":
            raise InputError(f"{path}: class prompts, which no shards can share; expected a text for each image")
        kind = _describe_kinds(loaded.arrays)
        for name in sorted({*kind, *expected}):
            if kind.get(name) != expected.get(name):
                raise InputError(
                    f"{path}: `{name}`: {kind.get(name, 'missing')}; expected {expected.get(name, 'none')}, "
                    f"as {first.name} has it"
                )


def _describe_kinds(arrays: Mapping[str, AnyArray]) -> dict[str, str]:
    """Return each array's width, or that it has one number per row, which all shards must agree on."""
    return {
        name: f"{array.shape[1]} wide" if array.ndim == 2 else "one number for each row"
        for name, array in arrays.items()
    }


def _stack_arrays(name: str, shards: Sequence[LoadedArrays]) -> AnyArray:
    """Stack one array of all shards. Each shard's `text_to_image` counts its own images, so it is shifted."""
    parts = [loaded.arrays[name] for loaded in shards]
    if name == "text_to_image":
        before = np.cumsum([0, *(len(loaded.arrays["image"]) for loaded in shards)])
        parts = [part.astype(np.int64) + first for part, first in zip(parts, before, strict=False)]
    return np.concatenate(parts)


def _check_arrays_of_file(path: Path, arrays: Mapping[str, AnyArray], least: int) -> Pairing:
    try:
        return check_arrays(arrays, least)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _build_embeddings_file(path: Path, loaded: LoadedArrays) -> EmbeddingsFile:
    loaded = loaded._replace(arrays=convert_words_to_numbers({path: loaded.arrays})[path])
    arrays, pairing = loaded.arrays, _check_arrays_of_file(path, loaded.arrays, least=2)
    infos = {name: ArrayInfo(array.shape, str(array.dtype)) for name, array in arrays.items()}
    return EmbeddingsFile(build_embeddings(arrays, pairing), pairing, loaded.files, infos, loaded.unknown)


def read_npz(path: Path) -> LoadedArrays:
    """Read an archive's known arrays, but no object arrays. Raise InputError for a missing or damaged archive."""
    _require_archive(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = match_array_names(path, archive.files, KNOWN_ARRAYS)
            for name in ("image", "text"):
                if name not in names:
                    held = ", ".join(sorted(archive.files))
                    found = f"the archive has {held}" if held else "the archive is empty"
                    raise InputError(
                        f"{path}: no array `{name}`; {found}. Name the arrays in numpy.savez(file, image=..., text=...)"
                    )
            arrays = {name: _read_npz_array(path, archive, given) for name, given in names.items()}
            unknown = tuple(sorted(set(archive.files) - set(names.values())))
    except (*DAMAGE_ERRORS, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: a damaged .npz archive ({error}); write it again with numpy.savez") from error
    return LoadedArrays(arrays, unknown, {path.name: hash_file(path)})


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


def _read_npz_array(path: Path, archive: Mapping[str, AnyArray], name: str) -> AnyArray:
    try:
        array = archive[name]
    except (*DAMAGE_ERRORS, zlib.error, zipfile.BadZipFile, RuntimeError, MemoryError) as error:
        if "Object arrays" in str(error):
            reason = "an object array, which could only be unpickled, and that is never done; store it as numbers"
        else:
            reason = f"damaged, or larger than memory ({error}); write it again with numpy.savez"
        raise InputError(f"{path}: `{name}`: {reason}") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: `{name}`: not an array; expected what numpy.savez writes")
    return array


def read_npy(paths: Mapping[str, Path], unknown: Sequence[str] = ()) -> LoadedArrays:
    """Map each array's file into memory. Raise InputError for a missing or damaged file."""
    arrays = {name: _map_npy(path) for name, path in paths.items()}
    return LoadedArrays(arrays, tuple(unknown), {path.name: hash_file(path) for path in paths.values()})


def _map_npy(path: Path) -> AnyArray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected what numpy.save writes") from error
    except DAMAGE_ERRORS as error:
        if path.is_dir():
            fault = "a folder; expected a .npy file"
        elif "object" in str(error).lower() or "pickle" in str(error).lower():
            fault = "a pickle or an object array, which is never loaded; expected numbers as numpy.save writes them"
        else:
            fault = f"a damaged .npy file ({error}); write it again with numpy.save"
        raise InputError(f"{path}: {fault}") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: an archive of several arrays; give it alone, as --embeddings {path}")
    return array


def read_parquet(path: Path) -> LoadedArrays:
    """Read a table's known columns. Raise InputError for a missing or damaged table."""
    try:
        with path.open("rb") as file:
            present = list(pl.read_parquet_schema(file))
            names = match_array_names(path, present, KNOWN_ARRAYS)
            for name in ("image", "text"):
                if name not in names:
                    raise InputError(
                        f"{path}: no column `{name}`; the table has {', '.join(sorted(present)) or 'none'}"
                    )
            file.seek(0)
            table = pl.read_parquet(file, columns=list(names.values()))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected a parquet table with the columns image and text") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(
            f"{path}: not a parquet table, or a damaged one ({first_line_of_error(error)}); write it again"
        ) from error
    arrays = {name: _convert_parquet_column(path, table.get_column(given).alias(name)) for name, given in names.items()}
    unknown = tuple(sorted(set(present) - set(names.values())))
    return LoadedArrays(arrays, unknown, {path.name: hash_file(path)})


def _convert_parquet_column(path: Path, column: pl.Series) -> AnyArray:
    if column.null_count():
        row = column.is_null().arg_max()
        raise InputError(f"{path}: `{column.name}`: nothing in row {row}; expected a value in every row")
    _require_numbers(path, column)
    if not isinstance(column.dtype, pl.List | pl.Array):
        return np.array(column.to_list()) if column.dtype in WORD_TYPES else column.to_numpy()
    lists = column.cast(pl.List(column.dtype.inner))
    width_A = lists.list.len().to_numpy()
    uneven_A = np.flatnonzero(width_A != width_A[0]) if len(width_A) else width_A
    if len(uneven_A):
        found = f"{width_A[uneven_A[0]]} numbers in row {uneven_A[0]}"
        raise InputError(f"{path}: `{column.name}`: {found}; expected {width_A[0]}, as in row 0")
    if not len(lists) or not width_A[0]:
        return np.empty((len(lists), 0), dtype=np.float32)
    entries, width = lists.explode(empty_as_null=True), int(width_A[0])
    if entries.null_count():
        row = int(entries.is_null().arg_max() or 0) // width
        raise InputError(
            f"{path}: `{column.name}`: an entry is missing in row {row}; expected {width} numbers in every row"
        )
    flat = np.array(entries.to_list()) if entries.dtype in WORD_TYPES else entries.to_numpy()
    return flat.reshape(len(lists), -1)


def _require_numbers(path: Path, column: pl.Series) -> None:
    """Raise InputError for types that numpy lacks, and for nested lists, which would be read as one long row."""
    number = column.dtype.inner if isinstance(column.dtype, pl.List | pl.Array) else column.dtype
    nested = isinstance(column.dtype, pl.Array) and len(column.dtype.shape) > 1
    if column.name in WORDS and number in WORD_TYPES and not nested:
        return
    if nested or not (number.is_float() or number in INTEGER_TYPES):
        expected = "lists of floats" if column.name in CLOUDS else "whole numbers of at most 64 bits"
        raise InputError(f"{path}: `{column.name}`: of type {column.dtype}; expected {expected}. Store them as such")


def read_pt(path: Path) -> LoadedArrays:
    """Read a file's known tensors. Raise InputError for a missing or damaged file, and for pickled objects."""
    tensors = read_torch_arrays(path)
    names = match_array_names(path, tensors, KNOWN_ARRAYS)
    for name in ("image", "text"):
        if name not in names:
            raise InputError(f"{path}: no array `{name}`; the file has {', '.join(sorted(tensors)) or 'no tensors'}")
    arrays = {name: tensors[given] for name, given in names.items()}
    return LoadedArrays(arrays, tuple(sorted(set(tensors) - set(names.values()))), {path.name: hash_file(path)})


def read_safetensors(path: Path) -> LoadedArrays:
    """Read a file's known arrays. Raise InputError for a missing or damaged file."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a .safetensors file with the arrays `image` and `text`")
    try:
        with safe_open(path, framework="numpy") as opened:
            present = set(opened.keys())
            names = match_array_names(path, present, KNOWN_ARRAYS)
            types = {given: opened.get_slice(given).get_dtype() for given in names.values()}
            for name, written in types.items():
                if written in PACKED_TYPES:
                    raise InputError(
                        f"{path}: `{name}`: of type {written}, several numbers in a byte, which mean nothing without "
                        "the scales that belong to them; expected numbers of 8 bits or more. Store them as float32"
                    )
            wide = {name for name, written in types.items() if written.startswith(("BF", "F8"))}
            arrays = {name: opened.get_tensor(name) for name in types if name not in wide}
        arrays |= _read_widened(path, wide) if wide else {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a .safetensors file, or a damaged one ({error}); write it again") from error
    for name in ("image", "text"):
        if name not in names:
            raise InputError(f"{path}: no array `{name}`; the file has {', '.join(sorted(present)) or 'none'}")
    return LoadedArrays(
        {name: arrays[given] for name, given in names.items()},
        tuple(sorted(present - set(names.values()))),
        {path.name: hash_file(path)},
    )


def _read_widened(path: Path, names: Collection[str]) -> dict[str, AnyArray]:
    """Read arrays of formats that numpy lacks (bfloat16, float8) as float32, without loss, by torch."""
    try:
        import torch  # noqa: F401  safetensors needs it for these formats
    except ImportError as error:
        raise InputError(
            f"{path}: `{min(names)}`: in a format of torch's, which is not installed; store it as float32, or run "
            "`pip install torch`"
        ) from error
    with safe_open(path, framework="pt") as opened:
        return {name: opened.get_tensor(name).float().numpy() for name in names}


READERS: Final[Mapping[str, Callable[[Path], LoadedArrays]]] = {
    ".npz": read_npz,
    ".parquet": read_parquet,
    ".safetensors": read_safetensors,
    ".pt": read_pt,
    ".pth": read_pt,
}


class NpyRows(NamedTuple):
    """The location of a file's rows: its path, the offset of the first number in bytes, and type and shape."""

    path: Path
    offset: int
    dtype: np.dtype[np.floating]
    rows: int
    width: int

    def read_block(self, start: int, stop: int) -> NDArray[np.floating]:
        """Return rows `start` to `stop` (B, D), read on use; the file's map is closed with the array."""
        offset = self.offset + start * self.width * self.dtype.itemsize
        shape = (min(stop, self.rows) - start, self.width)
        return np.asarray(np.memmap(self.path, dtype=self.dtype, mode="r", offset=offset, shape=shape))

    def read_blocks(self, rows: int) -> Iterator[NDArray[np.floating]]:
        """Yield all rows in order, `rows` at a time."""
        for start in range(0, self.rows, rows):
            yield self.read_block(start, start + rows)


def locate_npy_rows(path: Path) -> NpyRows:
    """Locate the rows of a .npy file of floating-point embeddings (N, D), without unpickling anything.

    Raise InputError for any other file, and for one shorter than its header promises.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, by_column, dtype = read_header[version](file)
            offset = file.tell()
    except (*DAMAGE_ERRORS, KeyError) as error:
        raise InputError(f"{path}: not a readable .npy file ({error}); write it with numpy.save") from error
    if dtype.kind != "f" or len(shape) != 2 or by_column or 0 in shape:
        order = ", by columns" if by_column else ""
        raise InputError(
            f"{path}: holds {dtype} of shape {shape}{order}; expected floating-point rows (N, D), neither of them "
            "zero, by rows. Write numpy.ascontiguousarray(rows) with numpy.save"
        )
    length = offset + shape[0] * shape[1] * dtype.itemsize
    if (size := path.stat().st_size) < length:
        raise InputError(f"{path}: {size:,} bytes long where its header promises {length:,}; copy it again")
    return NpyRows(path, offset, dtype, *shape)
