"""Check the inputs of metrics. Each check raises an InputError with the array's name, the fault and the remedy.

Index letters: A rows of any array, D embedding, M texts.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gapctl.errors import InputError

CHECK_BLOCK: Final = 65_536
"""Rows that are checked together, so that a mapped file need not fit into memory in double precision."""
UNIT_TOLERANCE: Final = 1e-4
"""The largest distance of a squared length from one; rounding to float32 moves it by 1e-7."""
HALF_TOLERANCE: Final = 4 * float(np.finfo(np.float16).eps)
"""The same for float16, where a row that was divided by its length can be no closer to one."""


def make_array_error(name: str, found: str, expected: str, do: str = "") -> InputError:
    """Return an InputError about the array `name`: what was found, what is expected, what to do."""
    return InputError(f"`{name}`: {found}; expected {expected}" + (f". {do}" if do else ""))


def check_cloud(name: str, rows_AD: NDArray[Any], width: int | None = None) -> None:
    """Raise InputError unless the array is floats of shape (rows, width). Values are not checked."""
    if not isinstance(rows_AD, np.ndarray):
        raise make_array_error(
            name, f"a {type(rows_AD).__name__}", "a numpy array of floats", "Convert it with numpy.asarray"
        )
    if rows_AD.dtype.kind != "f":
        raise make_array_error(name, f"of type {rows_AD.dtype}", "floating-point embeddings", "Store them as float32")
    if rows_AD.ndim != 2 or 0 in rows_AD.shape:
        raise make_array_error(name, f"of shape {rows_AD.shape}", "(rows, width), neither of them zero")
    if width is not None and rows_AD.shape[1] != width:
        raise make_array_error(
            name, f"{rows_AD.shape[1]} wide", f"{width}, the width of `image`", "Use one model's own"
        )


def check_values(name: str, rows_AD: NDArray[Any], first: int = 0) -> None:
    """Raise InputError for a row without a direction, with its number counted from `first`."""
    for start in range(0, len(rows_AD), CHECK_BLOCK):
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            norm_A = np.linalg.norm(rows_AD[start : start + CHECK_BLOCK].astype(np.float64), axis=1)
        if not (np.isfinite(norm_A) & (norm_A > 0)).all():
            raise _make_direction_error(name, rows_AD, first)


def check_unit_rows(**clouds: NDArray[Any]) -> None:
    """Raise InputError unless all arrays are of one width and all rows of length one."""
    width = None
    for name, rows_AD in clouds.items():
        check_cloud(name, rows_AD, width)
        width = rows_AD.shape[1]
        half = rows_AD.dtype.itemsize < 4
        wide_AD = rows_AD.astype(np.float32) if half else rows_AD
        squared_A = np.einsum("ad,ad->a", wide_AD, wide_AD)
        off_A = np.flatnonzero(~(np.abs(squared_A - 1) <= (HALF_TOLERANCE if half else UNIT_TOLERANCE)))
        if len(off_A):
            check_values(name, rows_AD)
            raise make_array_error(
                name,
                f"row {off_A[0]} is {np.sqrt(squared_A[off_A[0]]):.6g} long ({len(off_A)} of {len(rows_AD)} such rows)",
                "rows of length one",
                "Normalise them first, as gapctl.metrics.embedding_set.normalise_rows does",
            )


def check_keys(**keyed: tuple[NDArray[Any], NDArray[Any]]) -> None:
    """Raise InputError unless each array has an integer for every row."""
    for name, (rows_AD, key_A) in keyed.items():
        check_numbers(f"key of {name}", key_A, len(rows_AD), name)


def check_numbers(name: str, number_A: NDArray[Any], rows: int, owner: str, *, columns: bool = False) -> None:
    """Raise InputError unless the array is integers, one for each row of `owner`, or with `columns` one or several."""
    if not isinstance(number_A, np.ndarray) or number_A.dtype.kind not in "iu":
        found = f"of type {number_A.dtype}" if isinstance(number_A, np.ndarray) else f"a {type(number_A).__name__}"
        raise make_array_error(name, found, "whole numbers", "Store them as int64")
    by_column = columns and number_A.ndim == 2 and number_A.shape[1] > 0
    if not (number_A.ndim == 1 or by_column) or len(number_A) != rows:
        or_columns = f", or ({rows}, factors)" if columns else ""
        raise make_array_error(name, f"of shape {number_A.shape}", f"({rows},){or_columns}: one entry for each {owner}")


def check_range(name: str, number_A: NDArray[Any], count: int, meaning: str) -> None:
    """Raise InputError for a number outside 0 to `count` - 1; `meaning` describes the numbers."""
    outside_A = np.flatnonzero((number_A < 0) | (number_A >= count))
    if len(outside_A):
        row = outside_A[0]
        raise make_array_error(name, f"{number_A[row]} in row {row}", f"0 to {count - 1}, {meaning}")


def check_text_to_image(image_M: NDArray[Any], images: int) -> None:
    """Raise InputError unless each text has an image, and each image a text."""
    check_range("text_to_image", image_M, images, "the row of an image")
    without = np.setdiff1d(np.arange(images), image_M)
    if len(without):
        found = f"no text for image {without[0]} ({len(without)} such images)"
        raise make_array_error("text_to_image", found, "at least one text for each image")


def make_pairing_error(images: int, texts: int) -> InputError:
    """Return the error for unequal counts of images and texts without an array that pairs them."""
    return make_array_error(
        "text",
        f"{texts} rows for {images} images",
        "as many, row i matching row i",
        "Add `text_to_image` (each text's image), or `labels` (each image's class) where texts are class prompts",
    )


def _make_direction_error(name: str, rows_AD: NDArray[Any], first: int) -> InputError:
    """Return the error for the first row without a direction; rows with a norm of infinity or zero have none."""
    bad_A = np.concatenate(
        [start + _find_bad_rows(rows_AD[start : start + CHECK_BLOCK]) for start in range(0, len(rows_AD), CHECK_BLOCK)]
    )
    count = f" (the first of {len(bad_A)} such rows)" if len(bad_A) > 1 else ""
    return make_array_error(
        name,
        f"row {first + bad_A[0]} {_describe_fault(rows_AD[bad_A[0]].astype(np.float64))}{count}",
        "finite numbers that are not all zero in every row",
        "Encode the row again, or leave it out of every array",
    )


def _find_bad_rows(rows_AD: NDArray[Any]) -> NDArray[np.int64]:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        norm_A = np.linalg.norm(rows_AD.astype(np.float64), axis=1)
    return np.flatnonzero(~np.isfinite(norm_A) | (norm_A == 0))


def _describe_fault(row_D: NDArray[np.float64]) -> str:
    if np.isnan(row_D).any():
        return "holds NaN"
    if not row_D.any():
        return "is all zeros"
    return "holds infinite or far too large numbers" if np.abs(row_D).max() > 1 else "holds numbers far too small"
