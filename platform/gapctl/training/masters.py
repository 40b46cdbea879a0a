"""Trainable parameters in two flat arrays: the masters that an optimiser updates and a checkpoint keeps.

An optimiser's step over two long arrays costs a fraction of one over a hundred short ones. Where products run in
another number format than the masters', one copy of each array per step replaces a cast at every use. Several models
of one shape share the arrays, a row each.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gapctl.models.weight import Weight


class Flat(NamedTuple):
    """One array of parameters: the masters, the gradient, and the masters in the format of products."""

    exact: nn.Parameter
    fast: Tensor

    def refresh(self) -> None:
        """Brings the format of products up to date."""
        if self.fast.dtype != self.exact.dtype:
            self.fast.copy_(self.exact.detach())


class Masters:
    """Takes over the models' trainable parameters, which become views: a model always is what the masters are."""

    def __init__(self, models: Sequence[nn.Module], fast: torch.dtype) -> None:
        """Products run in `fast`; matrices and vectors go to one array each, because only matrices decay.

        The models must have parameters of the same names and shapes. One model's arrays are (parameters,), those of
        more are (models, parameters), and each weight is then stacked.
        """
        self.weights: dict[str, Weight] = {}
        self.matrices = self._take(models, lambda value: value.ndim >= 2, fast)
        self.vectors = self._take(models, lambda value: value.ndim < 2, fast)

    def refresh(self) -> None:
        """To be called whenever the masters changed: after an optimiser's step, after a checkpoint was read."""
        self.matrices.refresh()
        self.vectors.refresh()

    def _take(self, models: Sequence[nn.Module], wanted: Callable[[Tensor], bool], fast: torch.dtype) -> Flat:
        taken = [
            {name: value for name, value in model.named_parameters() if value.requires_grad and wanted(value)}
            for model in models
        ]
        rows = [torch.cat([value.detach().flatten() for value in parameters.values()]) for parameters in taken]
        joint = rows[0] if len(rows) == 1 else torch.stack(rows)
        flat = Flat(nn.Parameter(joint), joint if fast == joint.dtype else joint.to(fast))
        gradient = torch.zeros_like(joint)
        flat.exact.grad = gradient
        start = 0
        for name, first in taken[0].items():
            stop = start + math.prod(first.shape)
            shape = (*joint.shape[:-1], *first.shape)
            exact, quick, grad = (array[..., start:stop].view(shape) for array in (joint, flat.fast, gradient))
            self.weights[name] = Weight(exact, quick, grad, stacked=len(models) > 1)
            for index, parameters in enumerate(taken):
                parameters[name].data = exact[index] if len(models) > 1 else exact
            start = stop
        return flat
