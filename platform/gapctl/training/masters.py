"""A model's trainable parameters in two flat arrays: the masters that an optimiser updates and a checkpoint keeps.

An optimiser's step over two long arrays costs a fraction of one over a hundred short ones. Where products run in
another number format than the masters', one copy of each array per step replaces a cast at every use.
"""

import math
from collections.abc import Mapping
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
    """Takes over the model's trainable parameters, which become views: the model always is what the masters are."""

    def __init__(self, model: nn.Module, fast: torch.dtype) -> None:
        """Products run in `fast`; matrices and vectors go to one array each, because only matrices decay."""
        trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
        matrices = {name: value for name, value in trainable.items() if value.ndim >= 2}
        vectors = {name: value for name, value in trainable.items() if value.ndim < 2}
        self.weights: dict[str, Weight] = {}
        self.matrices = self._take(matrices, fast)
        self.vectors = self._take(vectors, fast)

    def refresh(self) -> None:
        """To be called whenever the masters changed: after an optimiser's step, after a checkpoint was read."""
        self.matrices.refresh()
        self.vectors.refresh()

    def _take(self, parameters: Mapping[str, nn.Parameter], fast: torch.dtype) -> Flat:
        joint = torch.cat([parameter.detach().flatten() for parameter in parameters.values()])
        flat = Flat(nn.Parameter(joint), joint if fast == joint.dtype else joint.to(fast))
        gradient = torch.zeros_like(joint)
        flat.exact.grad = gradient
        start = 0
        for name, parameter in parameters.items():
            shape, stop = parameter.shape, start + math.prod(parameter.shape)
            views = (array[start:stop].view(shape) for array in (joint, flat.fast, gradient))
            self.weights[name] = Weight(*views)
            parameter.data = self.weights[name].exact
            start = stop
        return flat
