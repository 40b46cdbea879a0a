"""Which accidents come in which order, and how long each lasts: all of it decided by a seed."""

import random
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Kind = Literal[
    "trial process killed",
    "raylet killed",
    "node lost",
    "driver killed",
    "head lost",
    "trial process frozen",
    "node frozen",
    "driver frozen",
    "disk full",
    "tracking server away",
    "object store away",
]

LONG: Final[Mapping[Kind, int]] = {
    "trial process killed": 13,
    "raylet killed": 4,
    "node lost": 5,
    "driver killed": 6,
    "head lost": 2,
    "trial process frozen": 5,
    "node frozen": 2,
    "driver frozen": 3,
    "disk full": 4,
    "tracking server away": 4,
    "object store away": 4,
}
"""52 in all."""
SHORT: Final[Mapping[Kind, int]] = {
    "trial process killed": 1,
    "node lost": 1,
    "driver killed": 1,
    "trial process frozen": 1,
    "disk full": 1,
    "tracking server away": 1,
    "object store away": 1,
}


class Fault(NamedTuple):
    """`wait` seconds after a trial is seen in training it comes, and what can last lasts for `seconds`."""

    kind: Kind
    wait: float
    seconds: float
    choice: float


def schedule(counts: Mapping[Kind, int], seed: int) -> list[Fault]:
    """So many accidents of each kind in the seed's order; `choice`, from 0 to 1, says whom it befalls."""
    numbers = random.Random(seed)
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    numbers.shuffle(kinds)
    return [Fault(kind, numbers.uniform(0.0, 3.0), numbers.uniform(3.0, 12.0), numbers.random()) for kind in kinds]
