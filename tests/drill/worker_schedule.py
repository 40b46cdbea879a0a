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
    counts: Mapping[WorkerKind, int], trials: int, steps: int, last_round: int, seed: int
) -> list[list[WorkerFault]]:
    """Deal so many accidents of each kind to trials of `steps` steps, in the order of their steps.

    Each trial has one in its first and one in its last step. Numbers change in every other trial, and so that after
    all changes of a trial the number is again what it was: `last_round` changes make a round.
    """
    numbers = random.Random(seed)
    others = [kind for kind, count in counts.items() for _ in range(count) if kind != "number changed"]
    numbers.shuffle(others)
    rounds = counts.get("number changed", 0) // last_round
    dealt: list[list[WorkerKind]] = [[] for _ in range(trials)]
    changing = range(1, trials, 2) if trials > 1 else range(1)
    for number in range(rounds):
        dealt[changing[number % len(changing)]] += ["number changed"] * last_round
    for kind in others:
        min(dealt, key=len).append(kind)
    for kinds in dealt:
        numbers.shuffle(kinds)
    return [_place(kinds, steps, numbers) for kinds in dealt]


def _place(kinds: list[WorkerKind], steps: int, numbers: random.Random) -> list[WorkerFault]:
    """After a worker was slow in a checkpoint, none is waited for until another process trains.

    A training saves less often the longer it takes, so that a trial might end before the next one. A worker that is
    frozen counts as slow, because one that trains alone goes on.
    """
    apart = (steps - 1) / max(1, len(kinds) - 1)
    faults, saves_seldom = [], False
    for number, kind in enumerate(kinds):
        inside = 0 < number < len(kinds) - 1
        moment: Moment = numbers.choice(MOMENTS) if inside else "step"
        if saves_seldom and moment == "checkpoint":
            moment = "step"
        saves_seldom = kind in SLOWING and (saves_seldom or moment == "checkpoint")
        step, rank, seconds = round(number * apart), numbers.randrange(4), numbers.uniform(2.0, 5.0)
        faults.append(WorkerFault(kind, moment, step, rank, seconds))
    return faults
