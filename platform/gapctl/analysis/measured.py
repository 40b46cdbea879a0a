"""A hypothesis with the responses that bear on it and what its test makes of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from gapctl.analysis.at_level import at_level
from gapctl.analysis.contrast import contrast
from gapctl.analysis.correlation import Correlated, correlation
from gapctl.analysis.effect_test import Direction
from gapctl.analysis.estimate import Estimate
from gapctl.analysis.levels import level_column
from gapctl.analysis.mediation import Mediated, mediation
from gapctl.analysis.paired import Paired, paired
from gapctl.analysis.replicates import replicates_of
from gapctl.analysis.trend import trend
from gapctl.spec.arms import Arm, arm_grid, arms_left
from gapctl.spec.hypotheses import AtLevel, Contrast, Correlation, Equivalence, Hypothesis, Mediation, Trend, named_by
from gapctl.spec.sweep import Level, SweepFile


@dataclass(frozen=True)
class Measured:
    """`cells` are what is compared, `estimate` the effect; `correlated` and `mediated` what only these tests have."""

    hypothesis: Hypothesis
    cells: tuple[Arm, ...]
    responses: Paired
    estimate: Estimate
    correlated: Correlated | None = None
    mediated: Mediated | None = None

    @property
    def direction(self) -> Direction:
        """Where the effect is claimed."""
        return direction_of(self.hypothesis)

    @property
    def complete(self) -> bool:
        """Whether every planned seed counts."""
        return len(self.estimate.effects_S) == self.responses.replicates

    @property
    def trials(self) -> int:
        """How many trainings the estimate rests on."""
        return len(self.estimate.effects_S) * len(self.cells) * self.responses.arms


def measure(hypothesis: Hypothesis, trials: pl.DataFrame, spec: SweepFile) -> Measured:
    """Pairs the responses by seed, or by pair of seeds, and estimates the effect."""
    cells = cells_of(hypothesis, spec)
    vary = {path: [hypothesis.where[path]] if path in hypothesis.where else spec.vary[path] for path in spec.vary}
    names = [name for name in named_by(hypothesis) if name not in spec.vary]
    # A level's column has the type that all of the factor's levels share, whatever `where` leaves of them.
    kept = _at(trials, spec, hypothesis.where)
    responses = paired(kept, vary, replicates_of(hypothesis, spec.replicates), cells, names)
    return _tested(hypothesis, cells, responses, spec)


def cells_of(hypothesis: Hypothesis, spec: SweepFile) -> tuple[Arm, ...]:
    """What a hypothesis compares: levels of its factor, both by both of a mediation, or whole arms.

    A level's one cell holds all trainings.
    """
    if isinstance(hypothesis, AtLevel):
        return ({},)
    if isinstance(hypothesis, Correlation):
        return tuple(arms_left(spec.vary, hypothesis.where))
    if isinstance(hypothesis, Mediation):
        sides = (hypothesis.free, hypothesis.fixed)
        pairs = [(level, side) for side in sides for level in hypothesis.between]
        return tuple({hypothesis.factor: level, hypothesis.mediator: side} for level, side in pairs)
    levels = _ordered(hypothesis, spec) if isinstance(hypothesis, Trend) else list(hypothesis.between)
    return tuple({hypothesis.factor: level} for level in levels)


def direction_of(hypothesis: Hypothesis) -> Direction:
    """The declared direction; an equivalence claims neither."""
    return "neither" if isinstance(hypothesis, Equivalence) else hypothesis.direction


def _tested(hypothesis: Hypothesis, cells: tuple[Arm, ...], responses: Paired, spec: SweepFile) -> Measured:
    smallest, alpha = hypothesis.smallest_effect, spec.alpha
    direction = direction_of(hypothesis)
    if isinstance(hypothesis, Correlation):
        grid = arm_grid(spec.vary, hypothesis.where, hypothesis.given)
        related = correlation(responses, grid, direction, smallest, alpha)
        return Measured(hypothesis, cells, responses, related.estimate, correlated=related)
    if isinstance(hypothesis, Mediation):
        carried = mediation(responses, direction, smallest, alpha)
        return Measured(hypothesis, cells, responses, carried.through, mediated=carried)
    if isinstance(hypothesis, AtLevel):
        return Measured(hypothesis, cells, responses, at_level(responses, hypothesis.value, direction, smallest, alpha))
    if isinstance(hypothesis, Contrast | Equivalence):
        return Measured(hypothesis, cells, responses, contrast(responses, direction, smallest, alpha))
    levels = [float(level) for level in _ordered(hypothesis, spec)]
    return Measured(hypothesis, cells, responses, trend(responses, levels, hypothesis.direction, smallest, alpha))


def _ordered(hypothesis: Trend, spec: SweepFile) -> Sequence[Level]:
    return sorted(spec.vary[hypothesis.factor], key=float)


def _at(trials: pl.DataFrame, spec: SweepFile, where: Arm) -> pl.DataFrame:
    for path, level in where.items():
        trials = trials.filter(pl.col(path) == level_column(path, [level], spec.vary[path])[0])
    return trials
