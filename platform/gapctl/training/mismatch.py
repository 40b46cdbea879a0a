"""Pairs that do not match, during the first steps of a training (arXiv 2412.07909, on mismatched pairs).

Index letters: M trials trained at once, B pairs of a trial's batch, S = M * B.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gapctl.data.mad.draws import Purpose, generator
from gapctl.training.pairs import Pairs


def mismatched(pairs: Iterator[Pairs], seeds: Sequence[int], first: int, last: int) -> Iterator[Pairs]:
    """The pairs of the steps from `first` on; those before step `last` with texts of other images of their batch.

    `seeds` are the trials', one for each M.
    """
    for step in range(first, last):
        yield _dealt(next(pairs), seeds, step)
    yield from pairs


def _dealt(pairs: Pairs, seeds: Sequence[int], step: int) -> Pairs:
    number = pairs.caption_id_MB.shape[1]
    partner_MB = np.stack([partners(seed, step, number) for seed in seeds])
    place_S = torch.from_numpy((partner_MB + number * np.arange(len(seeds))[:, None]).ravel())
    return pairs._replace(
        second=pairs.second[place_S.to(pairs.second.device)],
        caption_id_MB=np.take_along_axis(pairs.caption_id_MB, partner_MB, axis=1),
    )


def partners(seed: int, step: int, number: int) -> NDArray[np.int64]:
    """For each place of a batch another one: all places in one circle, drawn by seed and step alone."""
    circle_B = generator(Purpose.MISMATCH, seed, step).permutation(number)
    partner_B = np.empty_like(circle_B)
    partner_B[circle_B] = np.roll(circle_B, 1)
    return partner_B
