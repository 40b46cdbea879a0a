"""Pair responses by seed: the mean response of each cell of a comparison, averaged over the other factors.

`collect_paired_responses` is the entry: from a frame of trials to an array (R, S, C) of the seeds that have all cells.
A replicate is a seed, or a pair of seeds where a metric compares two (`Replicates`).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from gapctl.config.arms import Arm
from gapctl.config.hypotheses import Hypothesis, Level, list_hypothesis_metrics
from gapctl.config.metrics import is_seed_pair_metric
from gapctl.plan.plan import Trial


class Replicates(NamedTuple):
    """Each replicate by its first seed, and the number of seeds in `each`."""

    first: range
    each: int = 1

    def of(self, trials: pl.DataFrame) -> pl.DataFrame:
        """Return the trials of whole replicates, with the replicate's first seed as their `seed`."""
        if self.each == 1:
            return trials
        return replace_seeds_by_pair(trials).filter(pl.col("seed").is_in(list(self.first)))


def derive_replicates(hypothesis: Hypothesis, seeds: range) -> Replicates:
    """Return the replicates of a hypothesis; where it needs pairs of seeds, leave out seeds without a partner."""
    if not any(map(is_seed_pair_metric, list_hypothesis_metrics(hypothesis))):
        return Replicates(seeds)
    return Replicates(range(seeds.start + seeds.start % 2, seeds.stop - 1, 2), each=2)


