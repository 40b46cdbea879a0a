"""The sums of a whole set of embeddings, in bounded memory wherever pairs are one to one.

Index letters: N images, M texts, C classes, D embedding.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.bias import BiasSums
from gapctl.metrics.embedding_set import Embeddings, unit_rows
from gapctl.metrics.gap import Array, CloudSums, GapSums, MatchedSums
from gapctl.metrics.stream import EmbeddingStream
from gapctl.metrics.subspace import SecondMoments
from gapctl.metrics.sums import EmbeddingSums
from gapctl.metrics.zeroshot import AccuracyCount

BLOCK: Final = 65_536


class Classes(NamedTuple):
    """Each image's class (N,) and each class's unit prompt embedding (C, D)."""

    class_N: NDArray[np.int64]
    prompt_CD: Array


def classes_of(embeddings: Embeddings) -> Classes | None:
    """The classes that images are told by, where there are any."""
    if embeddings.prompt_of_N is not None:
        return Classes(embeddings.prompt_of_N, unit_rows(embeddings.text_MD))
    if embeddings.class_CD is not None and embeddings.labels_N is not None:
        return Classes(embeddings.labels_N, unit_rows(embeddings.class_CD))
    return None


def sums_of(embeddings: Embeddings) -> EmbeddingSums:
    """Block by block where row i of the texts belongs to image i, else over all rows at once."""
    unmatched = (embeddings.text_to_image_M, embeddings.prompt_of_N, embeddings.bias_image_ND)
    if any(each is not None for each in unmatched):
        return _of_all_rows(embeddings)
    stream = EmbeddingStream()
    for block in _blocks(embeddings):
        stream.update(block)
    return stream.sums()


def _blocks(embeddings: Embeddings) -> Iterator[Embeddings]:
    for start in range(0, len(embeddings.image_ND), BLOCK):
        rows = slice(start, start + BLOCK)
        yield replace(
            embeddings,
            image_ND=embeddings.image_ND[rows],
            text_MD=embeddings.text_MD[rows],
            labels_N=None if embeddings.labels_N is None else embeddings.labels_N[rows],
            attributes_NF=None if embeddings.attributes_NF is None else embeddings.attributes_NF[rows],
        )


def _of_all_rows(embeddings: Embeddings) -> EmbeddingSums:
    image_ND, text_MD = unit_rows(embeddings.image_ND), unit_rows(embeddings.text_MD)
    classes = classes_of(embeddings)
    return EmbeddingSums(
        gap=_gap(embeddings, image_ND, text_MD),
        image_moments=SecondMoments.of(image_ND),
        text_moments=SecondMoments.of(text_MD),
        image_bias=_image_bias(embeddings, image_ND),
        accuracy=AccuracyCount.of(image_ND, classes.class_N, classes.prompt_CD) if classes else None,
    )


def _gap(embeddings: Embeddings, image_ND: Array, text_MD: Array) -> GapSums:
    if embeddings.prompt_of_N is None:
        return GapSums.of(image_ND, text_MD, embeddings.text_to_image_M)
    matched = MatchedSums.of(image_ND, text_MD[embeddings.prompt_of_N])
    return GapSums(CloudSums.of(image_ND), CloudSums.of(text_MD), matched)


def _image_bias(embeddings: Embeddings, image_ND: Array) -> BiasSums | None:
    labels_N, attributes_NF = embeddings.labels_N, embeddings.attributes_NF
    if labels_N is None or attributes_NF is None:
        return None
    meant_ND = image_ND if embeddings.bias_image_ND is None else unit_rows(embeddings.bias_image_ND)
    return BiasSums.of(meant_ND, labels_N, attributes_NF)
