"""What may be added to a contrastive loss: alignment and uniformity, within modalities and across them.

The measures are those of `metrics/uniformity.py`, of a batch instead of a gallery.

Index letters: N pairs, E embedding.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class LossTerms(NamedTuple):
    """Weights of the terms; 0 leaves one out."""

    alignment: float = 0.0
    uniformity: float = 0.0
    cross_uniformity: float = 0.0


NO_TERMS = LossTerms()


def added(terms: LossTerms, image_NE: Tensor, text_NE: Tensor) -> Tensor:
    """The weighted sum of the terms over all pairs of a batch, of L2-normalised features; a scalar."""
    total = image_NE.new_zeros(())
    if terms.alignment:
        total = total + terms.alignment * alignment(image_NE, text_NE)
    if terms.uniformity:
        within = uniformity(image_NE, image_NE) + uniformity(text_NE, text_NE)
        total = total + terms.uniformity * within / 2
    if terms.cross_uniformity:
        total = total + terms.cross_uniformity * uniformity(image_NE, text_NE)
    return total


def alignment(image_NE: Tensor, text_NE: Tensor) -> Tensor:
    """Mean of |x_i - y_i|^2 over matched pairs (arXiv 2005.10242, sec. 4.1.1, with alpha = 2)."""
    return (image_NE - text_NE).square().sum(dim=-1).mean()


def uniformity(first_NE: Tensor, second_NE: Tensor) -> Tensor:
    """Log of the mean of exp(-2 |x_i - y_j|^2) over all i != j.

    Within a modality `first` and `second` are one (arXiv 2005.10242, sec. 4.1.2, with t = 2); of images and texts it
    is the cross-modal uniformity of arXiv 2405.18570. On the sphere, -2 |x - y|^2 = 4 cosine - 4.
    """
    number = first_NE.shape[0]
    itself_NN = torch.eye(number, dtype=torch.bool, device=first_NE.device)
    kernel_NN = (4 * first_NE @ second_NE.mT).masked_fill(itself_NN, -math.inf)
    return kernel_NN.flatten().logsumexp(dim=0) - 4 - math.log(number * (number - 1))
