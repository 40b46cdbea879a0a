"""The loss of a global batch and its gradients by the features of this worker's own pairs.

Features are gathered, every worker computes its own rows' loss against all (open_clip's "local loss"), and what that
says of the others' features goes back to them. No tower is needed in between, so a batch may go through the towers in
parts (Gao et al., arXiv 2101.06983).

Index letters: B pairs of this worker, A pairs of all workers, E embedding, F = 2 E image and text side by side.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gapctl.models.loss_terms import NO_TERMS, LossTerms, added
from gapctl.models.losses import OWN_LOSS, LossKind, Rows
from gapctl.training.group import Group


class FeatureGradients(NamedTuple):
    """The global batch's loss (1,), and gradients by image (B, E), text (B, E) and scalars.

    The gradient of the global loss by a parameter is the mean over workers of what each gets from these through its
    towers; the mean is what DistributedDataParallel takes.
    """

    loss: Tensor
    image_BE: Tensor
    text_BE: Tensor
    scalars: tuple[Tensor, ...]


class FeatureLoss:
    """A contrastive loss over the workers of a group, and what is added to it."""

    def __init__(self, kind: LossKind, group: Group, terms: LossTerms = NO_TERMS) -> None:
        self._loss = OWN_LOSS[kind]
        self._terms = terms
        self._group = group

    @torch.enable_grad()
    def __call__(self, image_BE: Tensor, text_BE: Tensor, scalars: Sequence[Tensor]) -> FeatureGradients:
        """Of L2-normalised features; `scalars` are the log of the logit scale and, where a model has it, the bias."""
        own_BF = _leaf(torch.cat([image_BE, text_BE], dim=1))
        all_AF = _leaf(self._group.gathered(own_BF.detach()))
        leaves = [_leaf(value) for value in scalars]
        rows = Rows.of(own_BF, all_AF, first=self._group.rank * len(image_BE))
        loss = self._loss(rows, leaves[0].exp(), *leaves[1:])
        if self._terms != NO_TERMS:  # of all pairs on every worker, as a log of a mean is no mean of the workers'
            loss = loss + added(self._terms, rows.image_AE, rows.text_AE)
        own_grad_BF, all_grad_AF, *rest = torch.autograd.grad(loss, [own_BF, all_AF, *leaves], materialize_grads=True)
        image_grad_BE, text_grad_BE = (own_grad_BF + self._group.own_sums(all_grad_AF)).chunk(2, dim=1)
        return FeatureGradients(self._group.mean(loss.detach().view(1)), image_grad_BE, text_grad_BE, tuple(rest))


def _leaf(value: Tensor) -> Tensor:
    return value.detach().requires_grad_()
