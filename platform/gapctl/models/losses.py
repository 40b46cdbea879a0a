"""Compute the contrastive losses: open_clip's own, for comparable results, and the share of one of several workers.

Masked losses leave out equal captions of a batch (`find_equal_captions`).
`compute_loss_floor` gives the least loss that identical captions in a batch allow.

Index letters: N pairs, K different captions, B pairs of one worker, A pairs of all workers, D or E embedding, F = 2 E.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from gapctl.extensions import ExtensionError, raise_as_extension_error, require_extension

LossKind = str
"""`clip`, `siglip`, or the name of another package's loss."""
ContrastiveLoss = Callable[..., Tensor]
SIGLIP_INITIAL_BIAS = -10.0
"""Initial value of SigLIP's logit bias (arXiv 2303.15343, sec. 3.2)."""


class LossTerms(NamedTuple):
    """Weights of the terms added to the contrastive loss; 0 leaves one out."""

    alignment: float = 0.0
    uniformity: float = 0.0
    cross_uniformity: float = 0.0


NO_TERMS = LossTerms()


def sum_loss_terms(terms: LossTerms, image_NE: Tensor, text_NE: Tensor) -> Tensor:
    """Return the weighted sum of the terms over all pairs of a batch of L2-normalised features, a scalar."""
    total = image_NE.new_zeros(())
    if terms.alignment:
        # The mean of |x_i - y_i|^2 over matched pairs (arXiv 2005.10242, sec. 4.1.1, with alpha = 2).
        total = total + terms.alignment * (image_NE - text_NE).square().sum(dim=-1).mean()
    if terms.uniformity:
        within = uniformity_loss(image_NE, image_NE) + uniformity_loss(text_NE, text_NE)
        total = total + terms.uniformity * within / 2
    if terms.cross_uniformity:
        total = total + terms.cross_uniformity * uniformity_loss(image_NE, text_NE)
    return total


def uniformity_loss(first_NE: Tensor, second_NE: Tensor) -> Tensor:
    """Return the log of the mean of exp(-2 |x_i - y_j|^2) over all i != j.

    Within a modality `first` and `second` are the same (arXiv 2005.10242, sec. 4.1.2, with t = 2); between images and
    texts it is the cross-modal uniformity of arXiv 2405.18570. On the sphere, -2 |x - y|^2 = 4 cosine - 4.
    """
    number = first_NE.shape[0]
    itself_NN = torch.eye(number, dtype=torch.bool, device=first_NE.device)
    kernel_NN = (4 * first_NE @ second_NE.mT).masked_fill(itself_NN, -math.inf)
    return kernel_NN.flatten().logsumexp(dim=0) - 4 - math.log(number * (number - 1))


def masked_clip_loss(image_ND: Tensor, text_ND: Tensor, scale: Tensor, equal_NN: Tensor) -> Tensor:
    """Return CLIP's loss without the pairs in `equal_NN` (bool), which are not on the diagonal."""
    logits_NN = (scale * image_ND @ text_ND.mT).masked_fill(equal_NN, -math.inf)
    label_N = torch.arange(len(image_ND), device=image_ND.device)
    return (cross_entropy(logits_NN, label_N) + cross_entropy(logits_NN.mT, label_N)) / 2


def masked_siglip_loss(image_ND: Tensor, text_ND: Tensor, scale: Tensor, bias: Tensor, equal_NN: Tensor) -> Tensor:
    """Return SigLIP's loss without the pairs in `equal_NN`, as `masked_clip_loss` leaves them out."""
    logits_NN = scale * image_ND @ text_ND.mT + bias
    matched_NN = 2 * torch.eye(len(image_ND), dtype=logits_NN.dtype, device=logits_NN.device) - 1
    return -logsigmoid(matched_NN * logits_NN).masked_fill(equal_NN, 0.0).sum() / len(image_ND)


def find_equal_captions(token_NL: Tensor) -> Tensor:
    """Return which captions of a batch, or of each of several, are equal to which others (..., N, N)."""
    equal_NN = (token_NL.unsqueeze(-2) == token_NL.unsqueeze(-3)).all(dim=-1)
    return equal_NN & ~torch.eye(token_NL.shape[-2], dtype=torch.bool, device=token_NL.device)


def make_contrastive_loss(kind: LossKind, terms: LossTerms = NO_TERMS, *, masked: bool = False) -> ContrastiveLoss:
    """Return a scalar loss as a function of image_ND, text_ND, the logit scale and, for `siglip`, the logit bias.

    A `masked` loss takes `equal_NN` last, as `find_equal_captions` returns it.
    """
    loss: ContrastiveLoss = ClipLoss() if kind == "clip" else SigLipLoss()
    if masked:
        loss = masked_clip_loss if kind == "clip" else masked_siglip_loss

    def add_terms(image_ND: Tensor, text_ND: Tensor, *scalars: Tensor) -> Tensor:
        return loss(image_ND, text_ND, *scalars) + sum_loss_terms(terms, image_ND, text_ND)

    return loss if terms == NO_TERMS else add_terms


