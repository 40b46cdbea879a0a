"""By what an intervention is judged on the held-out images: gap, retrieval and zero-shot classification.

Index letters: N images, M texts, C classes, Q queries, K depths, D embedding.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapctl.interventions.fitted import Clouds, Fitted
from gapctl.interventions.gap_statistic import GapStatistic
from gapctl.interventions.statistic import ItemMeans, Items, Statistic
from gapctl.metrics.class_prompts import ClassPrompts, ZeroShot
from gapctl.metrics.gap import Array
from gapctl.metrics.retrieval import hits
from gapctl.metrics.suite import Embeddings, match_keys, unit_rows

DEPTHS: Final = (1, 5, 10)


def statistics_of(held_out: Embeddings, zero_shot: ZeroShot, fitted: Fitted) -> tuple[Statistic, ...]:
    """All measures that the held-out images allow after an intervention, prompts taken for texts.

    Raises InputError where the intervention leaves a row without length.
    """
    clouds = fitted.apply(unit_rows(held_out.image_ND), unit_rows(held_out.text_MD))
    images = len(clouds.image_ND)
    items = dict(_accuracies(clouds, _questions(held_out, zero_shot), fitted))
    if held_out.prompt_of_N is None:
        items |= _retrieval(held_out, clouds)
    gap = GapStatistic.of(clouds, held_out.text_to_image_M, held_out.prompt_of_N)
    return (gap, ItemMeans.of(items, images)) if items else (gap,)


def _retrieval(held_out: Embeddings, clouds: Clouds) -> dict[str, Items]:
    """Recall both ways in float32, whose rounding moves no rank that means anything; equal captions match."""
    image_key_N, text_key_M = match_keys(held_out)
    image, text = clouds.image_ND.astype(np.float32), clouds.text_MD.astype(np.float32)
    image_of_text_M = np.arange(len(text)) if held_out.text_to_image_M is None else held_out.text_to_image_M
    forward_NK = hits(image, text, image_key_N, text_key_M, DEPTHS)
    backward_MK = hits(text, image, text_key_M, image_key_N, DEPTHS)
    return {
        **_recalls("i2t", forward_NK, np.arange(len(image))),
        **_recalls("t2i", backward_MK, image_of_text_M),
    }


def _recalls(direction: str, hit_QK: NDArray[np.bool_], image_Q: NDArray[np.int64]) -> dict[str, Items]:
    columns = zip(DEPTHS, hit_QK.T.astype(np.float64), strict=True)
    return {f"quality/{direction}_recall_{depth}": Items(hit_Q, image_Q) for depth, hit_Q in columns}


def _questions(held_out: Embeddings, zero_shot: ZeroShot) -> ZeroShot:
    """The questions asked; where the texts are class prompts themselves, they are the one about the object."""
    if held_out.prompt_of_N is None or zero_shot.questions:
        return zero_shot
    return ZeroShot({"object": ClassPrompts(held_out.text_MD, held_out.prompt_of_N)}, main="object")


def _accuracies(clouds: Clouds, asked: ZeroShot, fitted: Fitted) -> Iterator[tuple[str, Items]]:
    right = {name: 100 * _right_N(clouds.image_ND, question, fitted) for name, question in asked.questions.items()}
    every_N = np.arange(len(clouds.image_ND))
    if asked.main in right:
        yield "quality/object_accuracy", Items(right[asked.main], every_N)
    attributes = [right_N for name, right_N in right.items() if name != asked.main]
    if attributes:
        yield "quality/attribute_accuracy", Items(np.mean(attributes, axis=0), every_N)


def _right_N(image_ND: Array, question: ClassPrompts, fitted: Fitted) -> Array:
    prompt_CD = fitted.texts(unit_rows(question.prompt_CD))
    right_N: Array = (np.argmax(image_ND @ prompt_CD.T, axis=1) == question.class_N).astype(np.float64)
    return right_N
