"""The results of an analysis: a verdict for each hypothesis, the dose-response curves, and the trials behind them.

`AnalysisResults` is the whole; `Verdict` is one hypothesis, `FirstQuestion` the question that a sweep asks again.
"""

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import polars as pl

from gapctl.analysis.learning import ArmCheck
from gapctl.analysis.paired_responses import get_replicate_noun
from gapctl.analysis.preregistration import DeclarationDiff
from gapctl.analysis.two_modes import SecondMode
from gapctl.config.arms import Arm, is_in_arm
from gapctl.config.hypotheses import Level
from gapctl.plan.command_line import build_plan_arguments
from gapctl.plan.plan import Plan, Trial

Outcome = Literal["supported", "refuted", "inconclusive"]
RefutationKind = Literal["negligible", "opposite", "short", "different"]
"""Where the interval of a refuted verdict lies.

* `negligible`: inside the band of effects too small to count.
* `opposite`: on the other side of zero.
* `short`: across both, but short of what was claimed.
* `different`: beyond the band where an equivalence was claimed.
"""


class Interval(NamedTuple):
    """A confidence interval at level 1 - alpha; NaN on both sides where too few seeds allow none."""

    low: float
    high: float


UNKNOWN_INTERVAL: Final = Interval(math.nan, math.nan)


class EstimateWithInterval(NamedTuple):
    """An estimate with its interval; NaN where there is none."""

    value: float
    low: float
    high: float


NO_INTERVAL: Final = EstimateWithInterval(math.nan, math.nan, math.nan)


class Slopes(NamedTuple):
    """Slopes of a response on a predictor over models, in standard deviations of both, given the covariates.

    `mixed` is that of the model with a random intercept for each stratum. `within` and `between` are those on the
    deviation from the stratum's mean and on that mean, and `p_difference` is of the two being equal. `share_between` is
    the share of what the mixed model leaves of the response's variance that lies between strata.
    """

    mixed: EstimateWithInterval
    within: EstimateWithInterval
    between: EstimateWithInterval
    p_difference: float
    share_between: float


class LeaveOneOut(NamedTuple):
    """The range of an estimate where one group is left out; without `most` it is `without_it`, farthest from all."""

    low: float
    high: float
    most: str
    without_it: float


class SetEstimate(NamedTuple):
    """Kendall's tau on one evaluation set, with its interval, and the slopes; `name` is empty without named sets."""

    name: str
    tau: EstimateWithInterval
    slopes: Slopes | None


@dataclass(frozen=True)
class CohortSummary:
    """What stands beside a verdict over a cohort of models; NaN or None where it cannot be computed.

    * `scope`: the pairs of models that the verdict compares.
    * `models` were compared, as `units`: models of one lineage in one stratum count once, at their mean.
    * `strata` they come from, and `singletons`, strata of one unit, which say nothing about within strata.
    * `overall`, `within`, `between`: tau over all pairs, pairs of one stratum, and pairs of two.
    * `within_other_strata`: tau within strata with an interval for other strata of this kind, not for these alone.
    * `p_ignoring_strata`: p of the overall tau, either way, when models are permuted as if no stratum existed.
    * `lineages`, `strata_left_out`: the verdict's tau with one lineage, or one stratum, left out.
    * `sets`: tau on each evaluation set; `spread_of_sets` is the standard deviation of their true taus.
    * `left_out`: models that the hypothesis needs and that do not count, by the reason.
    """

    scope: str
    models: int
    units: int
    strata: int
    singletons: int
    overall: EstimateWithInterval = NO_INTERVAL
    within: EstimateWithInterval = NO_INTERVAL
    between: EstimateWithInterval = NO_INTERVAL
    within_other_strata: EstimateWithInterval = NO_INTERVAL
    p_ignoring_strata: float = math.nan
    lineages: LeaveOneOut | None = None
    strata_left_out: LeaveOneOut | None = None
    sets: tuple[SetEstimate, ...] = ()
    spread_of_sets: float = 0.0
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class LevelForecast(NamedTuple):
    """A level's response, the mean over seeds, and its forecasts from the other levels: without predictors, and with.

    `before` is the forecast from the metrics of `beyond` alone, or else the mean of the other levels.
    """

    level: Level
    response: float
    before: float
    forecast: float


@dataclass(frozen=True)
class ForecastSummary:
    """What stands beside a prediction: the forecasts of all levels, and their root mean squared errors.

    Each level's response is its mean over `seeds` of the kind `noun`, which are no replicates here: levels are.
    """

    seeds: int
    noun: str
    error_before: float
    error: float
    levels: tuple[LevelForecast, ...]


