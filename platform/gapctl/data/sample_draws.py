"""Random numbers of one sample in one epoch of one seed."""

import numpy as np

from gapctl.data.mad.draws import Purpose


def sample_generator(purpose: Purpose, seed: int, epoch: int, sample: int) -> np.random.Generator:
    """The generator of one purpose for one sample; raises ValueError below zero.

    Counters of neighbouring samples lie 2^64 blocks apart, so no two share a number.
    """
    if min(seed, epoch, sample) < 0:
        raise ValueError(f"seed {seed}, epoch {epoch} and sample {sample} must not be negative")
    key = np.array([seed, epoch], dtype=np.uint64)
    counter = np.array([0, 0, sample, purpose], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
