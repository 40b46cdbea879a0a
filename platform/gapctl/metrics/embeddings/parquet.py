"""Embeddings in a parquet table: a row per pair, `image` and `text` as lists of floats.

Index letters: A rows, W entries of a row's list.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gapctl.errors import InputError
from gapctl.metrics.embeddings.found import CLOUDS, KNOWN, Found, sha256_of

WHOLE: Final = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)


def read_parquet(path: Path) -> Found:
    """Reads a table's known columns; raises InputError for whatever is wrong with it."""
    try:
        with path.open("rb") as file:
            present = list(pl.read_parquet_schema(file))
            _require_clouds(path, present)
            file.seek(0)
            known: list[str] = [name for name in KNOWN if name in present]
            table = pl.read_parquet(file, columns=known)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected a parquet table with the columns image and text") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not a parquet table, or a damaged one ({reason}); write it again") from error
    arrays = {name: _array(path, table.get_column(name)) for name in table.columns}
    unknown = tuple(sorted(set(present) - set(KNOWN)))
    return Found(arrays, unknown, {path.name: sha256_of(path)})


def _require_clouds(path: Path, present: Sequence[str]) -> None:
    for name in ("image", "text"):
        if name not in present:
            raise InputError(f"{path}: no column `{name}`; the table has {', '.join(sorted(present)) or 'none'}")


def _array(path: Path, column: pl.Series) -> NDArray[Any]:
    _require_values(path, column)
    _require_numbers(path, column)
    if not isinstance(column.dtype, pl.List | pl.Array):
        return column.to_numpy()
    lists = column.cast(pl.List(column.dtype.inner))
    width_A = lists.list.len().to_numpy()
    uneven_A = np.flatnonzero(width_A != width_A[0]) if len(width_A) else width_A
    if len(uneven_A):
        found = f"{width_A[uneven_A[0]]} numbers in row {uneven_A[0]}"
        raise InputError(f"{path}: `{column.name}`: {found}; expected {width_A[0]}, as in row 0")
    if not len(lists) or not width_A[0]:
        return np.empty((len(lists), 0), dtype=np.float32)
    entries = lists.explode(empty_as_null=True)
    _require_entries(path, column.name, entries, int(width_A[0]))
    return entries.to_numpy().reshape(len(lists), -1)


def _require_values(path: Path, column: pl.Series) -> None:
    if column.null_count():
        row = column.is_null().arg_max()
        raise InputError(f"{path}: `{column.name}`: nothing in row {row}; expected a value in every row")


def _require_numbers(path: Path, column: pl.Series) -> None:
    """Refuses what numpy has no numbers for, and lists in lists, which would be taken for one long row."""
    number = column.dtype.inner if isinstance(column.dtype, pl.List | pl.Array) else column.dtype
    nested = isinstance(column.dtype, pl.Array) and len(column.dtype.shape) > 1
    if nested or not (number.is_float() or number in WHOLE):
        expected = "lists of floats" if column.name in CLOUDS else "whole numbers of at most 64 bits"
        raise InputError(f"{path}: `{column.name}`: of type {column.dtype}; expected {expected}. Store them as such")


def _require_entries(path: Path, name: str, entries_AW: pl.Series, width: int) -> None:
    if entries_AW.null_count():
        row = int(entries_AW.is_null().arg_max() or 0) // width
        raise InputError(f"{path}: `{name}`: an entry is missing in row {row}; expected {width} numbers in every row")
