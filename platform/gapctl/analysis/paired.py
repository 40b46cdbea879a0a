"""Responses paired by seed: what every arm of a seed gave, other factors averaged away."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from gapctl.analysis.levels import level_column
from gapctl.spec.sweep import Level

FloatArray = npt.NDArray[np.float64]
"""Shapes are in the names: S seeds, L levels."""

Vary = Mapping[str, Sequence[Level]]


@dataclass(frozen=True)
class Paired:
    """One response at some levels of a factor, of the seeds that have all of it.

    `values_SL` is averaged over `arms` trainings in each cell. `missing` are planned seeds with trainings still to
    do, `not_finite` those whose response is no number; `found` of `planned` trainings are done.
    """

    seeds: tuple[int, ...]
    values_SL: FloatArray
    arms: int
    missing: tuple[int, ...]
    not_finite: tuple[int, ...]
    found: int
    planned: int

    @property
    def trials(self) -> int:
        """How many trainings the values are of."""
        return self.values_SL.size * self.arms


def paired(trials: pl.DataFrame, vary: Vary, seeds: int, factor: str, levels: Sequence[Level], response: str) -> Paired:
    """A seed counts only when all its trainings at `levels` are done and have a finite response."""
    arms = arms_per_level(vary, factor)
    cells = level_means(trials, vary, factor, levels, [response])
    by_seed = cells.group_by("seed").agg(
        pl.col("trainings").sum(), pl.col(response).is_finite().all(), pl.col(response).sort_by("position").alias("row")
    )
    done = by_seed.filter(pl.col("trainings") == arms * len(levels)).sort("seed")
    whole = done.filter(pl.col(response))
    return Paired(
        seeds=tuple(whole["seed"]),
        values_SL=np.array(whole["row"].to_list(), dtype=float).reshape(len(whole), len(levels)),
        arms=arms,
        missing=_without(range(seeds), done["seed"]),
        not_finite=_without(done["seed"], whole["seed"]),
        found=int(by_seed["trainings"].sum()),
        planned=arms * len(levels) * seeds,
    )


def level_means(
    trials: pl.DataFrame, vary: Vary, factor: str, levels: Sequence[Level], metrics: Sequence[str]
) -> pl.DataFrame:
    """A row per seed and level: `seed`, `position` in `levels`, `trainings`, and each metric's mean.

    A mean is NaN where a training lacks the metric or has no number for it.
    """
    column = level_column(factor, levels, vary[factor])
    positions = pl.DataFrame([column, pl.Series("position", range(len(levels)), pl.Int64)])
    # Sums of floats depend on their order, and a verdict must not depend on that of a ledger.
    rows = trials.join(positions, on=factor, how="inner").sort("seed", "position", "trial")
    means = [_values(trials, metric).mean().alias(metric) for metric in metrics]
    return rows.group_by("seed", "position", maintain_order=True).agg(pl.len().alias("trainings"), *means)


def arms_per_level(vary: Vary, factor: str) -> int:
    """How many trainings of one seed share a level: the combinations of the other factors."""
    return math.prod(len(levels) for path, levels in vary.items() if path != factor)


def _values(trials: pl.DataFrame, metric: str) -> pl.Expr:
    return pl.col(metric).fill_null(math.nan) if metric in trials.columns else pl.lit(math.nan)


def _without(seeds: Iterable[int], others: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(seeds) - set(others)))
