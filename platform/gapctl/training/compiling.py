"""What torch.compile says when a machine cannot compile, in words."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch._dynamo.exc import TorchDynamoException

from gapctl.errors import WorkError


@contextmanager
def compile_errors_in_words() -> Iterator[None]:
    """WorkError where torch.compile fails: it needs a C++ compiler on a CPU, Triton and a C compiler on a GPU."""
    try:
        yield
    except TorchDynamoException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        found = lines[0] if lines else type(error).__name__
        raise WorkError(
            f"torch.compile could not compile the model on this machine: {found}\n"
            "It needs a C++ compiler (g++, or the one that the variable CXX names), and Triton on a GPU. Install it, "
            "or train without compile: the numbers are the same but for rounding."
        ) from error
