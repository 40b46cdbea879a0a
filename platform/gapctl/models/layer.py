"""One layer of a hand-written pass: what it gave, and how a gradient goes back through it."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

Pullback = Callable[[Tensor], Tensor]


class Layer(NamedTuple):
    """A layer's output, and its pullback: output gradient in, input gradient out."""

    output: Tensor
    pullback: Pullback
