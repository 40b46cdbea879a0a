"""Samples as arrays, on their way from a reader to a batch.

Index letters: N samples, H and W rows and columns, C colours, L caption positions.
"""

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Bad(IntEnum):
    """Why a sample cannot be read, though the index found nothing wrong with it."""

    SOUND = 0
    UNREADABLE = 1
    OTHER = 2
    SHORT = 3
    LACKING = 4

    @property
    def words(self) -> str:
        """As messages say it."""
        return _WORDS[self]


_WORDS: Final = {
    Bad.SOUND: "sound",
    Bad.UNREADABLE: "undecodable image",
    Bad.OTHER: "not the image that was indexed",
    Bad.SHORT: "its shard has grown short",
    Bad.LACKING: "lacks what the caption treatment needs",
}


class Decoded(NamedTuple):
    """Samples as a training reads them.

    `planned_N` are the rows that the order names, `sample_N` those that stand here; where they differ `bad_N` says why
    (`Bad`). The other columns are those of `PairBatch`.
    """

    image_NHWC: NDArray[np.uint8]
    tokens_NL: NDArray[np.int64]
    sample_N: NDArray[np.int64]
    text_id_N: NDArray[np.int64]
    words_N: NDArray[np.int64]
    kept_N: NDArray[np.int64]
    planned_N: NDArray[np.int64]
    bad_N: NDArray[np.int64]


def room_for(samples: int, side: int, context: int) -> Decoded:
    """Arrays to be filled."""
    numbers = (np.zeros(samples, dtype=np.int64) for _ in range(6))
    return Decoded(
        np.empty((samples, side, side, 3), dtype=np.uint8), np.zeros((samples, context), dtype=np.int64), *numbers
    )


def joined(parts: list[Decoded]) -> Decoded:
    """Several parts as one; a single one is not copied."""
    return parts[0] if len(parts) == 1 else Decoded._make(map(np.concatenate, zip(*parts, strict=True)))


def cut(read: Decoded, samples: int) -> tuple[Decoded, Decoded]:
    """The first so many samples, and the rest."""
    return Decoded._make(column[:samples] for column in read), Decoded._make(column[samples:] for column in read)


def chosen(read: Decoded, which_N: NDArray[np.bool_]) -> Decoded:
    """Those samples alone."""
    return read if which_N.all() else Decoded._make(column[which_N] for column in read)
