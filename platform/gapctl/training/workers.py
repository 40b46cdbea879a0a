"""Let the workers that train one model together exchange rows and means, and recognise the loss of one of them.

Index letters: B rows of one worker, A = size * B rows of all in the order of ranks, F columns.
"""

import secrets
from typing import Final, NamedTuple

import torch
from torch import Tensor, distributed
from torch.distributed import ProcessGroup

PEER_LOSS_MESSAGES: Final = (
    # the system's own words, which gloo, NCCL and the rendezvous store repeat
    "connection reset by peer",
    "connection closed by peer",
    "connection closed by remote peer",
    "connection refused",
    "connection timed out",
    "connection was likely closed",
    "connect timeout",
    "broken pipe",
    "no route to host",
    "network is unreachable",
    "transport endpoint is not connected",
    "socket closed",
    "socket timeout",
    "socket unexpectedly closed",
    # gloo
    "timed out waiting",
    "timed out connect",
    "read timeout",
    "wait timeout",
    "operation timed out!",
    "application timeout caused pair closure",
    "gloo connectfullmesh failed",
    "timed out in monitoredbarrier",
    # NCCL
    "communicator was aborted",
    "nccl watchdog",
    "collective operation timeout",
    "nccl error",
    "remote process exit",
    "unhandled system error",
    "ncclremoteerror",
    "ncclsystemerror",
    # the rendezvous store
    "tcpstore",
    "failed to recv, got 0 bytes",
    "the client socket has timed out",
    "the client socket has failed to connect",
)
"""Words of the RuntimeErrors that torch's collectives raise when another worker is gone, in lower case.

torch raises a class of its own only if NCCL or the store notices; gloo's errors are RuntimeErrors with these words.
"""
OWN_ERROR_MESSAGES: Final = ("invalid usage", "invalid argument", "duplicate gpu", "out of memory")
"""Words of a collective's errors that this worker made itself, and would make again; in lower case."""


class WorkerGroup(NamedTuple):
    """A group of `size` workers, of which this is number `rank`.

    Without `handle` it is torch's default process group.
    """

    rank: int = 0
    size: int = 1
    handle: ProcessGroup | None = None

    def gather_rows(self, rows_BF: Tensor) -> Tensor:
        """Return all workers' rows (A, F); each must have the same number."""
        if self.size == 1:
            return rows_BF
        rows_AF = rows_BF.new_empty(self.size * rows_BF.shape[0], rows_BF.shape[1])
        distributed.all_gather_into_tensor(rows_AF, rows_BF.contiguous(), group=self.handle)
        return rows_AF

    def reduce_to_own_rows(self, rows_AF: Tensor) -> Tensor:
        """Return this worker's rows (B, F) of the sum over workers."""
        if self.size == 1:
            return rows_AF
        rows_BF = rows_AF.new_empty(rows_AF.shape[0] // self.size, rows_AF.shape[1])
        distributed.reduce_scatter_tensor(rows_BF, rows_AF.contiguous(), group=self.handle)
        return rows_BF

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean over workers, the same on each."""
        if self.size == 1:
            return value
        total = value.clone()
        distributed.all_reduce(total, group=self.handle)
        return total / self.size

    def draw_name(self) -> str:
        """Return a random name, the same for all workers of the group, all of which must call it."""
        return f"{int(self.gather_rows(torch.tensor([[secrets.randbits(63)]]))[0, 0]):016x}"


SINGLE_WORKER = WorkerGroup()


def get_worker_group() -> WorkerGroup:
    """Return the default process group that Ray Train sets up, or this process alone if there is none."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return SINGLE_WORKER
    return WorkerGroup(distributed.get_rank(), distributed.get_world_size())


def is_lost_worker_error(error: BaseException) -> bool:
    """Return whether an error means that another worker is gone, rather than that this one failed.

    An error that was raised from another, or while another was handled, is a loss if that one is.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if _says_peer_is_lost(cause):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return False


def _says_peer_is_lost(error: BaseException) -> bool:
    text = str(error).lower()
    if not isinstance(error, RuntimeError) or any(words in text for words in OWN_ERROR_MESSAGES):
        return False
    return isinstance(error, distributed.DistError) or any(words in text for words in PEER_LOSS_MESSAGES)
