"""A batch of image-text pairs. Index letters: B batch, C colours, H and W rows and columns, L caption positions."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.data.pairs.decoded import Decoded


class PairBatch(NamedTuple):
    """Pairs as a training reads them.

    `images_BCHW` lies in memory with the colours last. `sample_B` are rows of the manifest, those that stand in for
    bad ones included, of which there are `substituted`. `text_id_B` is equal where the captions, as read, are equal.
    `words_B` and `kept_B` count the words of each caption and those that its treatment kept.
    """

    images_BCHW: NDArray[np.uint8]
    tokens_BL: NDArray[np.int64]
    sample_B: NDArray[np.int64]
    text_id_B: NDArray[np.int64]
    words_B: NDArray[np.int64]
    kept_B: NDArray[np.int64]
    substituted: int


def batch_of(read: Decoded) -> PairBatch:
    """The same samples as a batch, without copying."""
    return PairBatch(
        read.image_NHWC.transpose(0, 3, 1, 2),
        read.tokens_NL,
        read.sample_N,
        read.text_id_N,
        read.words_N,
        read.kept_N,
        int(np.count_nonzero(read.bad_N)),
    )
