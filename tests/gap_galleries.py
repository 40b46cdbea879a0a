"""Galleries for tests of interventions: matched clouds, as noisy and as far apart as asked.

Index letters: N images, D embedding.
"""

import numpy as np
from hypothesis import strategies as st

from gapctl.metrics.embedding_set import Embeddings, normalise_rows


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def gallery(count: int = 200, width: int = 12, *, gap: float = 1.0, noise: float = 0.5, seed: int = 0) -> Embeddings:
    """Unit rows that share what is matched and stand `gap` apart along one random direction."""
    drawn = rng(seed)
    shared_ND = drawn.normal(size=(count, width))
    offset_D = gap * drawn.normal(size=width)
    image_ND = normalise_rows(shared_ND + noise * drawn.normal(size=(count, width)) + offset_D)
    return Embeddings(image_ND, normalise_rows(shared_ND + noise * drawn.normal(size=(count, width)) - offset_D))


@st.composite
def galleries(draw: st.DrawFn) -> Embeddings:
    return gallery(
        draw(st.integers(4, 60)),
        draw(st.integers(3, 16)),
        gap=draw(st.floats(0, 3)),
        noise=draw(st.floats(0.01, 3)),
        seed=draw(st.integers(0, 2**32)),
    )