def replace_seeds_by_pair(trials: pl.DataFrame) -> pl.DataFrame:
    """Return the trials with the first seed of their pair as `seed`."""
    return trials.with_columns(pl.col("seed") // 2 * 2)


def get_first_seed_of_pair(seed: int) -> int:
    """Return the first seed of a seed's pair."""
    return seed // 2 * 2


def build_trial_factor_columns(trials: Sequence[Trial], vary: Mapping[str, Sequence[Level]]) -> list[pl.Series]:
    """Return `trial`, `label`, `seed` and a column for each factor, a row for each trial.

    Where recipes are the replicates, `recipe` has their numbers too.
    """
    return [
        pl.Series("trial", [trial.id for trial in trials], pl.String),
        pl.Series("label", [trial.label for trial in trials], pl.String),
        pl.Series("seed", [trial.replicate for trial in trials], pl.Int64),
        *([pl.Series("recipe", [trial.seed for trial in trials], pl.Int64)] if any(map(_has_recipe, trials)) else []),
        *(build_level_column(path, [trial.factors[path] for trial in trials], levels) for path, levels in vary.items()),
    ]


def _has_recipe(trial: Trial) -> bool:
    return bool(trial.recipe)


def get_replicate_noun(trials: pl.DataFrame) -> str:
    """Return what a replicate of these trials is: the column `model` or `recipe` where there is one, else `seed`."""
    return next((noun for noun in ("model", "recipe") if noun in trials.columns), "seed")


def build_level_column(factor: str, values: Sequence[Level], levels: Sequence[Level]) -> pl.Series:
    """Return `values` under the factor's dotted path, in the narrowest type that holds all of the factor's `levels`."""
    dtype = infer_level_type(levels)
    plain = [str(value) for value in values] if dtype == pl.String else values
    return pl.Series(factor, plain, dtype=dtype)


def infer_level_type(levels: Sequence[Level]) -> type[pl.DataType]:
    """Return the type of truth values, whole numbers or numbers, or text where levels are of different kinds."""
    kinds = {type(level) for level in levels}
    if kinds == {bool}:
        return pl.Boolean
    if kinds == {int}:
        return pl.Int64
    return pl.Float64 if kinds <= {int, float} else pl.String


FloatArray = npt.NDArray[np.float64]
"""Shapes are in the names: R responses, S seeds, C cells, L levels, P pairs of arms."""

FactorLevels = Mapping[str, Sequence[Level]]
LARGEST_RESPONSE: Final = 1e100
"""Responses beyond this are left out, so that no sum of squares or cubes overflows."""


class UnusableResponse(NamedTuple):
    """A training whose response is absent (None), not finite, or larger than `LARGEST_RESPONSE`."""

    metric: str
    label: str
    seed: int
    value: float | None


@dataclass(frozen=True)
class PairedResponses:
    """Responses in the cells of a comparison, for the seeds that are complete.

    Each value is averaged over `arms` trainings. `missing` are planned seeds with trainings still to do, `not_finite`
    those with an unusable response; `odd` are these responses, `absent` the metrics that no training recorded. `found`
    of `planned` trainings are done. Where a replicate is a pair of seeds, `each` is 2, and `seeds`, `missing` and
    `not_finite` name the first of a pair. `noun` is what a replicate is: recipes, and the models of a cohort, stand for
    seeds by their numbers.
    """

    seeds: tuple[int, ...]
    values_RSC: FloatArray
    arms: int
    missing: tuple[int, ...]
    not_finite: tuple[int, ...]
    found: int
    planned: int
    odd: tuple[UnusableResponse, ...] = ()
    absent: tuple[str, ...] = ()
    each: int = 1
    noun: str = "seed"

    @property
    def values_SC(self) -> FloatArray:
        """The first response."""
        return np.asarray(self.values_RSC[0])

    @property
    def replicates(self) -> int:
        """The number of planned replicates."""
        cells = int(self.values_RSC.shape[2])
        return self.planned // (self.arms * cells)

    @property
    def trials(self) -> int:
        """The number of trainings behind the values."""
        return self.values_SC.size * self.arms


def collect_paired_responses(
    trials: pl.DataFrame, vary: FactorLevels, replicates: Replicates, cells: Sequence[Arm], responses: Sequence[str]
) -> PairedResponses:
    """Return the responses (R, S, C) of complete replicates.

    A replicate is complete when all its trainings in `cells` are done and have usable responses.
    """
    trials, seeds = replicates.of(trials), replicates.first
    arms = count_arms_per_cell(vary, cells[0]) * replicates.each
    means = compute_cell_means(trials, vary, cells, responses)
    rows = [pl.col(name).sort_by("position").alias(name) for name in responses]
    finite = pl.all_horizontal(pl.col(name).is_finite() for name in responses).all()
    by_seed = means.group_by("seed").agg(pl.col("trainings").sum(), finite.alias("finite"), *rows)
    done = by_seed.filter(pl.col("trainings") == arms * len(cells)).sort("seed")
    whole = done.filter("finite")
    values = np.array([whole[name].to_list() for name in responses], dtype=float)
    not_finite = _subtract_seeds(done["seed"], whole["seed"])
    return PairedResponses(
        seeds=tuple(whole["seed"]),
        values_RSC=values.reshape(len(responses), len(whole), len(cells)),
        arms=arms,
        missing=_subtract_seeds(seeds, done["seed"]),
        not_finite=not_finite,
        found=int(by_seed["trainings"].sum()),
        planned=arms * len(cells) * len(seeds),
        odd=_list_unusable_responses(_place_in_cells(trials, vary, cells), not_finite, responses) if not_finite else (),
        absent=tuple(name for name in responses if name not in trials.columns),
        each=replicates.each,
        noun=get_replicate_noun(trials),
    )


def compute_cell_means(
    trials: pl.DataFrame, vary: FactorLevels, cells: Sequence[Arm], metrics: Sequence[str]
) -> pl.DataFrame:
    """Return a row for each seed and cell: `seed`, `position` in `cells`, `trainings`, and each metric's mean.

    A mean is NaN where a training lacks the metric or its value is unusable.
    """
    rows = _place_in_cells(trials, vary, cells)
    means = [_select_values(trials, metric).mean().alias(metric) for metric in metrics]
    return rows.group_by("seed", "position", maintain_order=True).agg(pl.len().alias("trainings"), *means)


def _place_in_cells(trials: pl.DataFrame, vary: FactorLevels, cells: Sequence[Arm]) -> pl.DataFrame:
    """Return the trainings that a comparison needs, each with the `position` of its cell."""
    factors = list(cells[0])
    columns = [build_level_column(factor, [cell[factor] for cell in cells], vary[factor]) for factor in factors]
    positions = pl.DataFrame([*columns, pl.Series("position", range(len(cells)), pl.Int64)])
    placed = trials.join(positions, on=factors, how="inner") if factors else trials.join(positions, how="cross")
    # Sums of floats depend on their order, and a verdict must not depend on the order of a ledger.
    return placed.sort("seed", "position", "trial")


def _list_unusable_responses(
    rows: pl.DataFrame, seeds: Sequence[int], metrics: Sequence[str]
) -> tuple[UnusableResponse, ...]:
    """List the unusable responses of these seeds, for metrics that some training recorded."""
    known = [metric for metric in metrics if metric in rows.columns]
    return tuple(
        UnusableResponse(metric, *row)
        for metric in known
        for row in rows.filter(pl.col("seed").is_in(seeds) & ~build_usable_response_filter(pl.col(metric)))
        .sort("seed", "position", "label")
        .select("label", "seed", metric)
        .iter_rows()
    )


def build_usable_response_filter(value: pl.Expr) -> pl.Expr:
    """Return whether a response is there, finite, and at most `LARGEST_RESPONSE` in size."""
    return (value.is_finite() & (value.abs() <= LARGEST_RESPONSE)).fill_null(False)


def count_arms_per_cell(vary: FactorLevels, cell: Arm) -> int:
    """Count the trainings of one seed in a cell: the combinations of the factors that the cell does not name."""
    return math.prod(len(levels) for path, levels in vary.items() if path not in cell)


def _select_values(trials: pl.DataFrame, metric: str) -> pl.Expr:
    if metric not in trials.columns:
        return pl.lit(math.nan)
    return pl.when(build_usable_response_filter(pl.col(metric))).then(pl.col(metric)).otherwise(math.nan)


def _subtract_seeds(seeds: Iterable[int], others: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(seeds) - set(others)))
