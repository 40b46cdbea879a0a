"""The workers that train one model together: what they tell each other beside the gradients of parameters.

Index letters: B rows of one worker, A = size * B rows of all in the order of ranks, F columns.
"""

from typing import Final, NamedTuple

from torch import Tensor, distributed
from torch.distributed import ProcessGroup


class WorkerGroup(NamedTuple):
    """`size` workers, of which this is number `rank`; `handle` None is torch's default process group."""

    rank: int = 0
    size: int = 1
    handle: ProcessGroup | None = None

    def gather_rows(self, rows_BF: Tensor) -> Tensor:
        """All workers' rows (A, F); each must have as many."""
        if self.size == 1:
            return rows_BF
        rows_AF = rows_BF.new_empty(self.size * rows_BF.shape[0], rows_BF.shape[1])
        distributed.all_gather_into_tensor(rows_AF, rows_BF.contiguous(), group=self.handle)
        return rows_AF

    def reduce_to_own_rows(self, rows_AF: Tensor) -> Tensor:
        """This worker's rows (B, F) of the sum of what every worker has for all rows."""
        if self.size == 1:
            return rows_AF
        rows_BF = rows_AF.new_empty(rows_AF.shape[0] // self.size, rows_AF.shape[1])
        distributed.reduce_scatter_tensor(rows_BF, rows_AF.contiguous(), group=self.handle)
        return rows_BF

    def mean(self, value: Tensor) -> Tensor:
        """The mean over workers, the same on each."""
        if self.size == 1:
            return value
        total = value.clone()
        distributed.all_reduce(total, group=self.handle)
        return total / self.size


SINGLE_WORKER = WorkerGroup()


def get_current_group() -> WorkerGroup:
    """torch's default process group, as Ray Train sets it up, or this process alone where there is none."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return SINGLE_WORKER
    return WorkerGroup(distributed.get_rank(), distributed.get_world_size())


PEER_LOSS_MESSAGES: Final = (
    # gloo
    "connection reset by peer",
    "connection closed by peer",
    "connection refused",
    "connect timeout",
    "broken pipe",
    "socket closed",
    "timed out waiting",
    "application timeout caused pair closure",
    "gloo connectfullmesh failed",
    # NCCL
    "nccl communicator was aborted",
    "nccl watchdog",
    "nccl error",
    "remote process exit",
    "unhandled system error",
    "ncclremoteerror",
    "ncclsystemerror",
    # the store by which workers meet
    "tcpstore",
    "failed to recv, got 0 bytes",
    "socket timeout",
)
"""What a RuntimeError of torch's collectives says when another worker has gone, in lower case.

torch raises a class of its own only where NCCL or the store notices; gloo's errors are RuntimeErrors with these words.
"""


def is_peer_loss(error: BaseException) -> bool:
    """Whether an error says that another worker has gone, rather than that this one went wrong.

    An error that was raised from another is a loss where that one is.
    """
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        if isinstance(found, distributed.DistError):
            return True
        if isinstance(found, RuntimeError) and any(words in str(found).lower() for words in PEER_LOSS_MESSAGES):
            return True
        seen.add(id(found))
        found = found.__cause__
    return False
