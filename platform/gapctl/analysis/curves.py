"""Dose-response curves: every metric at every level of every factor, with an interval over seeds."""

import math
from collections.abc import Sequence

import polars as pl

from gapctl.analysis.interval import half_width
from gapctl.analysis.paired import FloatArray, Vary, arms_per_cell, cell_means
from gapctl.analysis.replicates import in_pairs
from gapctl.analysis.table import metrics_of
from gapctl.spec.sweep import Level
from gapctl.spec.vocabulary import is_of_seed_pairs

SCHEMA = {
    "factor": pl.String,
    "level": pl.String,
    "position": pl.Int64,
    "metric": pl.String,
    "mean": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "seeds": pl.Int64,
}


def curves(trials: pl.DataFrame, vary: Vary, alpha: float) -> pl.DataFrame:
    """The long frame that `results.Analysis` describes; a level without a complete seed has no row.

    A seed is complete at a level when its trainings with all combinations of the other factors are done. Of a metric
    that compares two seeds, pairs of them are what is counted.
    """
    known = metrics_of(trials, list(vary))
    alone = [name for name in known if not is_of_seed_pairs(name)]
    paired = [name for name in known if is_of_seed_pairs(name)]
    parts = [
        _curve(rows, vary, factor, levels, metrics, each, alpha)
        for rows, metrics, each in ((trials, alone, 1), (in_pairs(trials), paired, 2))
        for factor, levels in vary.items()
        if metrics
    ]
    return pl.concat([pl.DataFrame(schema=SCHEMA), *parts])


def _curve(
    trials: pl.DataFrame,
    vary: Vary,
    factor: str,
    levels: Sequence[Level],
    metrics: Sequence[str],
    each: int,
    alpha: float,
) -> pl.DataFrame:
    cells = [{factor: level} for level in levels]
    trainings = arms_per_cell(vary, cells[0]) * each
    complete = cell_means(trials, vary, cells, metrics).filter(pl.col("trainings") == trainings)
    by_seed = complete.unpivot(metrics, index=["seed", "position"], variable_name="metric", value_name="value")
    found = (
        by_seed.filter(pl.col("value").is_finite())
        .group_by("position", "metric", maintain_order=True)
        .agg(mean=pl.col("value").mean(), spread=pl.col("value").std(), seeds=pl.len().cast(pl.Int64))
        .sort("metric", "position")
    )
    half = pl.Series("half", _half_widths(found, alpha), pl.Float64).fill_nan(None)
    names = pl.Series("level", [str(levels[position]) for position in found["position"]], pl.String)
    return found.with_columns(
        pl.lit(factor).alias("factor"), names, low=pl.col("mean") - half, high=pl.col("mean") + half
    ).select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())


def _half_widths(found: pl.DataFrame, alpha: float) -> FloatArray:
    spread = found["spread"].fill_null(math.nan).to_numpy()
    return half_width(spread, found["seeds"].to_numpy(), alpha)
