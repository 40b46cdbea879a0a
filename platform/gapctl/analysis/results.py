"""What an analysis ends in: a verdict per hypothesis, the dose-response curves, and the trials behind them."""

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import polars as pl

from gapctl.analysis.learning import ArmCheck
from gapctl.analysis.preregistration import DeclarationDiff
from gapctl.config.arms import Arm
from gapctl.config.hypotheses import Level
from gapctl.plan.command_line import build_plan_arguments
from gapctl.plan.plan import Plan, Trial

Outcome = Literal["supported", "refuted", "inconclusive"]
RefutationKind = Literal["negligible", "opposite", "short", "different"]
"""Of a refuted verdict, where its interval lies: inside the band of effects too small to count (`negligible`), on the
other side of zero (`opposite`), across both but short of what was claimed (`short`), or beyond the band where none was
claimed (`different`)."""


class Interval(NamedTuple):
    """A confidence interval at level 1 - alpha; NaN on both sides where too few seeds allow none."""

    low: float
    high: float


UNKNOWN_INTERVAL: Final = Interval(math.nan, math.nan)


class FirstAnswer(NamedTuple):
    """What the question that this one replaces was answered; fields as `Verdict` has them."""

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
    """The question that a sweep asks again: `asked` is its name there, `sweep` its name in this ledger with its scale.

    `note` says why there are no answers.
    """

    asked: str
    sweep: str = ""
    answers: tuple["Verdict", ...] = ()
    note: str | None = None


@dataclass(frozen=True)
class Verdict:
    """One hypothesis against what was measured; NaN, None or nothing stands for what a test does not have.

    `factor` is the treatment; of a correlation, the metric that the response is held against; of a level, nothing, and
    `value` is what the response is held against. `direction` of an
    equivalence is `neither`. `estimate` and `ci` are in the response's unit (a trend's: per unit of its factor; a
    correlation's: Kendall's tau). `standardised` is the estimate over the standard deviation of the seeds' own
    estimates (d_z), `standardised_pooled` over that of the responses between seeds within a cell, both with Hedges'
    correction. `p` decides: it is of the whole claim, an effect beyond `smallest_effect`, after Holm over the file, and
    `p_claim` is the same before Holm. `p_direction` is of the declared direction alone, by `p_test`, after Holm.
    `p_permutation` assumes no distribution. `replicates` counts the effects that the estimate is a mean of, `seeds` the
    paired seeds behind them, `trials` the trainings used. `refuted_as` says where a refuted verdict's interval lies.
    `redesigned` says that the sweep asks again what had been answered, `first_answer` what that answer was.
    `not_learned` are the checks of learning that arms compared failed (`learning.py`). `seeds_needed` is how many
    seeds in all would probably settle it, None where it is settled or where no number would. `reason` is one sentence.
    A mediation has the treatment's effect with the mediator free and fixed, and the share that it carries.
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
    redesigned: bool = False
    first_answer: FirstAnswer | None = None

    @property
    def marks(self) -> tuple[str, ...]:
        """What must stand beside the verdict wherever it is shown."""
        marks = {
            "exploratory": self.exploratory,
            "redesigned": self.redesigned,
            "not learned": bool(self.not_learned),
        }
        return tuple(mark for mark, stands in marks.items() if stands)


@dataclass(frozen=True)
class Analysis:
    """All that a report shows.

    `trials`: a row per finished trial: `trial`, `label`, `seed`, a column per factor (its dotted path), a column per
    metric, `samples_seen`, `seconds`. `curves`: a row per (factor, level, metric): `factor`, `level` (as text),
    `position` (0-based order of the level in the file), `metric`, `mean`, `low`, `high`, `seeds`, averaged over the
    other factors; `low` and `high` are null with one seed. `history`: a row per evaluation: `trial`, `label`, `seed`,
    factor columns, `samples_seen`, metrics. `deviation` says how the design differs from the one declared before the
    first trial, which makes verdicts exploratory. `provenance`: a row per finished trial, what it was computed from and
    on, as `build_provenance` describes it. `learning`: what each check of learning found of each arm. `history` has no
    rows where nobody asked for it. `first_question` is what the sweep asks again. `declared` is what was declared where
    that is not what is judged, as far as the ledger kept it.
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


class MissingTrials(NamedTuple):
    """Trainings that a comparison needs and does not have: to be trained, or to be repaired first."""

    untrained: Sequence[Trial]
    damaged: Sequence[Trial]


@dataclass(frozen=True)
class RemainingTrials:
    """The plan's trials without a usable result, and the command that trains those of them that are not damaged."""

    command: str = ""
    trials: Sequence[Trial] = ()
    damaged: frozenset[str] = field(default_factory=frozenset)

    def of(self, cells: Sequence[Arm], where: Arm) -> MissingTrials:
        """Those that a comparison of these cells needs."""
        needed = [
            trial
            for trial in self.trials
            if _is_in_arm(trial, where) and any(_is_in_arm(trial, cell) for cell in cells)
        ]
        untrained = [trial for trial in needed if trial.id not in self.damaged]
        return MissingTrials(untrained, [trial for trial in needed if trial.id in self.damaged])


def find_remaining_trials(plan: Plan, done: Iterable[str], damaged: Sequence[str], runs: str) -> RemainingTrials:
    """`done` are the ids of trials that are judged, `damaged` what was said of those that cannot be read."""
    judged = set(done)
    left = [trial for trial in plan.trials if trial.id not in judged]
    unreadable = frozenset(trial.id for trial in left if any(trial.id in text for text in damaged))
    return RemainingTrials(build_finishing_command(plan, runs), left, unreadable)


def build_finishing_command(plan: Plan, runs: str) -> str:
    """`gapctl sweep` as it has to be called for this plan and ledger."""
    return shlex.join(["gapctl", "sweep", *build_plan_arguments(plan, runs)])


def _is_in_arm(trial: Trial, levels: Arm) -> bool:
    return all(trial.factors.get(path) == level for path, level in levels.items())
