"""Which accidents befall a trial on several workers, at which of its moments: all of it decided by a seed."""

import random
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

WorkerKind = Literal[
    "worker killed",
    "controller killed",
    "waiting process killed",
    "worker frozen",
    "worker slow",
    "node lost",
    "driver killed",
    "number changed",
]
Moment = Literal["step", "evaluation", "checkpoint"]

WORKERS_LONG: Final[Mapping[WorkerKind, int]] = {
    "worker killed": 40,
    "controller killed": 10,
    "waiting process killed": 8,
    "worker frozen": 8,
    "worker slow": 14,
    "node lost": 8,
    "driver killed": 6,
    "number changed": 6,
}
"""100 in all."""
WORKERS_SHORT: Final[Mapping[WorkerKind, int]] = {
    "worker killed": 1,
    "controller killed": 1,
    "worker frozen": 1,
    "worker slow": 1,
    "node lost": 1,
    "number changed": 3,
}
SLOWING: Final[tuple[WorkerKind, ...]] = ("worker slow", "worker frozen")
"""After these the same process may go on."""
MOMENTS: Final[tuple[Moment, ...]] = ("step", "step", "evaluation", "checkpoint")
"""Drawn from alike, so that half come in a step."""


class WorkerFault(NamedTuple):
    """At `moment`, in step `step` or the first one after it, it comes over the worker `rank`, modulo their number.

    The first worker alone evaluates and saves; the others wait for it meanwhile. `seconds` are those of a slow worker.
    """

    kind: WorkerKind
    moment: Moment
    step: int
    rank: int
    seconds: float


def worker_schedule(
    counts: Mapping[WorkerKind, int], trials: int, steps: int, changes_per_round: int, seed: int
) -> list[list[WorkerFault]]:
    """Deal so many accidents of each kind to trials of `steps` steps, in the order of their steps.

    Each trial has one in its first and one in its last step. Numbers change in every other trial, and so that after
    all changes of a trial the number is again what it was: `changes_per_round` of them make a round.
    """
    draws = random.Random(seed)
    others = [kind for kind, count in counts.items() for _ in range(count) if kind != "number changed"]
    draws.shuffle(others)
    rounds = counts.get("number changed", 0) // changes_per_round
    dealt: list[list[WorkerKind]] = [[] for _ in range(trials)]
    changing = range(1, trials, 2) if trials > 1 else range(1)
    for index in range(rounds):
        dealt[changing[index % len(changing)]] += ["number changed"] * changes_per_round
    for kind in others:
        min(dealt, key=len).append(kind)
    for kinds in dealt:
        draws.shuffle(kinds)
    return [_place_evenly(kinds, steps, draws) for kinds in dealt]


def _place_evenly(kinds: list[WorkerKind], steps: int, draws: random.Random) -> list[WorkerFault]:
    """Spread them evenly. After a worker was slow in a checkpoint, none is waited for until another process trains.

    A training saves less often the longer it takes, so that a trial might end before the next one. A worker that is
    frozen counts as slow, because one that trains alone goes on.
    """
    spacing = (steps - 1) / max(1, len(kinds) - 1)
    faults, saves_seldom = [], False
    for number, kind in enumerate(kinds):
        is_interior = 0 < number < len(kinds) - 1
        moment: Moment = draws.choice(MOMENTS) if is_interior else "step"
        if saves_seldom and moment == "checkpoint":
            moment = "step"
        saves_seldom = kind in SLOWING and (saves_seldom or moment == "checkpoint")
        step, rank, seconds = round(number * spacing), draws.randrange(4), draws.uniform(2.0, 5.0)
        faults.append(WorkerFault(kind, moment, step, rank, seconds))
    return faults
