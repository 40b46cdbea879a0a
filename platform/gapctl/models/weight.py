"""A model's parameter as a hand-written backward pass sees it: what it computes with, and where its gradient goes."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor


class Weight(NamedTuple):
    """One parameter: its exact value, its value in the number format of products, and its gradient.

    `exact` and `grad` have the master's format; `fast` is `exact` itself where both formats are one.
    A backward pass overwrites `grad`, it does not add.
    """

    exact: Tensor
    fast: Tensor
    grad: Tensor

    def rows(self, start: int, stop: int) -> "Weight":
        """The part of the parameter in these rows, gradient included."""
        return Weight(self.exact[start:stop], self.fast[start:stop], self.grad[start:stop])


Weights = Mapping[str, Weight]
