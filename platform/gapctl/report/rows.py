"""What charts draw, as frames: single seeds, means with their intervals, training paths."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import polars as pl

from gapctl.analysis.results import Analysis
from gapctl_charts.factor import Factor

Row = dict[str, Any]


class Series(NamedTuple):
    """One metric of a chart, and what the legend calls it."""

    metric: str
    name: str


def seed_rows(analysis: Analysis, series: Sequence[Series], factor: Factor, other: Factor | None) -> pl.DataFrame:
    """A row per trial and metric; its series is the metric's name, or the level of the other factor."""
    return frame(
        {
            "place": factor.place(row[factor.path]),
            "level": factor.text(row[factor.path]),
            "value": row[metric],
            "series": name if other is None else other.text(row[other.path]),
            **identity(row),
        }
        for metric, name in series
        for row in measured(analysis.trials, metric)
    )


def mean_rows(analysis: Analysis, series: Sequence[Series], factor: Factor) -> pl.DataFrame:
    """A row per level and metric: the mean over seeds and other factors, and its interval where there is one."""
    curves = analysis.curves.filter(pl.col("factor") == factor.path).sort("position")
    return frame(
        {
            "place": factor.place(row["level"]),
            "level": factor.text(row["level"]),
            "value": row["mean"],
            "low": finite(row["low"]),
            "high": finite(row["high"]),
            "seeds": row["seeds"],
            "series": name,
        }
        for metric, name in series
        for row in curves.filter(pl.col("metric") == metric).iter_rows(named=True)
        if finite(row["mean"]) is not None
    )


def arm_rows(analysis: Analysis, metric: str, factor: Factor, other: Factor) -> pl.DataFrame:
    """A row per pair of levels: the plain mean over the trials that have both."""
    arms = (
        frame(measured(analysis.trials, metric))
        .group_by(factor.path, other.path, maintain_order=True)
        .agg(pl.col(metric).mean(), pl.len().alias("trainings"))
    )
    return frame(
        {
            "place": factor.place(row[factor.path]),
            "level": factor.text(row[factor.path]),
            "value": row[metric],
            "series": other.text(row[other.path]),
            "trainings": row["trainings"],
        }
        for row in arms.iter_rows(named=True)
    )


def path_rows(analysis: Analysis, metric: str, factor: Factor, other: Factor | None) -> pl.DataFrame:
    """A row per evaluation; `dashes` is the other factor's level."""
    return frame(
        {
            "samples": row["samples_seen"],
            "value": row[metric],
            "series": factor.text(row[factor.path]),
            "dashes": "" if other is None else other.text(row[other.path]),
            **identity(row),
        }
        for row in measured(analysis.history, metric)
    )


def has_metric(table: pl.DataFrame, metric: str) -> bool:
    """Whether any row has a number for it."""
    return bool(measured(table, metric))


def finite(value: float | None) -> float | None:
    """The number, or None for what is no number."""
    return value if value is not None and math.isfinite(value) else None


def measured(table: pl.DataFrame, *metrics: str) -> list[Row]:
    """The rows that have numbers for all of the metrics."""
    if not set(metrics) <= set(table.columns):
        return []
    numbers = [pl.col(metric).cast(pl.Float64) for metric in metrics]
    return table.with_columns(numbers).filter(pl.all_horizontal(pl.col(metrics).is_finite())).to_dicts()


def identity(row: Row) -> Row:
    """Which training a row is of."""
    return {"trial": row["trial"], "label": row["label"], "seed": row["seed"]}


def frame(rows: Iterable[Row]) -> pl.DataFrame:
    """Rows as a frame whose types every row decides."""
    return pl.DataFrame(list(rows), infer_schema_length=None)