class ReversedStep(NamedTuple):
    """Two neighbouring levels of a trend, between which the response goes the other way by `difference`."""

    lower: Level
    upper: Level
    difference: float
    ci: Interval


class FirstAnswer(NamedTuple):
    """The answer to the question that this one replaces; fields as in `Verdict`."""

    sweep: str
    id: str
    claim: str
    verdict: Outcome
    estimate: float
    ci: Interval
    p: float
    replicates: int
    marks: tuple[str, ...]


@dataclass(frozen=True)
class FirstQuestion:
    """The question that a sweep asks again: `asked` names it in the sweep file, `sweep` with its scale in this ledger.

    `note` explains why there are no answers.
    """

    asked: str
    sweep: str = ""
    answers: tuple["Verdict", ...] = ()
    note: str | None = None


@dataclass(frozen=True)
class Verdict:
    """One hypothesis judged by its trials; NaN, None or an empty value where a test has no such quantity.

    `factor` is the treatment; for a correlation, the other metric; for a level, empty, and the response is compared
    with `value`. `direction` of an equivalence is `neither`.

    `estimate` and `ci` are in the response's unit (a trend's: per unit of its factor; a correlation's: Kendall's tau; a
    prediction's: the skill of its forecasts, a share of the squared error).
    `standardised` is the estimate over the standard deviation of the seeds' own estimates (d_z), `standardised_pooled`
    over that of the responses between seeds within a cell, both with Hedges' correction.

    `p` decides: it is of the whole claim, an effect beyond `smallest_effect`, after Holm over the file. `p_claim` is
    the same before Holm. `p_direction` is of the declared direction alone, by `p_test`, after Holm. `p_permutation`
    assumes no distribution. `p_refuting`, of an effect as large as claimed over arms like these, must be below
    alpha / 2 for a correlation to be refuted; NaN for other tests.

    `replicates` counts the effects that the estimate averages, `seeds` the paired seeds behind them, `trials` the
    trainings used. `seeds_needed` is the total number of seeds that would probably settle the verdict; None where it is
    settled or no number would. `seeds_out_of_order` counts the seeds whose levels stand against a trend's direction,
    where Page's test of order alone keeps it open; else it is 0.

    `refuted_as` is where a refuted verdict's interval lies. `redesigned` marks a sweep that asks an answered question
    again, and `first_answer` is that answer. `not_learned` are the checks of learning that compared arms failed
    (`learning.py`), `two_modes` the metrics of which a few trainings end apart from the others (`two_modes.py`),
    `reversed_steps` the levels between which a trend's response goes the other way (`monotone.py`).
    `reason` is one sentence. A mediation also has the treatment's effect with the mediator free and fixed, and the
    mediated share. `cohort` is set where models are the replicates: `seeds` and `replicates` then count models, those
    of one lineage in one stratum once, and `trials` counts all of them. `replicate_noun` is what a replicate is: a
    seed, a recipe, or a model of a cohort. Where recipes are the replicates, `prediction` is the interval that holds
    the effect of one further recipe. Of a prediction the levels are the replicates, which `seeds` and `replicates`
    count; `predictors`, `beyond` and `forecast` say from what and how well they are foretold.
    """

    id: str
    claim: str
    test: str
    response: str
    factor: str
    direction: str
    smallest_effect: float
    verdict: Outcome
    estimate: float
    ci: Interval
    ci_bootstrap: Interval
    standardised: float
    p: float
    p_direction: float
    seeds: int
    trials: int
    seeds_needed: int | None
    exploratory: bool
    reason: str
    p_test: str = "none"
    p_claim: float = math.nan
    p_direction_before_holm: float = math.nan
    p_permutation: float = math.nan
    p_refuting: float = math.nan
    standardised_pooled: float = math.nan
    source: str | None = None
    where: Mapping[str, Level] = field(default_factory=dict)
    between: tuple[Level, ...] = ()
    given: tuple[str, ...] = ()
    value: float = math.nan
    mediator: str | None = None
    mediator_levels: tuple[Level, ...] = ()
    effect_free: float = math.nan
    effect_free_ci: Interval = UNKNOWN_INTERVAL
    effect_fixed: float = math.nan
    effect_fixed_ci: Interval = UNKNOWN_INTERVAL
    share_mediated: float = math.nan
    share_mediated_ci: Interval = UNKNOWN_INTERVAL
    replicates: int = 0
    refuted_as: RefutationKind | None = None
    not_learned: tuple[ArmCheck, ...] = ()
    two_modes: tuple[SecondMode, ...] = ()
    reversed_steps: tuple[ReversedStep, ...] = ()
    redesigned: bool = False
    first_answer: FirstAnswer | None = None
    seeds_out_of_order: int = 0
    cohort: CohortSummary | None = None
    replicate_noun: str = "seed"
    prediction: Interval = UNKNOWN_INTERVAL
    predictors: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()
    forecast: ForecastSummary | None = None

    @property
    def marks(self) -> tuple[str, ...]:
        """The marks that must stand beside the verdict wherever it is shown."""
        marks = {
            "exploratory": self.exploratory,
            "redesigned": self.redesigned,
            "not learned": bool(self.not_learned),
            "two modes": bool(self.two_modes),
            "not monotone": bool(self.reversed_steps),
        }
        return tuple(mark for mark, stands in marks.items() if stands)

    @property
    def replicate_name(self) -> str:
        """What `seeds` counts, in the plural: seeds, recipes, models of a cohort, or levels left out in turn."""
        return f"{self.replicate_noun}s"


