"""What a collective says when a peer has gone is told apart from what a training itself does wrong.

The texts are those of torch and NCCL, from public reports (named beside each) or from their libraries' own strings.
"""

import pytest
from torch import distributed

from gapctl.training.workers import is_lost_worker_error

GLOO = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] "
BUFFER = "[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] "
NCCL = "NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.hpp:317, "
STORE = "recvValueWithTimeout failed on SocketImpl(fd=3, addr=[localhost]:34658, remote=[localhost]:1234): "

LOSSES = [
    # gloo: pytorch#75512, vllm#45092, torchtune#2676, detectron2#5121, BCNet#53, pytorch#3615, gloo#148
    f"{GLOO}Connection closed by peer [127.0.0.1]:23541",
    f"{GLOO}Read error [127.0.0.1]:23541: Connection reset by peer",
    f"{GLOO}writev [127.0.0.1]:4: Broken pipe",
    f"{GLOO}Read error [10.0.0.7]:23541: Connection timed out",
    f"{GLOO}connect [10.0.0.7]:23541: No route to host",
    f"{GLOO}connect [10.0.0.7]:23541: Network is unreachable",
    f"{GLOO}getpeername: Transport endpoint is not connected",
    f"{BUFFER}Timed out waiting 1800000ms for recv operation to complete",
    f"{BUFFER}Timed out waiting 1800000ms for send operation to complete",
    "Application timeout caused pair closure",
    "[enforce fail at /pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:119] Read timeout",
    "Wait timeout",
    "Operation timed out!",
    "timed out connecting: SO_ERROR: Connection refused, remote=[10.0.0.7]:9871",
    "Gloo connectFullMesh failed with [../third_party/gloo/gloo/transport/tcp/pair.cc:144] no error",
    "Rank 1 timed out in monitoredBarrier after 60000 ms.",
    # NCCL: nccl#2076, nccl#975, nccl#1232, pytorch#118369, open-r1#620
    (
        f"{NCCL}remote process exited or there was a network error, NCCL version 2.21.5\nncclRemoteError: A call "
        "failed possibly due to a network error or a remote process exiting prematurely.\nLast error:\n"
        "socketProgressOpt: Call to recv from 172.16.0.9<33759> failed : Connection reset by peer"
    ),
    (
        f"{NCCL}unhandled system error (run with NCCL_DEBUG=INFO for details), NCCL version 2.27.3\nncclSystemError: "
        "System call (e.g. socket, malloc) or external library call failed or device error."
    ),
    "socketProgress: Connection closed by remote peer node2<42830>",
    "NCCL communicator was aborted on rank 1.",
    (
        "[Rank 7] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=96120, OpType=ALLREDUCE, "
        "Timeout(ms)=1800000) ran for 25624887 milliseconds before timing out."
    ),
    # the store: pytorch#153586, pytorch#55571
    f"{STORE}Failed to recv, got 0 bytes. Connection was likely closed. Did the remote server shutdown or crash?",
    "[rank0]: TCPStore: connection to 10.0.0.4 lost",
    "Socket Timeout",
    "The client socket has timed out after 300000ms while trying to connect to (10.0.0.4, 29500).",
    "The client socket has failed to connect to any network address of (10.0.0.4, 29500).",
]


@pytest.mark.parametrize("text", LOSSES)
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
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("Expected to have finished reduction in the prior iteration before starting a new one."),
        RuntimeError("DataLoader worker (pid 4711) is killed by signal: Bus error."),
        distributed.DistBackendError(
            f"{NCCL}invalid usage (run with NCCL_DEBUG=WARN for details), NCCL version 2.27.3\n"
            "ncclInvalidUsage: This usually reflects invalid usage of NCCL library.\nLast error:\n"
            "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1000"
        ),
        distributed.DistBackendError(f"{NCCL}unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'"),
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


def test_what_is_raised_while_a_loss_is_handled_is_one_too() -> None:
    loss = RuntimeError(f"{GLOO}Connection closed by peer [127.0.0.1]:1")
    error = KeyError("no such bucket of gradients")
    error.__context__ = loss

    assert is_lost_worker_error(error)
    error.__suppress_context__ = True
    assert not is_lost_worker_error(error)
