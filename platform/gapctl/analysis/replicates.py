"""What is replicated: the seed, or a pair of seeds where a metric compares one seed's training with another's.

Seed 2k is compared with seed 2k + 1 and with no other, so that no two pairs share a training.
"""

from typing import NamedTuple

import polars as pl

from gapctl.spec.hypotheses import Hypothesis, named_by
from gapctl.spec.vocabulary import is_of_seed_pairs


class Replicates(NamedTuple):
    """Each replicate by its first seed, and how many seeds are `each`."""

    first: range
    each: int = 1

    def of(self, trials: pl.DataFrame) -> pl.DataFrame:
        """The trials of whole replicates, with the replicate's first seed as their `seed`."""
        if self.each == 1:
            return trials
        return in_pairs(trials).filter(pl.col("seed").is_in(list(self.first)))


def replicates_of(hypothesis: Hypothesis, seeds: range) -> Replicates:
    """Of a sweep with these seeds; one that finds no partner among them is left out."""
    if not any(map(is_of_seed_pairs, named_by(hypothesis))):
        return Replicates(seeds)
    return Replicates(range(seeds.start + seeds.start % 2, seeds.stop - 1, 2), each=2)


def in_pairs(trials: pl.DataFrame) -> pl.DataFrame:
    """The trials with the first seed of their pair as `seed`."""
    return trials.with_columns(pl.col("seed") // 2 * 2)


def pair_of(seed: int) -> int:
    """The first seed of a seed's pair."""
    return seed // 2 * 2
