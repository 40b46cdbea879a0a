"""The least contrastive loss that a batch with identical captions allows.

Identical captions have identical logits, so an image cannot prefer its own among n equal ones: at best it gives
each 1/n, which costs ln n. In the other direction the n rows of the same text are one distribution over images
that must serve n different targets: at best 1/n each, again ln n. Both directions average to mean ln n.
"""

import numpy as np
from numpy.typing import NDArray


def batch_loss_floor(caption_id_B: NDArray[np.int64]) -> float:
    """Mean over the batch of ln(how many of its captions equal this one), in nats; exact for CLIP's loss."""
    count_K = np.unique(caption_id_B, return_counts=True)[1]
    return float((count_K * np.log(count_K)).sum() / len(caption_id_B))