class GatheredFeatures(NamedTuple):
    """A worker's own features (B, E), those of all workers in the order of ranks (A, E), and the row of its first."""

    image_BE: Tensor
    text_BE: Tensor
    image_AE: Tensor
    text_AE: Tensor
    first: int

    @classmethod
    def of(cls, own_BF: Tensor, all_AF: Tensor, first: int) -> "GatheredFeatures":
        """Split features of images and texts side by side: (B, F) and (A, F)."""
        (image_BE, text_BE), (image_AE, text_AE) = own_BF.chunk(2, dim=1), all_AF.chunk(2, dim=1)
        return cls(image_BE, text_BE, image_AE, text_AE, first)


def local_clip_loss(rows: GatheredFeatures, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the loss of own images against all texts and own texts against all images.

    Its mean over workers is CLIP's loss of all pairs. A bias would not change the softmax and is ignored (arXiv
    2103.00020, sec. 2.3).
    """
    label_B = torch.arange(rows.first, rows.first + len(rows.image_BE), device=rows.image_BE.device)
    of_images = cross_entropy(scale * rows.image_BE @ rows.text_AE.T, label_B)
    of_texts = cross_entropy(scale * rows.text_BE @ rows.image_AE.T, label_B)
    return (of_images + of_texts) / 2


def local_siglip_loss(rows: GatheredFeatures, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the loss of own images against all texts.

    Its mean over workers is SigLIP's loss of all pairs (arXiv 2303.15343, sec. 3.2).
    """
    logits_BA = scale * rows.image_BE @ rows.text_AE.T
    if bias is not None:
        logits_BA = logits_BA + bias
    own = len(rows.image_BE)
    matched_BA = torch.ones_like(logits_BA).neg_()
    matched_BA.diagonal(rows.first).fill_(1.0)
    return -logsigmoid(matched_BA * logits_BA).sum() / own


LocalLoss = Callable[[GatheredFeatures, Tensor, Tensor | None], Tensor]
LOCAL_LOSSES: dict[LossKind, LocalLoss] = {"clip": local_clip_loss, "siglip": local_siglip_loss}


def make_worker_loss(kind: LossKind) -> LocalLoss:
    """Return a worker's share of a loss, whose mean over workers is the loss of all pairs.

    A loss of another package is computed by each worker over all pairs. What it raises, or returns instead of a scalar
    with a gradient, is an ExtensionError.
    """
    if kind in LOCAL_LOSSES:
        return LOCAL_LOSSES[kind]
    extension = require_extension("losses", kind)

    def compute_loss(rows: GatheredFeatures, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        with raise_as_extension_error(extension):
            loss = extension.function(rows.image_AE, rows.text_AE, scale, bias)
        if not isinstance(loss, Tensor):
            raise ExtensionError(f"{extension.title} returned {loss!r:.60}; expected a scalar tensor with a gradient")
        if loss.numel() != 1 or not loss.requires_grad:
            found = f"a tensor of shape {tuple(loss.shape)}" if loss.numel() != 1 else "a tensor without a gradient"
            raise ExtensionError(f"{extension.title} returned {found}; expected a scalar with a gradient")
        return loss.reshape(())

    return compute_loss


def compute_loss_floor(caption_id_B: NDArray[np.int64], kind: LossKind) -> float:
    """Return the lowest mean loss of a batch in nats, given a number per caption (B,) that equal captions share.

    It is a floor that identical captions set, but not the Bayes loss. Captions that overlap without being identical
    ("3-red" and "3-small", both right for one image) raise the least loss further; they are not counted here.

    Identical captions have identical logits, so an image cannot prefer its own among n equal ones: at best it gives
    each 1/n, which costs ln n. In the other direction the n rows of the same text are one distribution over images that
    must serve n different targets: again ln n. SigLIP's sigmoid gives an image and n equal captions one logit for one
    positive and n - 1 negatives; the best probability is 1/n, which costs ln n + (n - 1) ln(n / (n - 1)).
    """
    count_K = np.unique(caption_id_B, return_counts=True)[1].astype(np.float64)
    floor_K = np.log(count_K)
    if kind == "siglip":
        others_K = count_K - 1
        floor_K += others_K * np.log(count_K / np.maximum(others_K, 1))
    return float((count_K * floor_K).sum() / len(caption_id_B))
