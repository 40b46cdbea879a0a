"""Estimates for the page of findings that no hypothesis declares: two estimands of one correlation, and sign reversals.

`measure_both_estimands` separates two questions that one correlation of accuracies mixes: the effects of quality and of
captions' content. Richer captions teach attributes at the cost of the object, so trainings that differ in content trade
one accuracy for the other. Trainings that differ in quality (noise, data, width) are better or worse at both. Pooled,
or with the wrong one held, one relation hides the other, which is Simpson's paradox. `find_sign_reversal` looks for
factors over which an averaged effect changes its sign.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from gapctl.analysis.hypothesis_effects import estimate_hypothesis_effect, is_beyond_smallest_effect
from gapctl.analysis.results import Interval
from gapctl.config.hypotheses import Contrast, Correlation, Equivalence, Hypothesis, Level, Mediation
from gapctl.config.sweep import SweepFile

CONTENT_FACTORS: Final = ("data.captions.attributes", "data.captions.keep")
"""Factors that decide what captions say; all others make a training better or worse at everything."""


class TauEstimate(NamedTuple):
    """Kendall's τ, the mean over seeds, with its interval over seeds."""

    value: float
    ci: Interval
    seeds: int


class Estimands(NamedTuple):
    """The same two metrics with content held, where quality varies, and with quality held, where content varies."""

    content_held: TauEstimate
    quality_held: TauEstimate


def measure_both_estimands(hypothesis: Correlation, trials: pl.DataFrame, spec: SweepFile) -> Estimands | None:
    """Correlate within each content over quality, and within each quality over content; None unless both vary."""
    varied = [path for path, levels in spec.vary.items() if path not in hypothesis.where and len(levels) > 1]
    content = tuple(path for path in varied if path in CONTENT_FACTORS)
    quality = tuple(path for path in varied if path not in CONTENT_FACTORS)
    if not (content and quality):
        return None
    return Estimands(_measure_tau(hypothesis, content, trials, spec), _measure_tau(hypothesis, quality, trials, spec))


def _measure_tau(hypothesis: Correlation, held: tuple[str, ...], trials: pl.DataFrame, spec: SweepFile) -> TauEstimate:
    with np.errstate(all="ignore"):
        found = estimate_hypothesis_effect(hypothesis.model_copy(update={"given": held}), trials, spec).estimate
    return TauEstimate(found.value, found.ci, len(found.effects_S))


MOST_FACTORS: Final = 2
"""Averages over more factors are not split into cells: with more cells, two differ by chance more easily."""


class CellEffect(NamedTuple):
    """The effect where the averaged factors have these levels."""

    levels: Mapping[str, Level]
    estimate: float
    ci: Interval


class SignReversal(NamedTuple):
    """The cells with the lowest and the highest effect, each with its interval beyond the smallest effect."""

    lowest: CellEffect
    highest: CellEffect


def find_sign_reversal(hypothesis: Hypothesis, trials: pl.DataFrame, spec: SweepFile) -> SignReversal | None:
    """Return cells whose effects lie beyond the smallest on both sides of zero, each by its whole interval; else None.

    Only contrasts, equivalences and mediations averaged over one or two factors have cells. Each cell is estimated like
    the hypothesis with the cell's levels in its `where`. Its interval is that of one comparison: there is no correction
    for the number of cells.
    """
    low, high = [], []
    with np.errstate(all="ignore"):
        for levels in _list_averaged_cells(hypothesis, spec):
            narrowed = hypothesis.model_copy(update={"where": {**hypothesis.where, **levels}})
            found = estimate_hypothesis_effect(narrowed, trials, spec).estimate
            cell = CellEffect(levels, found.value, found.ci)
            if is_beyond_smallest_effect(found.ci, hypothesis.smallest_effect, "decreasing", found.rounding):
                low.append(cell)
            if is_beyond_smallest_effect(found.ci, hypothesis.smallest_effect, "increasing", found.rounding):
                high.append(cell)
    if not (low and high):
        return None
    return SignReversal(min(low, key=lambda cell: cell.estimate), max(high, key=lambda cell: cell.estimate))


def _list_averaged_cells(hypothesis: Hypothesis, spec: SweepFile) -> Iterator[dict[str, Level]]:
    """Yield the combinations of levels that the hypothesis averages over."""
    if not isinstance(hypothesis, Contrast | Equivalence | Mediation):
        return
    named = {hypothesis.factor, *hypothesis.where}
    if isinstance(hypothesis, Mediation):
        named.add(hypothesis.mediator)
    averaged = {path: levels for path, levels in spec.vary.items() if path not in named and len(levels) > 1}
    if 1 <= len(averaged) <= MOST_FACTORS:
        for levels in product(*averaged.values()):
            yield dict(zip(averaged, levels, strict=True))
