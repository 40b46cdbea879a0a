"""Compute the least contrastive loss that identical captions in a batch allow: a floor, but not the Bayes loss.

Captions that overlap without being identical ("3-red" and "3-small", both right for one image) raise the least loss
that any model can reach further; they are not counted here.

Identical captions have identical logits, so an image cannot prefer its own among n equal ones: at best it gives each
1/n, which costs ln n. In the other direction the n rows of the same text are one distribution over images that must
serve n different targets: at best 1/n each, again ln n. Both directions average to mean ln n.

SigLIP's sigmoid gives an image and n equal captions one logit for one positive and n - 1 negatives; the best
probability is 1/n, which costs ln n + (n - 1) ln(n / (n - 1)).
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray


def compute_loss_floor(caption_id_B: NDArray[np.int64], kind: Literal["clip", "siglip"]) -> float:
    """Return the lowest mean loss of a batch in nats, given a number per caption (B,) that equal captions share."""
    count_K = np.unique(caption_id_B, return_counts=True)[1].astype(np.float64)
    floor_K = np.log(count_K)
    if kind == "siglip":
        others_K = count_K - 1
        floor_K += others_K * np.log(count_K / np.maximum(others_K, 1))
    return float((count_K * floor_K).sum() / len(caption_id_B))
