"""The contrastive losses by name; open_clip's own, so that results compare with trainings elsewhere."""

from collections.abc import Callable
from typing import Literal

from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor

ContrastiveLoss = Callable[..., Tensor]


def contrastive_loss(kind: Literal["clip", "siglip"]) -> ContrastiveLoss:
    """A function of (image_ND, text_ND, logit_scale[, logit_bias]) that gives a scalar."""
    loss: ContrastiveLoss = ClipLoss() if kind == "clip" else SigLipLoss()
    return loss
