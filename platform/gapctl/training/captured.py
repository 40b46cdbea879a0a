"""A step recorded once as a CUDA graph and replayed: a small model's step is mostly the time to launch its kernels."""

import gc
from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP_STEPS = 3
"""Steps taken as they are before one is recorded: what they allocate or choose for the first time is no part of it."""


class Captured:
    """Calls a function of tensors whose shapes stay the same; from the fourth call on, it replays what the GPU did.

    The function must read and write the same memory each time: parameters, gradients and moments that stay in place.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._output = torch.empty(0)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The function's output for these inputs, in memory of its own."""
        self._calls += 1
        if self._calls <= WARM_UP_STEPS:
            return self._aside(inputs)
        if self._graph is None:
            self._record(inputs)
        for place, value in zip(self._inputs, inputs, strict=True):
            place.copy_(value)
        assert self._graph is not None
        self._graph.replay()
        return self._output.clone()

    def _aside(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """On a stream of its own, as a recording demands of what comes before it."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            output = self._function(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return output

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        """Records without running; the recorded step then runs by replay."""
        gc.collect()  # a step that was replaced may still hold a graph, which must not be freed while one is recorded
        self._inputs = tuple(value.clone() for value in inputs)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = self._function(*self._inputs)
