"""A model's parameter as a hand-written backward pass sees it: what it computes with, and where its gradient goes.

A pass may run several models of one shape at once. Their parameters are stacked along a first dimension, M, and the
rows of all their samples follow one another, model by model, so that only what multiplies by a parameter knows of it.
"""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, empty_like, nn


class Weight(NamedTuple):
    """One parameter: its exact value, its value in the number format of products, and its gradient.

    `exact` and `grad` have the master's format; `fast` is `exact` itself where both formats are one.
    A backward pass overwrites `grad`, it does not add. `stacked`: each has a first dimension of models.
    """

    exact: Tensor
    fast: Tensor
    grad: Tensor
    stacked: bool = False

    @property
    def models(self) -> int:
        """How many models' parameter this is."""
        return len(self.exact) if self.stacked else 1

    def rows(self, start: int, stop: int) -> "Weight":
        """The part of the parameter in these rows, gradient included."""
        part = (slice(None), slice(start, stop)) if self.stacked else (slice(start, stop),)
        return Weight(self.exact[part], self.fast[part], self.grad[part], self.stacked)


Weights = Mapping[str, Weight]


def weights_for_reading(model: nn.Module) -> Weights:
    """A model's parameters for forward passes alone, in their own format; gradients have room and no meaning."""
    every = model.named_parameters(remove_duplicate=False)
    parameters = {name: parameter.detach() for name, parameter in every}
    return {name: Weight(exact=value, fast=value, grad=empty_like(value)) for name, value in parameters.items()}
