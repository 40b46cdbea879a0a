"""Measure a hypothesis: pair its responses, estimate its effect, and judge the interval.

1. `estimate_hypothesis_effect` lists the cells that a hypothesis compares, pairs their responses by seed and calls its
  test. A
   correlation with a `scope` is of a cohort of models: `estimate_cohort_hypothesis_effect`.
2. `judge_interval` is the decision rule: an interval beyond the smallest effect supports, one short of it refutes.
3. `apply_holm` corrects the p-values of a file, and `estimate_seeds_needed` extrapolates an open verdict.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy import stats

from gapctl.analysis.cohort import LABEL, CohortEstimate, estimate_cohort_correlation
from gapctl.analysis.correlation import CorrelationEstimate, estimate_correlation
from gapctl.analysis.estimates import (
    Direction,
    EffectEstimate,
    MediationEstimate,
    compute_half_width,
    count_sides,
    estimate_contrast,
    estimate_difference_from_threshold,
    estimate_mediation,
    estimate_trend,
    is_significant,
    subtract_rounding_tolerance,
)
from gapctl.analysis.paired_responses import (
    FloatArray,
    PairedResponses,
    build_level_column,
    collect_paired_responses,
    derive_replicates,
)
from gapctl.analysis.prediction import PredictionEstimate, estimate_prediction
from gapctl.analysis.results import Interval, Outcome, RefutationKind
from gapctl.analysis.tables import select_finished_models
from gapctl.config.arms import Arm, build_correlation_arm_grid, list_cells, select_arms, sort_trend_levels
from gapctl.config.cohort import select_members
from gapctl.config.hypotheses import (
    Contrast,
    Correlation,
    Equivalence,
    Hypothesis,
    Mediation,
    Prediction,
    Threshold,
    list_hypothesis_metrics,
)
from gapctl.config.sweep import SweepFile


@dataclass(frozen=True)
class HypothesisResult:
    """A hypothesis with its responses and its effect; `cells` are what it compares.

    `correlated`, `mediated` and `predicted` are set for correlations, mediations and predictions only, and `cohort` for
    correlations over models.
    """

    hypothesis: Hypothesis
    cells: tuple[Arm, ...]
    responses: PairedResponses
    estimate: EffectEstimate
    correlated: CorrelationEstimate | None = None
    mediated: MediationEstimate | None = None
    cohort: CohortEstimate | None = None
    predicted: PredictionEstimate | None = None

    @property
    def direction(self) -> Direction:
        """Where the effect is claimed."""
        return get_direction(self.hypothesis)

    @property
    def complete(self) -> bool:
        """Whether every planned replicate counts."""
        if self.cohort is not None:
            return not self.cohort.summary.left_out
        if self.predicted is not None:
            return len(self.responses.seeds) == self.responses.replicates
        return len(self.estimate.effects_S) == self.responses.replicates

    @property
    def trials(self) -> int:
        """The number of trainings that the estimate rests on."""
        if self.cohort is not None:
            return self.cohort.summary.models
        if self.predicted is not None:
            return self.responses.trials
        return len(self.estimate.effects_S) * len(self.cells) * self.responses.arms


def estimate_hypothesis_effect(hypothesis: Hypothesis, trials: pl.DataFrame, spec: SweepFile) -> HypothesisResult:
    """Pair the responses by seed, or by pair of seeds, and estimate the effect."""
    if isinstance(hypothesis, Correlation) and hypothesis.scope is not None:
        return _measure_over_models(hypothesis, trials, spec)
    cells = list_cells(hypothesis, spec)
    vary = {path: [hypothesis.where[path]] if path in hypothesis.where else spec.vary[path] for path in spec.vary}
    names = [name for name in list_hypothesis_metrics(hypothesis) if name not in spec.vary]
    for path, level in hypothesis.where.items():
        # A level's column has the type that all of the factor's levels share, whatever `where` leaves of them.
        trials = trials.filter(pl.col(path) == build_level_column(path, [level], spec.vary[path])[0])
    responses = collect_paired_responses(
        trials, vary, derive_replicates(hypothesis, spec.replicate_numbers), cells, names
    )
    return _estimate_hypothesis(hypothesis, cells, responses, spec)


def _measure_over_models(hypothesis: Correlation, trials: pl.DataFrame, spec: SweepFile) -> HypothesisResult:
    assert spec.cohort is not None
    levels = {name: level for name, level in hypothesis.where.items() if name in spec.vary}
    facts = {name: level for name, level in hypothesis.where.items() if name not in spec.vary}
    arms = len(select_arms(spec.vary, levels))
    models = select_finished_models(trials, list(spec.vary), levels, arms).rename({"model": LABEL})
    planned = [model.name for model in select_members(spec.cohort, facts)]
    found = estimate_cohort_hypothesis_effect(
        hypothesis.model_copy(update={"where": facts}), models, spec.alpha, planned
    )
    return replace(found, hypothesis=hypothesis)


def estimate_cohort_hypothesis_effect(
    hypothesis: Correlation, models: pl.DataFrame, alpha: float, planned: Sequence[str] = ()
) -> HypothesisResult:
    """Estimate a correlation over the models of a table, whose columns `cohort.py` lists.

    `planned` names the models of the cohort that `where` keeps, so that a verdict on some of them is exploratory. Raise
    InputError for a table that lacks a column.
    """
    found = estimate_cohort_correlation(hypothesis, models, get_direction(hypothesis), alpha, planned)
    unpaired = PairedResponses((), np.empty((2, 0, 1)), 1, (), (), found.summary.models, found.planned)
    return HypothesisResult(hypothesis, ({},), unpaired, found.estimate, cohort=found)


def get_direction(hypothesis: Hypothesis) -> Direction:
    """Return the declared direction; `neither` for an equivalence and for a weak relation."""
    if isinstance(hypothesis, Equivalence) or hypothesis.direction == "weak":
        return "neither"
    return hypothesis.direction


def _estimate_hypothesis(
    hypothesis: Hypothesis, cells: tuple[Arm, ...], responses: PairedResponses, spec: SweepFile
) -> HypothesisResult:
    smallest, alpha, direction = hypothesis.smallest_effect, spec.alpha, get_direction(hypothesis)
    correlated = mediated = predicted = None
    if isinstance(hypothesis, Correlation):
        grid = build_correlation_arm_grid(spec.vary, hypothesis.where, hypothesis.given)
        correlated = estimate_correlation(responses, grid, direction, smallest, alpha)
        estimate = correlated.estimate
    elif isinstance(hypothesis, Mediation):
        mediated = estimate_mediation(responses, direction, smallest, alpha)
        estimate = mediated.through
    elif isinstance(hypothesis, Prediction):
        predicted = estimate_prediction(hypothesis, tuple(spec.vary[hypothesis.factor]), responses, alpha)
        estimate = predicted.estimate
    elif isinstance(hypothesis, Threshold):
        estimate = estimate_difference_from_threshold(responses, hypothesis.value, direction, smallest, alpha)
    elif isinstance(hypothesis, Contrast | Equivalence):
        estimate = estimate_contrast(responses, direction, smallest, alpha)
    else:
        levels = [float(level) for level in sort_trend_levels(hypothesis, spec)]
        estimate = estimate_trend(responses, levels, hypothesis.direction, smallest, alpha)
    return HypothesisResult(hypothesis, cells, responses, estimate, correlated, mediated, predicted=predicted)


def judge_interval(
    ci: Interval,
    smallest_effect: float,
    direction: Direction,
    p_holm: float,
    alpha: float,
    rounding: float = 0.0,
    p_refuting: float = math.nan,
) -> Outcome:
    """Return supported where every effect in the interval is as claimed and p is small, refuted where none is.

    An effect counts when it lies beyond the smallest effect in the declared direction. An interval therefore refutes a
    hypothesis wherever it lies short of that: in the negligible band, on the other side of zero, or across both.
    `neither` claims the band itself, so that it is supported where `either` is refuted, and the other way round. An
    interval that ends on the smallest effect, or within `rounding` of it, is neither beyond it nor short of it.

    A correlation's interval is over seeds, and its claim is about arms like these: it is refuted only where
    `p_refuting`, over arms, is below alpha / 2 too, as much as an end of an interval may err.
    """
    if is_beyond_smallest_effect(ci, smallest_effect, direction, rounding) and is_significant(p_holm, alpha):
        return "supported"
    refutes = can_refute(p_refuting, alpha) and is_short_of(ci, smallest_effect, direction, rounding)
    return "refuted" if refutes else "inconclusive"


def can_refute(p_refuting: float, alpha: float) -> bool:
    """Return whether an interval may refute: it needs no p (NaN), or one below alpha / 2, as an end of it may err."""
    return math.isnan(p_refuting) or is_significant(p_refuting, alpha / 2)


def is_beyond_smallest_effect(
    ci: Interval, smallest_effect: float, direction: Direction, rounding: float = 0.0
) -> bool:
    """Return whether the whole interval lies beyond the smallest effect.

    That is on one side of it for `either`, and inside the band for `neither`.
    """
    if direction == "neither":
        return is_short_of(ci, smallest_effect, "either", rounding)
    edge = smallest_effect + rounding
    if direction == "either":
        return ci.low > edge or ci.high < -edge
    return orient_interval_by_direction(ci, direction).low > edge


def is_short_of(ci: Interval, smallest_effect: float, direction: Direction, rounding: float = 0.0) -> bool:
    """Return whether no effect in the interval is as claimed."""
    if direction == "neither":
        return is_beyond_smallest_effect(ci, smallest_effect, "either", rounding)
    edge = smallest_effect - rounding
    if direction == "either":
        return ci.low > -edge and ci.high < edge
    return orient_interval_by_direction(ci, direction).high < edge


def determine_refutation_kind(
    ci: Interval, smallest_effect: float, direction: Direction, rounding: float = 0.0
) -> RefutationKind:
    """Return where the interval of a refuted verdict lies; only `negligible` means that no effect counts."""
    if direction == "neither":
        return "different"
    if is_short_of(ci, smallest_effect, "either", rounding):
        return "negligible"
    return "opposite" if orient_interval_by_direction(ci, direction).high < 0 else "short"


def orient_interval_by_direction(ci: Interval, direction: Direction) -> Interval:
    """Return the interval of the effect, counted positive in the declared direction."""
    return Interval(-ci.high, -ci.low) if direction == "decreasing" else ci


def compute_margin(value: float, smallest_effect: float, direction: Direction) -> float:
    """Return how far an estimate lies beyond the smallest effect, towards the claim; negative where short of it."""
    if direction == "neither":
        return smallest_effect - math.fabs(value)
    towards = (
        math.fabs(value)
        if direction == "either"
        else orient_interval_by_direction(Interval(value, value), direction).low
    )
    return towards - smallest_effect


class HolmPValue(NamedTuple):
    """A p-value after Holm, and the level that the raw one must stay below at its step."""

    p: float
    level: float


def apply_holm(p_values: Sequence[float], alpha: float) -> list[HolmPValue]:
    """Correct p-values by Holm's method (1979) over all hypotheses of a file.

    One that could not be tested (NaN) still counts among them, so that trainings still to do cannot make the others
    easier; it stays NaN.
    """
    if not p_values:
        return []
    known = [1.0 if math.isnan(p) else p for p in p_values]
    levels = [alpha / (len(known) - sum(other < p for other in known)) for p in known]
    return [
        HolmPValue(math.nan if math.isnan(p) else after, level)
        for p, after, level in zip(p_values, _correct_p_values(known), levels, strict=True)
    ]


def _correct_p_values(p_values: Sequence[float]) -> list[float]:
    """Multiply the k-th smallest of n by n - k + 1, never below a smaller one's result and at most 1."""
    order = np.argsort(p_values, kind="stable")
    stepped = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return [float(p) for p in adjusted]


