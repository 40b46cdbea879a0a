"""All measures that reduce to sums, over any number of embeddings in one pass and bounded memory.

A stream takes blocks as they are read, in any floating-point type, and adds in float64. Streams of several workers
merge in any order. What compares rows with each other (entropies, recall, neighbours, probes) needs a sample that
fits in memory and `suite.measured`.
"""

from gapctl.metrics.block import sums_of_block
from gapctl.metrics.embedding_set import Embeddings
from gapctl.metrics.sums import EmbeddingSums


class EmbeddingStream:
    """Accumulates blocks of matched pairs; `result` gives the measures of all that was added or merged.

    `second_moments` adds effective ranks and the principal angle, which cost D times as much as everything else.
    """

    def __init__(self, *, second_moments: bool = True) -> None:
        self._second_moments = second_moments
        self._sums: EmbeddingSums | None = None

    def update(self, block: Embeddings) -> None:
        """Adds a block of any length; its `text_to_image_M` counts the block's own images.

        All blocks know the same: labels, attributes and classes are in all of them or in none.

        Raises ValueError for class prompts as texts, which are no pairs: give them as `class_CD`.
        """
        if block.prompt_of_N is not None or block.bias_image_ND is not None:
            raise ValueError("a stream takes pairs; give class prompts as `class_CD`, and one cloud of images")
        self._add(sums_of_block(block, second_moments=self._second_moments))

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
