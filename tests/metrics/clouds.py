"""Embeddings for tests of measures: unit rows, alone or in matched pairs."""

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.embedding_set import normalise_rows

Rows = NDArray[np.float64]


def random_rows(count: int, width: int, seed: int = 0) -> Rows:
    """Rows spread evenly over the sphere."""
    return normalise_rows(np.random.Generator(np.random.Philox(seed)).normal(size=(count, width)))


def matched_rows(count: int, width: int, seed: int = 0, noise: float = 0.5, gap: float = 0.0) -> tuple[Rows, Rows]:
    """Images, and texts that are noisy copies of them, pushed apart along the first dimension by `gap` either way."""
    shared_ND = random_rows(count, width, seed)
    push_D = gap * np.eye(width)[0]
    image_ND = shared_ND + noise * random_rows(count, width, seed + 1000) + push_D
    return normalise_rows(image_ND), normalise_rows(shared_ND + noise * random_rows(count, width, seed + 2000) - push_D)