MOST_SEEDS = 1_000


def estimate_seeds_needed(
    found: EffectEstimate, smallest_effect: float, direction: Direction, alpha: float, holm_level: float
) -> int | None:
    """Return the smallest number of seeds, above the present one, whose interval would exclude the smallest effect.

    For a supported verdict, p of the claim also has to fall below `holm_level`; where seeds agree exactly, this is the
    number at which the sign test can do so. Return None with fewer than two seeds, for an estimate that lies on the
    smallest effect, where more than 1,000 would be needed, and where seeds do not help: p of a correlation depends on
    the number of arms, and so does the one that refutes.
    """
    seeds = len(found.effects_S)
    distance = compute_margin(found.value, smallest_effect, direction)
    if seeds < 2 or math.isnan(distance) or abs(distance) <= found.rounding:
        return None
    if distance < 0 and not can_refute(found.p_refuting, alpha):
        return None
    spread = max(found.spread, found.least_spread)
    counts_N = np.arange(seeds + 1, MOST_SEEDS + 1, dtype=float)
    settled_N = compute_half_width(spread, counts_N, alpha) < abs(distance)
    if distance > 0:
        settled_N &= _predict_p(
            counts_N, found, distance, spread, count_sides(direction)
        ) < subtract_rounding_tolerance(holm_level)
    return int(counts_N[settled_N.argmax()]) if settled_N.any() else None


