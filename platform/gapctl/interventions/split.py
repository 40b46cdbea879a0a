"""Two disjoint halves of a gallery: interventions are fitted on one and judged on the other.

Images are dealt out, and texts go with their images. Images that share a caption stay together, so that no caption is
seen before it is judged, unless a single caption has so many images that the halves would differ in kind.
Index letters: N images, M texts, S images of one side.
"""

from dataclasses import replace
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gapctl.errors import InputError
from gapctl.metrics.class_prompts import ClassPrompts, ZeroShot
from gapctl.metrics.embedding_set import Embeddings

LEAST_IMAGES = 8
"""Fewer on a side say nothing: neither a mean nor an interval."""

LARGEST_GROUP = 0.02
"""The share of all images up to which those of one caption stay together."""

Rows = NDArray[np.int64]
Kind = TypeVar("Kind", bound=np.generic)
Dealt = Literal["images", "captions"]


class Split(NamedTuple):
    """The rows of the images on each side, and what was dealt out: single images, or captions with all of theirs."""

    calibration_S: Rows
    held_out_S: Rows
    dealt: Dealt


def split_images(embeddings: Embeddings, share: float, seed: int) -> Split:
    """Gives `share` of the images to calibration; the same seed gives the same sides.

    Raises InputError where the share is not between 0 and 1 or
    leaves a side with too few images.
    """
    if not 0 < share < 1:
        raise InputError(f"calibration share {share:g}: expected a number between 0 and 1, such as 0.5")
    unit_N = caption_units(embeddings)
    whole = np.bincount(unit_N).max() <= max(1, LARGEST_GROUP * len(unit_N))
    fitted_N = _dealt(unit_N if whole else np.arange(len(unit_N)), share, seed)
    _require_enough(fitted_N, share)
    together = whole and len(np.unique(unit_N)) < len(unit_N)
    return Split(np.flatnonzero(fitted_N), np.flatnonzero(~fitted_N), "captions" if together else "images")


def caption_units(embeddings: Embeddings) -> Rows:
    """Numbers the images so that those joined by equal captions, however indirectly, have one number, (N,)."""
    unit_N = np.arange(len(embeddings.image_ND))
    if embeddings.text_group_M is None or embeddings.prompt_of_N is not None:
        return unit_N
    image_M = _image_of_text(embeddings)
    group_M = np.unique(embeddings.text_group_M, return_inverse=True)[1]
    while True:
        least_G = np.full(group_M.max() + 1, len(unit_N))
        np.minimum.at(least_G, group_M, unit_N[image_M])
        joined_N = unit_N.copy()
        np.minimum.at(joined_N, image_M, least_G[group_M])
        if np.array_equal(joined_N, unit_N):
            return np.unique(unit_N, return_inverse=True)[1]
        unit_N = joined_N


def take(embeddings: Embeddings, image_S: Rows) -> Embeddings:
    """Some images with their texts, in the given order; class prompts belong to no image and all stay."""
    text_T, text_to_image_T = _their_texts(embeddings, image_S)
    return replace(
        embeddings,
        image_ND=embeddings.image_ND[image_S],
        text_MD=embeddings.text_MD[text_T],
        text_to_image_M=text_to_image_T,
        text_group_M=_rows(embeddings.text_group_M, text_T),
        prompt_of_N=_rows(embeddings.prompt_of_N, image_S),
        labels_N=_rows(embeddings.labels_N, image_S),
        attributes_NF=_rows(embeddings.attributes_NF, image_S),
        bias_image_ND=_rows(embeddings.bias_image_ND, image_S),
    )


def take_questions(zero_shot: ZeroShot, image_S: Rows) -> ZeroShot:
    """The same questions about some images."""
    taken = {
        name: ClassPrompts(question.prompt_CD, question.class_N[image_S])
        for name, question in zero_shot.questions.items()
    }
    return ZeroShot(taken, zero_shot.main)


def _their_texts(embeddings: Embeddings, image_S: Rows) -> tuple[Rows, Rows | None]:
    """The rows of the images' texts, and which of these images each belongs to, where that is not row by row."""
    if embeddings.prompt_of_N is not None:
        return np.arange(len(embeddings.text_MD)), embeddings.text_to_image_M
    if embeddings.text_to_image_M is None:
        return image_S, None
    place_N = np.full(len(embeddings.image_ND), -1)
    place_N[image_S] = np.arange(len(image_S))
    place_M = place_N[embeddings.text_to_image_M]
    text_T = np.flatnonzero(place_M >= 0)
    return text_T, place_M[text_T]


def _image_of_text(embeddings: Embeddings) -> Rows:
    image_M = embeddings.text_to_image_M
    return np.arange(len(embeddings.text_MD)) if image_M is None else image_M


def _rows(array: NDArray[Kind] | None, row_S: Rows) -> NDArray[Kind] | None:
    return None if array is None else array[row_S]


def _dealt(unit_N: Rows, share: float, seed: int) -> NDArray[np.bool_]:
    """Which images go to calibration: units in random order until the share is filled."""
    size_U = np.bincount(unit_N)
    order_U = np.random.Generator(np.random.Philox(seed)).permutation(len(size_U))
    filled_U = np.cumsum(size_U[order_U]) - size_U[order_U] / 2
    chosen_U = order_U[filled_U < share * len(unit_N)]
    return np.isin(unit_N, chosen_U)


def _require_enough(fitted_N: NDArray[np.bool_], share: float) -> None:
    calibration, total = int(fitted_N.sum()), len(fitted_N)
    if min(calibration, total - calibration) < LEAST_IMAGES:
        raise InputError(
            f"{total} images, split into {calibration} for calibration and {total - calibration} held out by a share "
            f"of {share:g}; expected at least {LEAST_IMAGES} on each side. Give more images or another share"
        )
