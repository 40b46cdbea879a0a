"""Check the inputs of metrics. Each check raises an InputError with the array's name, the fault and the remedy.

`check_arrays` checks all arrays of a set of embeddings and their relations; the other functions check one array each.

Index letters: A rows of any array, D embedding, M texts.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gapctl.errors import InputError
from gapctl.metrics.unit_rows import UnitRows, release_pages

AnyArray = NDArray[Any]
"""An array whose type is checked here."""
Rows = NDArray[np.floating]
RowSource = Rows | UnitRows
"""Rows of unit length, in memory or normalised when they are taken."""
Integers = NDArray[np.int64]

CLOUDS: Final = ("image", "text", "image_with_attributes")
NUMBERS: Final = ("labels", "attributes", "text_to_image")
Pairing = Literal["rows", "text_to_image", "labels"]

CHECK_BLOCK: Final = 65_536
"""Rows that are checked together, so that a mapped file need not fit into memory in double precision."""
UNIT_TOLERANCE: Final = 1e-4
"""The largest distance of a squared length from one; rounding to float32 moves it by 1e-7."""
HALF_TOLERANCE: Final = 4 * float(np.finfo(np.float16).eps)
"""The same for float16, where a row that was divided by its length can be no closer to one."""
BFLOAT16_TOLERANCE: Final = 2.0**-6 + 2.0**-12
"""The same for bfloat16, whose numbers are off by up to 1/256: once in the length, and again in the quotient."""


def make_array_error(name: str, found: str, expected: str, do: str = "") -> InputError:
    """Return an InputError about the array `name`: what was found, what is expected, what to do."""
    return InputError(f"`{name}`: {found}; expected {expected}" + (f". {do}" if do else ""))


def check_embedding_shape(name: str, rows_AD: AnyArray, width: int | None = None) -> None:
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


def check_row_norms(name: str, rows_AD: AnyArray, first: int = 0) -> None:
    """Raise InputError for a row without a direction, with its number counted from `first`.

    A norm of infinity or zero gives none.
    """
    bad: list[int] = []
    for start in range(0, len(rows_AD), CHECK_BLOCK):
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            norm_A = np.linalg.norm(rows_AD[start : start + CHECK_BLOCK].astype(np.float64), axis=1)
        bad.extend(start + np.flatnonzero(~np.isfinite(norm_A) | (norm_A == 0)))
        release_pages(rows_AD)
    if bad:
        row_D = rows_AD[bad[0]].astype(np.float64)
        if np.isnan(row_D).any():
            fault = "holds NaN"
        elif not row_D.any():
            fault = "is all zeros"
        elif np.abs(row_D).max() > 1:
            fault = "holds infinite or far too large numbers"
        else:
            fault = "holds numbers far too small"
        count = f" (the first of {len(bad)} such rows)" if len(bad) > 1 else ""
        raise make_array_error(
            name,
            f"row {first + bad[0]} {fault}{count}",
            "finite numbers that are not all zero in every row",
            "Encode the row again, or leave it out of every array",
        )


def check_unit_rows(**clouds: AnyArray | UnitRows) -> None:
    """Raise InputError unless all arrays are of one width and all rows of length one.

    Rows of bfloat16's numbers, in whatever type they are stored, may be off by that format's rounding.
    """
    width = None
    for name, rows_AD in clouds.items():
        if isinstance(rows_AD, UnitRows):
            continue
        check_embedding_shape(name, rows_AD, width)
        width = rows_AD.shape[1]
        half = rows_AD.dtype.itemsize < 4
        wide_AD = rows_AD.astype(np.float32) if half else rows_AD
        squared_A = np.einsum("ad,ad->a", wide_AD, wide_AD)
        off_A = np.flatnonzero(~(np.abs(squared_A - 1) <= (HALF_TOLERANCE if half else UNIT_TOLERANCE)))
        if len(off_A):
            coarse_A = (np.abs(squared_A[off_A] - 1) <= BFLOAT16_TOLERANCE) & _find_bfloat16_rows(rows_AD[off_A])
            off_A = off_A[~coarse_A]
        if len(off_A):
            check_row_norms(name, rows_AD)
            raise make_array_error(
                name,
                f"row {off_A[0]} is {np.sqrt(squared_A[off_A[0]]):.6g} long ({len(off_A)} of {len(rows_AD)} such rows)",
                "rows of length one",
                "Normalise them first, as gapctl.metrics.embedding_set.normalise_rows does",
            )


def check_integer_keys(**keyed: tuple[AnyArray | UnitRows, AnyArray]) -> None:
    """Raise InputError unless each array has an integer for every row."""
    for name, (rows_AD, key_A) in keyed.items():
        check_integers_per_row(f"key of {name}", key_A, len(rows_AD), name)


def check_integers_per_row(name: str, number_A: AnyArray, rows: int, owner: str, *, columns: bool = False) -> None:
    """Raise InputError unless the array is integers, one for each row of `owner`, or with `columns` one or several."""
    if not isinstance(number_A, np.ndarray) or number_A.dtype.kind not in "iu":
        found = f"of type {number_A.dtype}" if isinstance(number_A, np.ndarray) else f"a {type(number_A).__name__}"
        raise make_array_error(name, found, "whole numbers", "Store them as int64")
    by_column = columns and number_A.ndim == 2 and number_A.shape[1] > 0
    if not (number_A.ndim == 1 or by_column) or len(number_A) != rows:
        or_columns = f", or ({rows}, factors)" if columns else ""
        raise make_array_error(name, f"of shape {number_A.shape}", f"({rows},){or_columns}: one entry for each {owner}")


def check_index_range(name: str, number_A: AnyArray, count: int, meaning: str) -> None:
    """Raise InputError for a number outside 0 to `count` - 1; `meaning` describes the numbers."""
    outside_A = np.flatnonzero((number_A < 0) | (number_A >= count))
    if len(outside_A):
        row = outside_A[0]
        raise make_array_error(name, f"{number_A[row]} in row {row}", f"0 to {count - 1}, {meaning}")


def check_text_to_image(image_M: AnyArray, images: int) -> None:
    """Raise InputError unless each text has an image, and each image a text."""
    check_index_range("text_to_image", image_M, images, "the row of an image")
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


def check_arrays(arrays: Mapping[str, AnyArray], least: int = 2) -> Pairing:
    """Check a set of embeddings by the arrays' names, and return how texts are paired with images.

    `image` and `text` must be there; the other names are those of `CLOUDS` and `NUMBERS`. Raise InputError for the
    first array that is wrong alone or beside the others, and for fewer than `least` rows.
    """
    images = arrays["image"]
    for name in CLOUDS:
        if name in arrays:
            check_embedding_shape(name, arrays[name])
            if len(arrays[name]) < least:
                raise make_single_row_error(name)
            check_embedding_shape(name, arrays[name], images.shape[1])
            check_row_norms(name, arrays[name])
    for name in NUMBERS:
        if name in arrays:
            owner = "text" if name == "text_to_image" else "image"
            check_integers_per_row(name, arrays[name], len(arrays[owner]), owner, columns=name == "attributes")
            largest = np.iinfo(np.int64).max
            if arrays[name].dtype.kind == "u" and arrays[name].max() > largest:
                place = np.argwhere(arrays[name] > largest)[0]
                found = f"{arrays[name][tuple(place)]} in row {place[0]}, beyond int64"
                raise make_array_error(name, found, f"numbers up to {largest}", "Number them from 0")
    for name, needed in (("attributes", ("labels",)), ("image_with_attributes", ("labels", "attributes"))):
        missing = [f"`{other}`" for other in needed if other not in arrays]
        if name in arrays and missing:
            raise make_array_error(name, f"without {' and '.join(missing)}", "both, which object bias is measured by")
    biased = arrays.get("image_with_attributes")
    if biased is not None and len(biased) != len(images):
        found, expected = f"{len(biased)} rows", f"{len(images)}, as many as `image` has"
        raise make_array_error("image_with_attributes", found, expected)
    if "text_to_image" in arrays:
        check_text_to_image(arrays["text_to_image"], len(images))
        return "text_to_image"
    if len(images) == len(arrays["text"]):
        return "rows"
    if "labels" not in arrays:
        raise make_pairing_error(len(images), len(arrays["text"]))
    check_index_range("labels", arrays["labels"], len(arrays["text"]), "the row of a text, which is a class prompt")
    return "labels"


def make_single_row_error(name: str) -> InputError:
    """Return the error for a modality of one row."""
    return make_array_error(name, "a single row", "at least 2, since the gap is measured against distances within")


def _find_bfloat16_rows(rows_AD: AnyArray) -> NDArray[np.bool_]:
    """Return whether all numbers of each row are bfloat16's: float32 without its lower 16 bits (A,)."""
    single_AD = rows_AD.astype(np.float32)
    exact_A: NDArray[np.bool_] = ((single_AD == rows_AD) & (single_AD.view(np.uint32) & 0xFFFF == 0)).all(axis=1)
    return exact_A
