"""An intervention on everything that was encoded: images, texts and the prompts of every zero-shot question.

Index letters: N images, M texts, C classes, R rows of either, D embedding.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gapctl.interventions.fitted import Fitted
from gapctl.metrics.class_prompts import ZeroShot
from gapctl.metrics.embedding_set import Embeddings, unit_rows
from gapctl.metrics.gap import Array

Floats = NDArray[np.floating]


def embeddings_after(fitted: Fitted, embeddings: Embeddings) -> Embeddings:
    """The same set with rows moved and normalised, prompts as texts are; raises InputError for one left without length.

    Rows keep their number format, so that rounding is no part of what an intervention changes.
    """
    return replace(
        embeddings,
        image_ND=_after(fitted.images, embeddings.image_ND),
        text_MD=_after(fitted.texts, embeddings.text_MD),
        class_CD=None if embeddings.class_CD is None else _after(fitted.texts, embeddings.class_CD),
        bias_image_ND=None if embeddings.bias_image_ND is None else _after(fitted.images, embeddings.bias_image_ND),
    )


def questions_after(fitted: Fitted, zero_shot: ZeroShot) -> ZeroShot:
    """The same questions, their prompts moved as texts are."""
    moved = {
        name: question._replace(prompt_CD=_after(fitted.texts, question.prompt_CD))
        for name, question in zero_shot.questions.items()
    }
    return ZeroShot(moved, zero_shot.main)


def _after(move: Callable[[Array], Array], row_RD: Floats) -> Floats:
    moved_RD: Floats = move(unit_rows(row_RD)).astype(row_RD.dtype)
    return moved_RD
