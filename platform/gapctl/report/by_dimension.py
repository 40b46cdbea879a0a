"""The gap by dimension: sorted squared mean differences of every training, and what share the largest carry."""

from typing import Final, NamedTuple

import polars as pl

from gapctl.analysis.results import Analysis
from gapctl.report.words import listed
from gapctl_charts.dimension_profile import Shown, profile_chart
from gapctl_charts.factor import Factor
from gapctl_charts.figure import Figure, figure
from gapctl_charts.look import Look

MOST_ROWS: Final = 6_000
"""Dimensions of trainings that a page draws; beyond, it draws one seed only, and says so."""


class Profiles(NamedTuple):
    """A row per dimension of a training, and what the caption must say of trainings that are not drawn."""

    rows: pl.DataFrame
    left_out: str


def dimension_figures(analysis: Analysis, factor: Factor, dimensions: pl.DataFrame, look: Look) -> list[Figure]:
    """Both figures, or none where no trial kept its mean embeddings."""
    if dimensions.is_empty() or analysis.trials.is_empty():
        return []
    profiles = _profiles(analysis, factor, dimensions)
    squared = "The squared difference of the modality means in each dimension, largest first; their sum is L2M squared."
    carried = "The share of it that the largest dimensions carry together; dashed: if all carried the same."
    return [
        _figure(profiles, "squared", "Gap by dimension", "Squared mean difference", squared, factor, look),
        _figure(profiles, "carried", "Share the largest dimensions carry", "Share carried", carried, factor, look),
    ]


def _figure(
    profiles: Profiles, shown: Shown, title: str, axis: str, caption: str, factor: Factor, look: Look
) -> Figure:
    chart = profile_chart(profiles.rows, shown, axis, factor, look)
    words = f"{caption} One line per training; colour: {factor.words}. {profiles.left_out}".strip()
    return figure(f"dimensions-{shown}", title, words, chart, look)


def _profiles(analysis: Analysis, factor: Factor, dimensions: pl.DataFrame) -> Profiles:
    trials = analysis.trials.select("trial", "label", "seed", factor.path)
    sorted_ = (
        dimensions.with_columns(squared=(pl.col("image_mean") - pl.col("text_mean")) ** 2)
        .sort("trial", "squared", descending=[False, True])
        .with_columns(
            rank=pl.int_range(1, pl.len() + 1).over("trial"),
            carried=(pl.col("squared").cum_sum() / pl.col("squared").sum()).over("trial"),
        )
        .join(trials, on="trial", maintain_order="right")
    )
    drawn = sorted_ if len(sorted_) <= MOST_ROWS else sorted_.filter(pl.col("seed") == pl.col("seed").min())
    levels = pl.Series("series", [factor.text(level) for level in drawn[factor.path]], pl.String)
    columns = ("rank", "dimension", "squared", "carried", "trial", "label", "seed", "series")
    return Profiles(drawn.with_columns(levels).select(columns), _left_out(analysis, sorted_, drawn))


def _left_out(analysis: Analysis, known: pl.DataFrame, drawn: pl.DataFrame) -> str:
    lacking = analysis.trials.filter(~pl.col("trial").is_in(known["trial"].unique()))
    parts = [f"Not kept by {listed(list(lacking['label']))}."] if len(lacking) else []
    if len(drawn) < len(known):
        parts.append(f"Drawn: seed {drawn['seed'][0]} alone, of {known['seed'].n_unique()}.")
    return " ".join(parts)
