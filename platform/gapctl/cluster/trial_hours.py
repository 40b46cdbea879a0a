"""Estimate how long one trial takes on its machines: what they send each other, and what is lost when one vanishes.

1. `estimate_exchange` counts the bytes that each of several machines sends at a step.
2. `compute_network_share` says how much longer a step takes for that.
3. `compute_slowdown` is the mean of hours for each hour of work, on machines that are lost now and then.
4. `choose_checkpoint_hours` is how often a trial saves where it stands.

Plain numbers go in and out: `cost.py` reads them from the table of prices. `benchmarks/spot_losses.py` holds the third
to a simulation.
"""

import math
from typing import Final, NamedTuple

from gapctl.errors import InputError

FLOAT_BYTES: Final = 4
BACKWARD_SHARE: Final = 2 / 3
"""Part of a step's operations that the backward pass takes, during which gradients are sent."""


class Exchange(NamedTuple):
    """Bytes that a machine sends at a step: gradients, and rows of the batch's embeddings with their gradients."""

    gradients: float
    rows: float

    @property
    def total(self) -> float:
        """All bytes of a step."""
        return self.gradients + self.rows


def estimate_exchange(parameters: int, batch_size: int, embed_dim: int, workers: int) -> Exchange:
    """Count the bytes that a machine sends at a step, if `workers` on several machines train one trial.

    A ring of W workers sends 2 (W - 1) / W times what is summed (P. Patarasuk, X. Yuan, J. Parallel Distrib. Comput.
    69, 2009), over each link of it once in each direction, also where a machine has several workers. Gradients are in
    float32. Rows of the batch's embeddings of both sides are gathered, and the gradients of these go back.
    """
    passed_on = (workers - 1) / workers
    return Exchange(
        gradients=2 * passed_on * FLOAT_BYTES * parameters,
        rows=2 * passed_on * FLOAT_BYTES * 2 * embed_dim * batch_size,
    )


def compute_network_share(exchange: Exchange, gbit: float, step_seconds: float, micro_batches: int = 1) -> float:
    """Return how much longer a step takes for its exchange, as a part of its `step_seconds` of operations.

    `gbit` is each machine's network in 1e9 bits per second. Gradients are sent while the backward pass goes on (arXiv
    2006.15704, sec. 3.2.3), that of the last micro-batch; what takes longer than that, and the rows, is waited for.
    """
    seconds_per_byte = 8 / (gbit * 1e9)
    hidden = BACKWARD_SHARE / micro_batches * step_seconds
    waited = max(0.0, exchange.gradients * seconds_per_byte - hidden) + exchange.rows * seconds_per_byte
    return waited / step_seconds


LONGEST_SLOWDOWN: Final = 100.0
"""Work that takes so many times as long is refused: it costs more than anybody means to pay."""


def compute_slowdown(
    losses_per_hour: float, restart_hours: float, checkpoint_hours: float, writing_hours: float = 0.0
) -> float:
    """Return the mean hours that an hour of work takes where machines are lost at random, `losses_per_hour` in all.

    Each `checkpoint_hours` of work are saved, for `writing_hours`. A loss throws the work back to the last checkpoint,
    and costs a restart, which a further loss begins anew. With r losses an hour, restarts of R, checkpoints t apart and
    w of writing, that is exp(r R) (exp(r (t + w)) - 1) / (r t) (J. T. Daly, Future Gener. Comput. Syst. 22, 2006).
    Without losses it is (t + w) / t. Raise InputError where it is more than `LONGEST_SLOWDOWN`.
    """
    segment = checkpoint_hours + writing_hours
    if losses_per_hour == 0:
        return segment / checkpoint_hours
    exponent = losses_per_hour * (restart_hours + segment)
    found = math.inf
    if exponent < LONGEST_SLOWDOWN:  # no overflow
        longer = math.expm1(losses_per_hour * segment) / (losses_per_hour * checkpoint_hours)
        found = math.exp(losses_per_hour * restart_hours) * longer
    if found > LONGEST_SLOWDOWN:
        raise InputError(
            f"assumptions: found {losses_per_hour:g} losses an hour of a trial's machines, of which each costs "
            f"{restart_hours:.2g} h and the work since a checkpoint, so that it takes more than {LONGEST_SLOWDOWN:g} "
            "times as long; expected fewer. Correct the table of prices, or take fewer machines for a trial"
        )
    return found


CHECKPOINT_SPACING: Final = 20
"""The time between checkpoints, in multiples of the time that writing one took, as trainings keep it."""


def choose_checkpoint_hours(least_hours: float, writing_hours: float) -> float:
    """Return the hours of work between checkpoints: `least_hours`, and more where writing one takes long."""
    return max(least_hours, CHECKPOINT_SPACING * writing_hours)
