"""Responses paired by seed: what every cell of a comparison gave in a seed, other factors averaged away."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from gapctl.analysis.levels import level_column
from gapctl.spec.arms import Arm
from gapctl.spec.sweep import Level

FloatArray = npt.NDArray[np.float64]
"""Shapes are in the names: R responses, S seeds, C cells, L levels, P pairs of arms."""

Vary = Mapping[str, Sequence[Level]]


@dataclass(frozen=True)
class Paired:
    """Responses in the cells of a comparison, of the seeds that have all of it.

    Each value is averaged over `arms` trainings. `missing` are planned seeds with trainings still to do, `not_finite`
    those with a response that is no finite number; `odd` are these responses, `absent` those that no training
    recorded. `found` of `planned` trainings are done.
    """

    seeds: tuple[int, ...]
    values_RSC: FloatArray
    arms: int
    missing: tuple[int, ...]
    not_finite: tuple[int, ...]
    found: int
    planned: int
    odd: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    @property
    def values_SC(self) -> FloatArray:
        """The first response."""
        return np.asarray(self.values_RSC[0])

    @property
    def trials(self) -> int:
        """How many trainings the values are of."""
        return self.values_SC.size * self.arms


def paired(trials: pl.DataFrame, vary: Vary, seeds: range, cells: Sequence[Arm], responses: Sequence[str]) -> Paired:
    """A seed counts only when all its trainings in `cells` are done and have finite responses."""
    arms = arms_per_cell(vary, cells[0])
    means = cell_means(trials, vary, cells, responses)
    rows = [pl.col(name).sort_by("position").alias(name) for name in responses]
    finite = pl.all_horizontal(pl.col(name).is_finite() for name in responses).all()
    by_seed = means.group_by("seed").agg(pl.col("trainings").sum(), finite.alias("finite"), *rows)
    done = by_seed.filter(pl.col("trainings") == arms * len(cells)).sort("seed")
    whole = done.filter("finite")
    values = np.array([whole[name].to_list() for name in responses], dtype=float)
    return Paired(
        seeds=tuple(whole["seed"]),
        values_RSC=values.reshape(len(responses), len(whole), len(cells)),
        arms=arms,
        missing=_without(seeds, done["seed"]),
        not_finite=_without(done["seed"], whole["seed"]),
        found=int(by_seed["trainings"].sum()),
        planned=arms * len(cells) * len(seeds),
        odd=tuple(name for name in responses if not means[name].is_finite().all()),
        absent=tuple(name for name in responses if name not in trials.columns),
    )


def cell_means(trials: pl.DataFrame, vary: Vary, cells: Sequence[Arm], metrics: Sequence[str]) -> pl.DataFrame:
    """A row per seed and cell: `seed`, `position` in `cells`, `trainings`, and each metric's mean.

    A mean is NaN where a training lacks the metric or has no number for it.
    """
    factors = list(cells[0])
    columns = [level_column(factor, [cell[factor] for cell in cells], vary[factor]) for factor in factors]
    positions = pl.DataFrame([*columns, pl.Series("position", range(len(cells)), pl.Int64)])
    # Sums of floats depend on their order, and a verdict must not depend on that of a ledger.
    rows = trials.join(positions, on=factors, how="inner").sort("seed", "position", "trial")
    means = [_values(trials, metric).mean().alias(metric) for metric in metrics]
    return rows.group_by("seed", "position", maintain_order=True).agg(pl.len().alias("trainings"), *means)


def arms_per_cell(vary: Vary, cell: Arm) -> int:
    """How many trainings of one seed share a cell: the combinations of the factors that it does not name."""
    return math.prod(len(levels) for path, levels in vary.items() if path not in cell)


def _values(trials: pl.DataFrame, metric: str) -> pl.Expr:
    return pl.col(metric).fill_null(math.nan) if metric in trials.columns else pl.lit(math.nan)


def _without(seeds: Iterable[int], others: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(seeds) - set(others)))
