"""All measures that reduce to sums, over any number of embeddings in one pass and bounded memory.

A stream takes blocks as they are read, in any floating-point type, and adds in float64. Streams of several workers
merge in any order. What compares rows with each other (entropies, recall, neighbours, probes) needs a sample that
fits in memory and `suite.measured`.

Index letters: B rows of a block, M its texts, C classes, D embedding.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.bias import BiasSums
from gapctl.metrics.gap import Array, GapSums
from gapctl.metrics.subspace import SecondMoments
from gapctl.metrics.suite import Embeddings
from gapctl.metrics.sums import EmbeddingSums
from gapctl.metrics.zeroshot import AccuracyCount

CACHE_BYTES: Final = 1 << 19
"""One modality's rows that are worked on at a time, in float64: they are read five times, from the cache but once."""


class EmbeddingStream:
    """Accumulates blocks of matched pairs; `result` gives the measures of all that was added or merged.

    `second_moments` adds effective ranks and the principal angle, which cost D times as much as everything else.
    """

    def __init__(self, *, second_moments: bool = True) -> None:
        self._second_moments = second_moments
        self._sums: EmbeddingSums | None = None

    def update(self, block: Embeddings) -> None:
        """Adds a block; its `text_to_image_M` counts the block's own images. Later blocks must know what it knows.

        Raises ValueError for class prompts as texts, which are no pairs: give them as `class_CD`.
        """
        if block.prompt_of_N is not None or block.bias_image_ND is not None:
            raise ValueError("a stream takes pairs; give class prompts as `class_CD`, and one cloud of images")
        for part in _parts(block):
            self._add(self._sums_of(part))

    def merge(self, other: "EmbeddingStream") -> None:
        """Adds all that another stream has seen."""
        if other._sums is not None:
            self._add(other._sums)

    def sums(self) -> EmbeddingSums:
        """The sums themselves, for what has no name: mean differences, moments. Raises ValueError if there are none."""
        if self._sums is None:
            raise ValueError("nothing was added to the stream")
        return self._sums

    def result(self) -> dict[str, float]:
        """Each measure by its name. Raises ValueError if nothing was added."""
        return self.sums().metrics()

    def _add(self, sums: EmbeddingSums) -> None:
        self._sums = sums if self._sums is None else self._sums + sums

    def _sums_of(self, part: Embeddings) -> EmbeddingSums:
        image_BD, text_MD = _unit(part.image_ND), _unit(part.text_MD)
        image_bias, text_bias = _bias(part, image_BD, text_MD)
        return EmbeddingSums(
            gap=GapSums.of_few(image_BD, text_MD, part.text_to_image_M),
            image_moments=SecondMoments.of(image_BD) if self._second_moments else None,
            text_moments=SecondMoments.of(text_MD) if self._second_moments else None,
            image_bias=image_bias,
            text_bias=text_bias,
            accuracy=_accuracy(part, image_BD),
        )


def _bias(part: Embeddings, image_BD: Array, text_MD: Array) -> tuple[BiasSums | None, BiasSums | None]:
    if part.labels_N is None or part.attributes_NF is None:
        return None, None
    image = BiasSums.of_few(image_BD, part.labels_N, part.attributes_NF)
    text = BiasSums.of_few(text_MD, part.labels_N, part.attributes_NF) if part.text_to_image_M is None else None
    return image, text


def _accuracy(part: Embeddings, image_BD: Array) -> AccuracyCount | None:
    if part.class_CD is None or part.labels_N is None:
        return None
    return AccuracyCount.of(image_BD, part.labels_N, part.class_CD)


def _parts(block: Embeddings) -> Iterator[Embeddings]:
    """The block in pieces that stay in the cache; whole where texts belong to images by number."""
    rows = max(1, CACHE_BYTES // (8 * block.image_ND.shape[1]))
    if block.text_to_image_M is not None or len(block.image_ND) <= rows:
        yield block
        return
    for start in range(0, len(block.image_ND), rows):
        yield _rows(block, slice(start, start + rows))


def _rows(block: Embeddings, rows: slice) -> Embeddings:
    return Embeddings(
        image_ND=block.image_ND[rows],
        text_MD=block.text_MD[rows],
        labels_N=None if block.labels_N is None else block.labels_N[rows],
        attributes_NF=None if block.attributes_NF is None else block.attributes_NF[rows],
        class_CD=block.class_CD,
    )


def _unit(rows_BD: NDArray[np.floating]) -> Array:
    wide_BD: Array = rows_BD.astype(np.float64)
    wide_BD /= np.sqrt(np.einsum("bd,bd->b", wide_BD, wide_BD))[:, None]
    return wide_BD
