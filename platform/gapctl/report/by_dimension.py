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
"""Dimensions of trainings that a page draws; beyond, it draws the mean of each level, and says so."""
FIRST_RANKS: Final = 64
VALUES: Final = ("squared", "carried")


class Profiles(NamedTuple):
    """A row per dimension of a training, and what the caption must say of the lines."""

    rows: pl.DataFrame
    lines: str


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
    words = f"{caption} Colour: {factor.words}. {profiles.lines}"
    return figure(f"dimensions-{shown}", title, words, chart, look)


def _profiles(analysis: Analysis, factor: Factor, dimensions: pl.DataFrame) -> Profiles:
    trials = analysis.trials.select("trial", "label", "seed", factor.path)
    ranked = _ranked(dimensions).join(trials, on="trial", maintain_order="right")
    lacking = analysis.trials.filter(~pl.col("trial").is_in(ranked["trial"].unique()))
    missing = f"Not kept by {listed(list(lacking['label']))}." if len(lacking) else ""
    levels = pl.Series("series", [factor.text(level) for level in ranked[factor.path]], pl.String)
    known = ranked.with_columns(levels).select("rank", "dimension", *VALUES, "trial", "label", "seed", "series")
    if len(known) <= MOST_ROWS:
        return Profiles(known, f"One line per training. {missing}".strip())
    return Profiles(_by_level(known), f"One line per level, the mean of its trainings. {missing}".strip())


def _ranked(dimensions: pl.DataFrame) -> pl.DataFrame:
    """Every dimension's squared difference, its rank within its training, and what is carried up to it."""
    squared = dimensions.with_columns(squared=(pl.col("image_mean") - pl.col("text_mean")) ** 2)
    return squared.sort("trial", "squared", descending=[False, True], maintain_order=True).with_columns(
        rank=pl.int_range(1, pl.len() + 1).over("trial"),
        carried=(pl.col("squared").cum_sum() / pl.col("squared").sum()).over("trial"),
    )


def _by_level(known: pl.DataFrame) -> pl.DataFrame:
    """The mean over the trainings of a level, at ranks that a line needs: the first, every few, the last."""
    step = max(1, int(known["rank"].max() or 1) // FIRST_RANKS)  # type: ignore[arg-type]
    rank = pl.col("rank")
    needed = known.filter((rank <= FIRST_RANKS) | (rank % step == 0) | (rank == rank.max()))
    means = needed.group_by("series", "rank", maintain_order=True).agg(*(pl.col(name).mean() for name in VALUES))
    unknown = {"dimension": pl.Int64, "trial": pl.String, "seed": pl.Int64}
    nothing = [pl.lit(None, dtype).alias(name) for name, dtype in unknown.items()]
    return means.with_columns(*nothing, label=pl.col("series")).select(known.columns)
