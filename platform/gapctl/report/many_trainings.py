"""What a page shows of a sweep with more trainings than it can show one by one.

Up to `MOST_TRAININGS` finished trainings each has its mark, its line and its row. Beyond:

1. `choose_even_ranks` picks the trainings that a chart draws: of each of its groups some, at even ranks by value.
2. `summarise_arms` has a row for each arm in place of a row for each training.
3. `select_drawn_pages` leaves out the addresses of runs that the page does not show.
4. `choose_profiled_trials` picks the trainings whose mean embeddings are read, and `figures.add_drawn_histories` those
   whose histories are: files that a page does not draw are not asked for, of which a bucket would count each.

Means, intervals, correlations and verdicts are of all trainings in any case.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import polars as pl

from gapctl.analysis.results import AnalysisResults
from gapctl.ledger import Result
from gapctl.plan.plan import Plan
from gapctl.report.html import RunPages
from gapctl_charts.figure import Figure

MOST_TRAININGS: Final = 1_000
"""The most finished trainings that a page shows one by one."""
MOST_MARKS: Final = 1_000
MARKS_EACH: Final = 21
"""Marks of a group of trainings: the lowest, the highest, and every 5 % between them."""
GAP_LENGTH: Final = "gap/l2m"
"""By whose ranks trainings are chosen of which the gap's dimensions are shown: it is the length of their vector."""
MOST_LINES: Final = 120
LINES_EACH: Final = 3
MOST_EVALUATIONS: Final = 20_000
"""The most evaluations that a chart of training paths has where it draws every training."""


class ArmTable(NamedTuple):
    """Rows of arms with `arm`, `trainings`, the mean of each metric and of `seconds`; `left_out` arms have no row."""

    rows: Sequence[Mapping[str, Any]]
    left_out: int


def has_too_many_histories(plan: Plan) -> bool:
    """Return whether a page of this plan reads the histories that it draws alone."""
    return len(plan.trials) > MOST_TRAININGS


def choose_profiled_trials(plan: Plan, results: Sequence[Result]) -> list[str]:
    """Return the trainings whose mean embeddings a page shows: all, or of each level some at even ranks by the gap.

    Levels are those of the first factor, by which the figure has its colours.
    """
    if len(results) <= MOST_TRAININGS:
        return [result.trial for result in results]
    factors = {trial.id: trial.factors for trial in plan.trials}
    first = next(iter(plan.sweep.spec.vary), None)
    levels = ["" if first is None else str(factors[result.trial][first]) for result in results]
    gaps = [result.metrics.get(GAP_LENGTH) for result in results]
    ids = [result.trial for result in results]
    rows = pl.DataFrame({"trial": ids, "level": levels, "gap": pl.Series(gaps, dtype=pl.Float64)})
    known = rows.filter(pl.col("gap").is_finite())
    return choose_even_ranks(known, ["level"], "gap", each=MARKS_EACH, most=MOST_MARKS)["trial"].to_list()


def has_many_trainings(analysis: AnalysisResults) -> bool:
    """Return whether the sweep has more finished trainings than a page shows one by one."""
    return len(analysis.trials) > MOST_TRAININGS


def choose_even_ranks(rows: pl.DataFrame, groups: Sequence[str], value: str, *, each: int, most: int) -> pl.DataFrame:
    """Return the rows at even ranks by `value` within each group, its lowest and highest among them, in their order.

    A group has `each` of them, or fewer where there are so many groups that all would be more than `most`; but at least
    the one in the middle.
    """
    if rows.is_empty():
        return rows
    count = max(1, min(each, most // rows.n_unique(subset=list(groups))))
    rank = (pl.col(value).rank("ordinal").cast(pl.Int64) - 1).over(groups)
    last = (pl.len().cast(pl.Int64) - 1).over(groups)
    if count == 1:
        return rows.filter(rank == last // 2)
    steps = count - 1
    return rows.filter((rank == 0) | (rank * steps // last > (rank - 1) * steps // last))


def summarise_arms(analysis: AnalysisResults, metrics: Sequence[str]) -> ArmTable:
    """Return the means of the first `MOST_TRAININGS` arms, in the plan's order, over trainings that have the number."""
    noun = analysis.replicate_noun
    replicate = pl.format(f"{noun}={{}}", pl.col(noun))
    arm = pl.col("label").str.strip_suffix(replicate).str.strip_chars_end()
    means = [pl.col(name).cast(pl.Float64).fill_nan(None).mean() for name in (*metrics, "seconds")]
    arms = analysis.trials.group_by(arm.alias("arm"), maintain_order=True).agg(pl.len().alias("trainings"), *means)
    return ArmTable(arms.head(MOST_TRAININGS).to_dicts(), max(0, len(arms) - MOST_TRAININGS))


def select_drawn_pages(pages: RunPages | None, figures: Sequence[Figure]) -> RunPages | None:
    """Return the addresses of the trainings that have a mark or a line in a figure."""
    if pages is None:
        return None
    rows = (row for figure in figures for table in figure.spec["datasets"].values() for row in table)
    drawn = {row["trial"] for row in rows if row.get("trial")}
    return pages._replace(pages={trial: page for trial, page in pages.pages.items() if trial in drawn})
