"""The contrastive losses by name: open_clip's own, so that results compare with trainings elsewhere, and the part of
each that one of several workers computes.

Index letters: N pairs, B pairs of one worker, A pairs of all workers, D or E embedding.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from gapctl.models.loss_terms import NO_TERMS, LossTerms, added

LossKind = Literal["clip", "siglip"]
ContrastiveLoss = Callable[..., Tensor]


def contrastive_loss(kind: LossKind, terms: LossTerms = NO_TERMS) -> ContrastiveLoss:
    """A function of (image_ND, text_ND, logit_scale[, logit_bias]) that gives a scalar."""
    loss: ContrastiveLoss = ClipLoss() if kind == "clip" else SigLipLoss()
    return loss if terms == NO_TERMS else _with(terms, loss)


def _with(terms: LossTerms, loss: ContrastiveLoss) -> ContrastiveLoss:
    def both(image_ND: Tensor, text_ND: Tensor, *scalars: Tensor) -> Tensor:
        contrasted: Tensor = loss(image_ND, text_ND, *scalars)
        return contrasted + added(terms, image_ND, text_ND)

    return both


class Rows(NamedTuple):
    """A worker's own features (B, E), those of all workers in the order of ranks (A, E), and where its own begin."""

    image_BE: Tensor
    text_BE: Tensor
    image_AE: Tensor
    text_AE: Tensor
    first: int

    @classmethod
    def of(cls, own_BF: Tensor, all_AF: Tensor, first: int) -> "Rows":
        """Of images and texts side by side: F = 2 E."""
        (image_BE, text_BE), (image_AE, text_AE) = own_BF.chunk(2, dim=1), all_AF.chunk(2, dim=1)
        return cls(image_BE, text_BE, image_AE, text_AE, first)


def own_clip_loss(rows: Rows, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """Own images against all texts and own texts against all images; the workers' mean is CLIP's loss of all pairs.

    A bias would leave the softmax as it is and is not read (arXiv 2103.00020, sec. 2.3).
    """
    label_B = torch.arange(rows.first, rows.first + len(rows.image_BE), device=rows.image_BE.device)
    of_images = cross_entropy(scale * rows.image_BE @ rows.text_AE.T, label_B)
    of_texts = cross_entropy(scale * rows.text_BE @ rows.image_AE.T, label_B)
    return (of_images + of_texts) / 2


def own_siglip_loss(rows: Rows, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """Own images against all texts; the workers' mean is SigLIP's loss of all pairs (arXiv 2303.15343, sec. 3.2)."""
    logits_BA = scale * rows.image_BE @ rows.text_AE.T
    if bias is not None:
        logits_BA = logits_BA + bias
    own = len(rows.image_BE)
    matched_BA = torch.ones_like(logits_BA).neg_()
    matched_BA.diagonal(rows.first).fill_(1.0)
    return -logsigmoid(matched_BA * logits_BA).sum() / own


OWN_LOSS: dict[LossKind, Callable[[Rows, Tensor, Tensor | None], Tensor]] = {
    "clip": own_clip_loss,
    "siglip": own_siglip_loss,
}
