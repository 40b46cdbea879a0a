"""Embeddings as a file holds them, checked: which arrays there may be, and how texts belong to images.

Index letters: N images, M texts, F attribute factors, D embedding, A rows of any array.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.errors import InputError
from gapctl.metrics.embedding_set import Embeddings
from gapctl.metrics.embeddings.found import CLOUDS, NUMBERS

BLOCK: Final = 65_536
"""Rows that are checked at a time: a mapped file need not fit into memory in double precision."""

Pairing = Literal["rows", "text_to_image", "labels"]


class ArrayFacts(NamedTuple):
    """What an array of the file is, for the record."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class EmbeddingsFile:
    """Checked content: `pairing` says by what texts belong to images, `unused` which arrays tell nothing.

    `files` has the sha256 of every file by its name, in the order in which they were read.
    """

    embeddings: Embeddings
    pairing: Pairing
    files: Mapping[str, str]
    arrays: Mapping[str, ArrayFacts]
    unused: tuple[str, ...]


def check_shard(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Pairing:
    """Checks a file that is one of several; a shard may have a single row."""
    return _Content(path, arrays, least=1).check()


def check_whole(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Pairing:
    """Checks the arrays of a single file or folder; says by what texts belong to images."""
    return _Content(path, arrays, least=2).check()


def embeddings_of(arrays: Mapping[str, NDArray[Any]], pairing: Pairing) -> Embeddings:
    """Checked arrays as the metrics take them."""
    numbers = {name: arrays[name].astype(np.int64) for name in NUMBERS if name in arrays}
    return Embeddings(
        image_ND=arrays["image"],
        text_MD=arrays["text"],
        text_to_image_M=numbers.get("text_to_image"),
        text_group_M=equal_rows(arrays["text"]) if pairing == "rows" else None,
        prompt_of_N=numbers["labels"] if pairing == "labels" else None,
        labels_N=numbers.get("labels"),
        attributes_NF=numbers.get("attributes"),
        bias_image_ND=arrays.get("image_with_attributes"),
    )


def equal_rows(text_MD: NDArray[Any]) -> NDArray[np.int64] | None:
    """A number per text, the same where rows are the same to the last bit, as those of one caption are; None where no
    two are."""
    first: dict[bytes, int] = {}
    digests = (hashlib.blake2b(row_D.tobytes(), digest_size=16).digest() for row_D in text_MD)
    group_M = np.array([first.setdefault(digest, m) for m, digest in enumerate(digests)])
    return group_M if len(first) < len(group_M) else None


class _Content:
    """The checks of a file's arrays, each of which ends in an InputError that names the file and the array."""

    def __init__(self, path: Path, arrays: Mapping[str, NDArray[Any]], least: int) -> None:
        self._path = path
        self._arrays = arrays
        self._least = least

    def check(self) -> Pairing:
        """Checks every array alone, then how they belong together; says by what texts belong to images."""
        for name in CLOUDS:
            if name in self._arrays:
                self._check_cloud(name, self._arrays[name])
        for name in NUMBERS:
            if name in self._arrays:
                self._check_numbers(name, self._arrays[name])
        self._check_bias_inputs()
        pairing = self._pairing()
        if pairing == "text_to_image":
            self._check_text_to_image(self._arrays["text_to_image"])
        elif pairing == "labels":
            self._check_range("labels", len(self._arrays["text"]), "the row of a text, which is a class prompt")
        return pairing

    def _check_cloud(self, name: str, rows_AD: NDArray[Any]) -> None:
        if rows_AD.dtype.kind != "f":
            raise self._wrong(name, f"of type {rows_AD.dtype}", "floating-point embeddings", "Store them as float32")
        if rows_AD.ndim != 2 or 0 in rows_AD.shape:
            raise self._wrong(name, f"of shape {rows_AD.shape}", "(rows, width), neither of them zero")
        if len(rows_AD) < self._least:
            raise self._wrong(name, "a single row", "at least 2, since the gap is measured against distances within")
        if rows_AD.shape[1] != (width := self._arrays["image"].shape[1]):
            raise self._wrong(name, f"{rows_AD.shape[1]} wide", f"{width}, the width of `image`", "Use one model's own")
        self._check_rows(name, rows_AD)

    def _check_rows(self, name: str, rows_AD: NDArray[Any]) -> None:
        bad_A = np.concatenate(
            [start + _bad_rows(rows_AD[start : start + BLOCK]) for start in range(0, len(rows_AD), BLOCK)]
        )
        if len(bad_A):
            count = f" (the first of {len(bad_A)} such rows)" if len(bad_A) > 1 else ""
            raise self._wrong(
                name,
                f"row {bad_A[0]} {_fault(rows_AD[bad_A[0]].astype(np.float64))}{count}",
                "finite numbers that are not all zero in every row",
                "Encode the row again, or leave it out of every array",
            )

    def _check_numbers(self, name: str, number_A: NDArray[Any]) -> None:
        if number_A.dtype.kind not in "iu":
            raise self._wrong(name, f"of type {number_A.dtype}", "whole numbers", "Store them as int64")
        owner = "text" if name == "text_to_image" else "image"
        rows = len(self._arrays[owner])
        by_factor = name == "attributes" and number_A.ndim == 2 and number_A.shape[1] > 0
        if not (number_A.ndim == 1 or by_factor) or len(number_A) != rows:
            or_columns = f", or ({rows}, factors)" if name == "attributes" else ""
            raise self._wrong(name, f"of shape {number_A.shape}", f"({rows},){or_columns}: one entry for each {owner}")
        self._check_overflow(name, number_A)

    def _check_overflow(self, name: str, number_A: NDArray[Any]) -> None:
        beyond = np.argwhere(number_A > np.iinfo(np.int64).max) if number_A.dtype.kind == "u" else np.empty((0, 1))
        if len(beyond):
            found = f"{number_A[tuple(beyond[0])]} in row {beyond[0][0]}, beyond int64"
            raise self._wrong(name, found, f"numbers up to {np.iinfo(np.int64).max}", "Number them from 0")

    def _check_bias_inputs(self) -> None:
        for name, needed in (("attributes", ("labels",)), ("image_with_attributes", ("labels", "attributes"))):
            missing = [f"`{other}`" for other in needed if other not in self._arrays]
            if name in self._arrays and missing:
                raise self._wrong(name, f"without {' and '.join(missing)}", "both, which object bias is measured by")
        biased, images = self._arrays.get("image_with_attributes"), len(self._arrays["image"])
        if biased is not None and len(biased) != images:
            raise self._wrong("image_with_attributes", f"{len(biased)} rows", f"{images}, as many as `image` has")

    def _pairing(self) -> Pairing:
        images, texts = len(self._arrays["image"]), len(self._arrays["text"])
        if "text_to_image" in self._arrays:
            return "text_to_image"
        if images == texts:
            return "rows"
        if "labels" in self._arrays:
            return "labels"
        raise self._wrong(
            "text",
            f"{texts} rows for {images} images",
            "as many, row i matching row i",
            "Add `text_to_image` (each text's image), or `labels` (each image's class) where texts are class prompts",
        )

    def _check_text_to_image(self, image_M: NDArray[Any]) -> None:
        images = len(self._arrays["image"])
        self._check_range("text_to_image", images, "the row of an image")
        without = np.setdiff1d(np.arange(images), image_M)
        if len(without):
            found = f"no text for image {without[0]} ({len(without)} such images)"
            raise self._wrong("text_to_image", found, "at least one text for each image")

    def _check_range(self, name: str, count: int, meaning: str) -> None:
        number_A = self._arrays[name]
        outside_A = np.flatnonzero((number_A < 0) | (number_A >= count))
        if len(outside_A):
            row = outside_A[0]
            raise self._wrong(name, f"{number_A[row]} in row {row}", f"0 to {count - 1}, {meaning}")

    def _wrong(self, name: str, found: str, expected: str, do: str = "") -> InputError:
        return InputError(f"{self._path}: `{name}`: {found}; expected {expected}" + (f". {do}" if do else ""))


def _bad_rows(rows_AD: NDArray[Any]) -> NDArray[np.int64]:
    """The rows without a direction; those that are too large or too small for one included."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        norm_A = np.linalg.norm(rows_AD.astype(np.float64), axis=1)
    return np.flatnonzero(~np.isfinite(norm_A) | (norm_A == 0))


def _fault(row_D: NDArray[np.float64]) -> str:
    if np.isnan(row_D).any():
        return "holds NaN"
    if not row_D.any():
        return "is all zeros"
    return "holds infinite or far too large numbers" if np.abs(row_D).max() > 1 else "holds numbers far too small"
