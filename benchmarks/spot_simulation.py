"""A training on machines that are lost one by one, event by event: what the closed form of its hours is held to.

Machines live and die by themselves, and each replacement takes a time of its own. So the simulation knows nothing of
a group's rate, and its restarts are not all alike, as the formula's are.
"""

import heapq
import random
from typing import NamedTuple


class Group(NamedTuple):
    """Machines that train one trial: any that is lost stops all of them until another is ready.

    Each is lost `losses_per_hour`, also while it starts. That takes from three to five quarters of `start_hours`. Each
    `checkpoint_hours` of work are saved, for `writing_hours`.
    """

    machines: int
    losses_per_hour: float
    start_hours: float
    checkpoint_hours: float
    writing_hours: float = 0.0


class Simulated(NamedTuple):
    """Hours until the work was done, and how many machines were lost meanwhile."""

    hours: float
    losses: int


def simulate_training(group: Group, work_hours: float, seed: int) -> Simulated:
    """Train for so many hours of work, from when all machines are ready."""
    drawn = random.Random(seed)
    lost = [(drawn.expovariate(group.losses_per_hour), machine) for machine in range(group.machines)]
    heapq.heapify(lost)
    ready, done, losses = 0.0, 0.0, 0
    while True:
        when, machine = lost[0]
        segment = group.checkpoint_hours + group.writing_hours
        whole, rest = divmod(work_hours - done, group.checkpoint_hours)
        ends = ready + whole * segment + rest
        if ends <= when:
            return Simulated(ends, losses)
        if when > ready:  # all that was saved before the loss is kept
            done += group.checkpoint_hours * ((when - ready) // segment)
        losses += 1
        ready = max(ready, when + group.start_hours * drawn.uniform(0.75, 1.25))
        heapq.heapreplace(lost, (when + drawn.expovariate(group.losses_per_hour), machine))
