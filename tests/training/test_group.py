"""What a collective says when a peer has gone is told apart from what a training itself does wrong."""

import pytest
from torch import distributed

from gapctl.training.workers import is_lost_worker_error

GLOO = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] "


@pytest.mark.parametrize(
    "text",
    [
        f"{GLOO}Connection closed by peer [127.0.0.1]:23541",
        f"{GLOO}Read error [127.0.0.1]:23541: Connection reset by peer",
        f"{GLOO}writev [127.0.0.1]:4: Broken pipe",
        "Timed out waiting 1800000ms for recv operation to complete",
        "Application timeout caused pair closure",
        "NCCL error in: NCCLUtils.hpp:317, unhandled system error (run with NCCL_DEBUG=INFO for details)",
        "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely.",
        "NCCL communicator was aborted on rank 1.",
        "[rank0]: TCPStore: connection to 10.0.0.4 lost",
    ],
)
def test_the_words_of_gloo_nccl_and_the_store_are_a_loss(text: str) -> None:
    assert is_lost_worker_error(RuntimeError(text))


@pytest.mark.parametrize(
    "kind", [distributed.DistBackendError, distributed.DistNetworkError, distributed.DistStoreError]
)
def test_errors_of_torch_s_own_classes_are_a_loss_whatever_they_say(kind: type[RuntimeError]) -> None:
    assert is_lost_worker_error(kind("anything"))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("size mismatch for visual.proj"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        ArithmeticError("Connection closed by peer"),
        ConnectionResetError(104, "Connection reset by peer"),
        FloatingPointError("timed out waiting for a finite loss"),
    ],
)
def test_a_training_s_own_error_is_none(error: Exception) -> None:
    assert not is_lost_worker_error(error)


def test_what_a_library_made_of_a_loss_is_one_too() -> None:
    error = ValueError("the backward pass failed")
    error.__cause__ = RuntimeError(f"{GLOO}Connection closed by peer [127.0.0.1]:1")

    assert is_lost_worker_error(error)
    error.__cause__ = error
    assert not is_lost_worker_error(error)