@dataclass(frozen=True)
class AnalysisResults:
    """Everything that a report shows.

    * `trials`: a row for each finished trial: `trial`, `label`, `seed`, a column for each factor (its dotted path), a
      column for each metric, `samples_seen`, `seconds`; of a cohort also `model`, its facts and published numbers;
      of recipes `recipe` (the seed again), and a column for each value that is drawn (its dotted path).
    * `curves`: a row for each (factor, level, metric): `factor`, `level` (as text), `position` (0-based order of the
      level in the file), `metric`, `mean`, `low`, `high`, `seeds`, averaged over the other factors; `low` and `high`
      are null with one seed.
    * `history`: a row for each evaluation: `trial`, `label`, `seed`, factor columns, `samples_seen`, metrics; no rows
      unless histories were requested.
    * `provenance`: a row for each finished trial, as `tables.build_provenance` describes it.
    * `learning`: the result of each check of learning for each arm.
    * `deviation`: how the design differs from the one declared before the first trial, which makes verdicts
      exploratory.
    * `declared`: the declaration, where it differs from what is judged and the ledger kept its text.
    * `first_question`: the question that the sweep asks again.
    """

    sweep: str
    question: str
    scale: str | None
    alpha: float
    spec_sha256: str
    hypotheses_sha256: str
    declared_sha256: str | None
    factors: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    trials: pl.DataFrame
    curves: pl.DataFrame
    history: pl.DataFrame
    planned: int
    deviation: str | None = None
    provenance: pl.DataFrame = field(default_factory=pl.DataFrame)
    declared: DeclarationDiff | None = None
    learning: tuple[ArmCheck, ...] = ()
    first_question: FirstQuestion | None = None

    @property
    def replicate_noun(self) -> str:
        """What a replicate is: a seed, a recipe, or a model of a cohort, whose name each trial then has."""
        return get_replicate_noun(self.trials)


class MissingTrials(NamedTuple):
    """Trainings that a comparison lacks: those to train, and those whose folders must be repaired first."""

    untrained: Sequence[Trial]
    damaged: Sequence[Trial]


@dataclass(frozen=True)
class RemainingTrials:
    """The plan's trials without a usable result, and the command that trains those that are not damaged.

    `models` names all models of the plan's cohort by their replicate. `no_optimum` says by metric and label why
    finished trainings have no excess over the loss' optimum.
    """

    command: str = ""
    trials: Sequence[Trial] = ()
    damaged: frozenset[str] = field(default_factory=frozenset)
    models: Mapping[int, str] = field(default_factory=dict)
    no_optimum: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def of(self, cells: Sequence[Arm], where: Arm) -> MissingTrials:
        """Return the remaining trials that a comparison of these cells needs."""
        needed = [
            trial
            for trial in self.trials
            if is_in_arm(trial.factors, where) and any(is_in_arm(trial.factors, cell) for cell in cells)
        ]
        untrained = [trial for trial in needed if trial.id not in self.damaged]
        return MissingTrials(untrained, [trial for trial in needed if trial.id in self.damaged])


def find_remaining_trials(plan: Plan, done: Iterable[str], damaged: Sequence[str], runs: str) -> RemainingTrials:
    """List the trials not in `done` (ids); `damaged` are messages about those that cannot be read."""
    judged = set(done)
    left = [trial for trial in plan.trials if trial.id not in judged]
    unreadable = frozenset(trial.id for trial in left if any(trial.id in text for text in damaged))
    models = {trial.replicate: trial.model.name for trial in plan.trials if trial.model is not None}
    return RemainingTrials(build_finishing_command(plan, runs), left, unreadable, models)


def build_finishing_command(plan: Plan, runs: str) -> str:
    """Return the `gapctl sweep` command line for this plan and ledger."""
    return shlex.join(["gapctl", "sweep", *build_plan_arguments(plan, runs)])
