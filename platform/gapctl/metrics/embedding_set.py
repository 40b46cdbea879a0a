"""Define a set of embeddings with its pairing, labels, class prompts and logit scale, and derive rows and keys from it.

Index letters: N images, M texts, C classes, F attribute factors, D embedding.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.checks import (
    NUMBERS,
    AnyArray,
    Integers,
    Pairing,
    Rows,
    check_embedding_shape,
    check_index_range,
    check_integers_per_row,
    check_row_norms,
    check_text_to_image,
    make_array_error,
    make_pairing_error,
)
from gapctl.metrics.gap import Array
from gapctl.metrics.unit_rows import release_pages

NORMALISE_BLOCK: Final = 65_536


@dataclass(frozen=True)
class Embeddings:
    """Images (N, D) and texts (M, D) of any norm, with their pairing and labels.

    `text_to_image_M` gives each text's image; without it, text j belongs to image j. `text_group_M` numbers texts so
    that equal captions have equal numbers. `labels_N` are objects, `attributes_NF` attribute labels by factor. If the
    texts are class prompts, `prompt_of_N` gives each image's prompt; if they are captions, `class_CD` may give a prompt
    embedding for each object label. `bias_image_ND` (N, D) are embeddings to measure object bias on in place of the
    images'.
    """

    image_ND: Rows
    text_MD: Rows
    text_to_image_M: Integers | None = None
    text_group_M: Integers | None = None
    prompt_of_N: Integers | None = None
    labels_N: Integers | None = None
    attributes_NF: Integers | None = None
    class_CD: Rows | None = None
    bias_image_ND: Rows | None = None
    logit_scale: float | None = None

    def __post_init__(self) -> None:
        """Raise InputError for arrays of a wrong type or shape, and for numbers that belong to no row.

        The values of embeddings are checked when they are normalised.
        """
        check_embedding_shape("image", self.image_ND)
        images, width = self.image_ND.shape
        clouds = {"text": self.text_MD, "class": self.class_CD, "image_with_attributes": self.bias_image_ND}
        for name, cloud in clouds.items():
            if cloud is not None:
                check_embedding_shape(name, cloud, width)
        texts = len(self.text_MD)
        if self.bias_image_ND is not None and len(self.bias_image_ND) != images:
            found = f"{len(self.bias_image_ND)} rows"
            raise make_array_error("image_with_attributes", found, f"{images}, as `image` has")
        for_images = {"labels": self.labels_N, "attributes": self.attributes_NF, "prompt_of": self.prompt_of_N}
        for_texts = {"text_group": self.text_group_M, "text_to_image": self.text_to_image_M}
        for rows, owner, numbers in ((images, "image", for_images), (texts, "text", for_texts)):
            for name, number_A in numbers.items():
                if number_A is not None:
                    check_integers_per_row(name, number_A, rows, owner, columns=name == "attributes")
        if self.prompt_of_N is not None:
            check_index_range("prompt_of", self.prompt_of_N, texts, "the row of a text, which is a class prompt")
        elif self.text_to_image_M is not None:
            check_text_to_image(self.text_to_image_M, images)
        elif images != texts:
            raise make_pairing_error(images, texts)


def build_embeddings(arrays: Mapping[str, AnyArray], pairing: Pairing) -> Embeddings:
    """Return arrays that `check_arrays` checked, with the pairing that it found, as `Embeddings`."""
    numbers = {name: arrays[name].astype(np.int64) for name in NUMBERS if name in arrays}
    return Embeddings(
        image_ND=arrays["image"],
        text_MD=arrays["text"],
        text_to_image_M=numbers.get("text_to_image"),
        text_group_M=_group_equal_rows(arrays["text"]) if pairing == "rows" else None,
        prompt_of_N=numbers["labels"] if pairing == "labels" else None,
        labels_N=numbers.get("labels"),
        attributes_NF=numbers.get("attributes"),
        bias_image_ND=arrays.get("image_with_attributes"),
    )


def _group_equal_rows(text_MD: AnyArray) -> NDArray[np.int64] | None:
    """Return a number per text (M,), shared by rows equal to the last bit as one caption's are; None if all differ."""
    first: dict[bytes, int] = {}
    group_M = np.empty(len(text_MD), np.int64)
    for m, row_D in enumerate(text_MD):
        group_M[m] = first.setdefault(hashlib.blake2b(row_D.tobytes(), digest_size=16).digest(), m)
        if m % NORMALISE_BLOCK == 0:
            release_pages(text_MD)
    return group_M if len(first) < len(group_M) else None


def normalise_rows(rows_ND: Rows, name: str = "rows", first: int = 0) -> Array:
    """Return the rows divided by their norms, in float64.

    Raise InputError for a row without a direction, with its number counted from `first`.
    """
    wide_ND = rows_ND.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        norm_N1 = np.linalg.norm(wide_ND, axis=1, keepdims=True)
    if not (np.isfinite(norm_N1) & (norm_N1 > 0)).all():
        check_row_norms(name, rows_ND, first)
    unit_ND: Array = wide_ND / norm_N1
    return unit_ND


def normalise_rows_float32(rows_ND: Rows, name: str = "rows") -> NDArray[np.float32]:
    """Return the rows divided by their norms, in float32; the division is in float64, block by block."""
    unit_ND = np.empty(rows_ND.shape, np.float32)
    for start in range(0, len(rows_ND), NORMALISE_BLOCK):
        unit_ND[start : start + NORMALISE_BLOCK] = normalise_rows(rows_ND[start : start + NORMALISE_BLOCK], name, start)
    return unit_ND


def assign_match_keys(embeddings: Embeddings) -> tuple[Integers, Integers]:
    """Return a key per image (N,) and per text (M,), equal if they match.

    The key is the caption's group, or else the image's row.
    """
    if embeddings.text_group_M is not None and embeddings.text_to_image_M is None:
        return embeddings.text_group_M, embeddings.text_group_M
    return assign_partner_keys(embeddings)


def assign_partner_keys(embeddings: Embeddings) -> tuple[Integers, Integers]:
    """Return a key per image (N,) and per text (M,), equal if they were given as a pair; captions are not compared."""
    if embeddings.prompt_of_N is not None:
        return embeddings.prompt_of_N, np.arange(len(embeddings.text_MD))
    image_key_N = np.arange(len(embeddings.image_ND))
    return image_key_N, image_key_N if embeddings.text_to_image_M is None else embeddings.text_to_image_M


def assign_text_labels(embeddings: Embeddings, labels_N: Integers) -> Integers:
    """Return each text's label (M,): its own class if it is a class prompt, else its image's label."""
    if embeddings.prompt_of_N is not None:
        return np.arange(len(embeddings.text_MD))
    return labels_N if embeddings.text_to_image_M is None else labels_N[embeddings.text_to_image_M]


def select_first_texts(embeddings: Embeddings, text_MD: Rows) -> Rows | None:
    """Return the first text of each image, row by row (N, D), or None if the texts are class prompts."""
    if embeddings.prompt_of_N is not None:
        return None
    if embeddings.text_to_image_M is None:
        return text_MD
    return text_MD[np.unique(embeddings.text_to_image_M, return_index=True)[1]]
