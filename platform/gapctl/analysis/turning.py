"""Whether an effect that is averaged over factors has one sign at some of their levels and the other at others."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from gapctl.analysis.measured import measure
from gapctl.analysis.results import Interval
from gapctl.analysis.rule import beyond
from gapctl.spec.hypotheses import Contrast, Equivalence, Hypothesis, Mediation
from gapctl.spec.sweep import Level, SweepFile

MOST_FACTORS: Final = 2
"""Averages over more factors are not taken apart: with the cells grows the chance that two differ by chance."""


class Cell(NamedTuple):
    """The effect where the factors that are averaged over have these levels."""

    levels: Mapping[str, Level]
    estimate: float
    ci: Interval


class Turning(NamedTuple):
    """The cells of the lowest and of the highest effect; each one's interval lies beyond the smallest effect."""

    lowest: Cell
    highest: Cell


def turning(hypothesis: Hypothesis, trials: pl.DataFrame, spec: SweepFile) -> Turning | None:
    """Where the effect lies beyond the smallest on both sides of zero, each by its whole interval; else None.

    Of contrasts, equivalences and mediations that are averaged over one factor or two. Each cell is estimated as the
    hypothesis would be with the cell's levels in its `where`, with the interval of one comparison: the cells are not
    corrected for how many there are.
    """
    low, high = [], []
    with np.errstate(all="ignore"):
        for levels in _cells(hypothesis, spec):
            narrowed = hypothesis.model_copy(update={"where": {**hypothesis.where, **levels}})
            found = measure(narrowed, trials, spec).estimate
            cell = Cell(levels, found.value, found.ci)
            if beyond(found.ci, hypothesis.smallest_effect, "decreasing", found.rounding):
                low.append(cell)
            if beyond(found.ci, hypothesis.smallest_effect, "increasing", found.rounding):
                high.append(cell)
    if not (low and high):
        return None
    return Turning(min(low, key=lambda cell: cell.estimate), max(high, key=lambda cell: cell.estimate))


def _cells(hypothesis: Hypothesis, spec: SweepFile) -> Iterator[dict[str, Level]]:
    """The combinations of levels that the hypothesis averages over."""
    if not isinstance(hypothesis, Contrast | Equivalence | Mediation):
        return
    named = {hypothesis.factor, *hypothesis.where}
    if isinstance(hypothesis, Mediation):
        named.add(hypothesis.mediator)
    averaged = {path: levels for path, levels in spec.vary.items() if path not in named and len(levels) > 1}
    if 1 <= len(averaged) <= MOST_FACTORS:
        for levels in product(*averaged.values()):
            yield dict(zip(averaged, levels, strict=True))
