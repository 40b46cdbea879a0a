"""Zero-shot classification: the class whose prompt embedding is nearest.

Index letters: N images, C classes, D embedding.
"""

import numpy as np
from numpy.typing import NDArray


def zero_shot_accuracy(
    image_ND: NDArray[np.floating], label_N: NDArray[np.int64], class_CD: NDArray[np.floating]
) -> float:
    """Percent of images whose nearest class embedding (normalised here) is their label's."""
    unit_CD = class_CD / np.linalg.norm(class_CD, axis=1, keepdims=True)
    return 100 * float((np.argmax(image_ND @ unit_CD.T, axis=1) == label_N).mean())
