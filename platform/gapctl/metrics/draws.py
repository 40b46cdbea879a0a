"""Which rows the sampled measures look at: pure functions of what is drawn and of how many rows there are."""

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

SEED: Final = 2404_07983


class Draw(IntEnum):
    """What is drawn; each has random numbers of its own."""

    QUERIES = 1
    PAIRS = 2
    GALLERIES = 3
    HELD_OUT = 4
    CENTROIDS = 5
    NOISE = 6


def generator(draw: Draw) -> np.random.Generator:
    """The random numbers of one draw, the same on every machine."""
    return np.random.Generator(np.random.Philox(key=[SEED, int(draw)]))


def permutation(draw: Draw, count: int) -> NDArray[np.int64]:
    """All of `count` rows in a random order."""
    return generator(draw).permutation(count)


def some_rows(draw: Draw, count: int, most: int) -> NDArray[np.int64]:
    """At most `most` different rows of `count`, in ascending order; all of them where there are no more."""
    return np.arange(count) if count <= most else np.sort(permutation(draw, count)[:most])
