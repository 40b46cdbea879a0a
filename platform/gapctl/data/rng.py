"""Make counter-based random generators, one for each purpose, seed, epoch and sample."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """The purpose of a draw. Each has counters of its own, so the values are part of every result."""

    DIGIT_ORDER = 1
    VARIANT = 2
    COLOUR = 3
    WHICH_FACTORS = 4
    PLACES = 5
    GALLERY = 6
    PROMPTS = 7
    CAPTION = 8
    DEGRADATION = 9
    SHARDS = 10
    SPAN_ORDER = 11
    CHUNK_ORDER = 12
    CROP = 13
    NOISE = 14
    OTHER_VALUE = 15
    MISMATCH = 16
    PICTURE = 17
    CAPTION_CHOICE = 18
    WORD = 19
    WORD_OF_DIGIT = 20


def make_generator(purpose: Purpose, seed: int, epoch: int = 0, sample: int = 0) -> np.random.Generator:
    """Return the generator of one purpose in one epoch of one seed, for one sample where the purpose draws by sample.

    Counters of neighbouring samples lie 2^64 blocks apart, so no two share a number. Raise ValueError for a negative
    number.
    """
    if min(seed, epoch, sample) < 0:
        raise ValueError(f"seed {seed}, epoch {epoch} and sample {sample} must not be negative")
    key = np.array([seed, epoch], dtype=np.uint64)
    counter = np.array([0, 0, sample, purpose], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