def _predict_p(counts_N: FloatArray, found: EffectEstimate, distance: float, spread: float, sides: int) -> FloatArray:
    """Predict p of the claim with more seeds like these: against the smallest effect, and by the test itself."""
    if found.agree and found.p_test != "permutation":
        claim_N = np.asarray(sides * 0.5**counts_N)
    else:
        claim_N = np.asarray(sides * stats.t.sf(distance * np.sqrt(counts_N) / spread, counts_N - 1))
    if found.p_test == "permutation":
        return np.maximum(claim_N, found.p)
    return np.maximum(claim_N, _predict_page_p(counts_N, found)) if found.p_test == "page" else claim_N


def _predict_page_p(counts_N: FloatArray, found: EffectEstimate) -> FloatArray:
    """Predict Page's p: the standardised statistic is a sum over seeds, so that it grows like their root.

    Where every seed has its levels in order, p is exactly the share of that one order among all.
    """
    seeds, orders = len(found.effects_S), math.factorial(found.cells)
    if orders > 1 and math.isclose(found.p, (1 / orders) ** seeds, rel_tol=1e-6):
        return np.asarray((1 / orders) ** counts_N)
    return np.asarray(stats.norm.sf(stats.norm.isf(found.p) * np.sqrt(counts_N / seeds)))
