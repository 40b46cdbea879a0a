"""Embeddings as a file holds them, checked: which arrays there may be, and how texts belong to images.

Index letters: N images, M texts, F attribute factors, D embedding, A rows of any array.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.errors import InputError
from gapctl.metrics.checks import (
    check_cloud,
    check_numbers,
    check_range,
    check_text_to_image,
    check_values,
    unpaired,
    wrong,
)
from gapctl.metrics.embedding_set import Embeddings
from gapctl.metrics.embeddings.found import CLOUDS, NUMBERS

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
        try:
            return self._checked()
        except InputError as error:
            raise InputError(f"{self._path}: {error}") from error

    def _checked(self) -> Pairing:
        for name in CLOUDS:
            if name in self._arrays:
                self._check_cloud(name, self._arrays[name])
        for name in NUMBERS:
            if name in self._arrays:
                self._check_numbers(name, self._arrays[name])
        self._check_bias_inputs()
        pairing = self._pairing()
        if pairing == "text_to_image":
            check_text_to_image(self._arrays["text_to_image"], len(self._arrays["image"]))
        elif pairing == "labels":
            texts = len(self._arrays["text"])
            check_range("labels", self._arrays["labels"], texts, "the row of a text, which is a class prompt")
        return pairing

    def _check_cloud(self, name: str, rows_AD: NDArray[Any]) -> None:
        check_cloud(name, rows_AD)
        if len(rows_AD) < self._least:
            raise wrong(name, "a single row", "at least 2, since the gap is measured against distances within")
        check_cloud(name, rows_AD, self._arrays["image"].shape[1])
        check_values(name, rows_AD)

    def _check_numbers(self, name: str, number_A: NDArray[Any]) -> None:
        owner = "text" if name == "text_to_image" else "image"
        check_numbers(name, number_A, len(self._arrays[owner]), owner, columns=name == "attributes")
        beyond = np.argwhere(number_A > np.iinfo(np.int64).max) if number_A.dtype.kind == "u" else np.empty((0, 1))
        if len(beyond):
            found = f"{number_A[tuple(beyond[0])]} in row {beyond[0][0]}, beyond int64"
            raise wrong(name, found, f"numbers up to {np.iinfo(np.int64).max}", "Number them from 0")

    def _check_bias_inputs(self) -> None:
        for name, needed in (("attributes", ("labels",)), ("image_with_attributes", ("labels", "attributes"))):
            missing = [f"`{other}`" for other in needed if other not in self._arrays]
            if name in self._arrays and missing:
                raise wrong(name, f"without {' and '.join(missing)}", "both, which object bias is measured by")
        biased, images = self._arrays.get("image_with_attributes"), len(self._arrays["image"])
        if biased is not None and len(biased) != images:
            raise wrong("image_with_attributes", f"{len(biased)} rows", f"{images}, as many as `image` has")

    def _pairing(self) -> Pairing:
        if "text_to_image" in self._arrays:
            return "text_to_image"
        if len(self._arrays["image"]) == len(self._arrays["text"]):
            return "rows"
        if "labels" in self._arrays:
            return "labels"
        raise unpaired(len(self._arrays["image"]), len(self._arrays["text"]))
