"""What resampling draws: images, and apart from them captions where many images share one.

A caption that a hundred images share is one query and one embedding, not a hundred. Drawing it with each of its images
would count it as often, and an interval would be ten times too narrow.
Index letters: N images, M texts, U units: images first, then captions.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.embedding_set import Embeddings

Numbers = NDArray[np.int64]


class Units(NamedTuple):
    """How many images and shared captions are drawn, the image of each text, and the unit that each text goes with."""

    images: int
    captions: int
    image_of_text_M: Numbers
    unit_of_text_M: Numbers

    @property
    def total(self) -> int:
        """All units."""
        return self.images + self.captions


def units_of(embeddings: Embeddings) -> Units:
    """Texts go with their images, or with their caption where captions are shared; class prompts are never drawn."""
    images, texts = len(embeddings.image_ND), len(embeddings.text_MD)
    image_M = np.arange(texts) if embeddings.text_to_image_M is None else embeddings.text_to_image_M
    if embeddings.text_group_M is None or embeddings.prompt_of_N is not None:
        return Units(images, 0, image_M, image_M)
    caption_M = np.unique(embeddings.text_group_M, return_inverse=True)[1]
    captions = int(caption_M.max()) + 1
    if captions == texts:
        return Units(images, 0, image_M, image_M)
    return Units(images, captions, image_M, images + caption_M)
