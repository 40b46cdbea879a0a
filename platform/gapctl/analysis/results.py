"""What an analysis ends in: a verdict per hypothesis, the dose-response curves, and the trials behind them."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import polars as pl

Finding = Literal["supported", "refuted", "inconclusive"]


class Interval(NamedTuple):
    """A confidence interval at level 1 - alpha; NaN on both sides where too few seeds allow none."""

    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """One hypothesis against what was measured.

    `estimate` and `ci` are in the response's unit (a trend's: per unit of its factor), `standardised` is the
    estimate over the standard deviation of the seeds' own estimates. `p` is of the declared direction, `p_holm`
    after Holm over the file. `seeds` counts the paired seeds, `trials` the trainings used. `seeds_needed` is how
    many seeds would probably settle it, None where it is settled or where no number would. `reason` is one sentence.
    """

    id: str
    claim: str
    test: str
    response: str
    factor: str
    direction: str
    smallest_effect: float
    verdict: Finding
    estimate: float
    ci: Interval
    ci_bootstrap: Interval
    standardised: float
    p: float
    p_holm: float
    seeds: int
    trials: int
    seeds_needed: int | None
    exploratory: bool
    reason: str


@dataclass(frozen=True)
class Analysis:
    """All that a report shows.

    `trials`: a row per finished trial: `trial`, `label`, `seed`, a column per factor (its dotted path), a column per
    metric, `samples_seen`, `seconds`. `curves`: a row per (factor, level, metric): `factor`, `level` (as text),
    `position` (0-based order of the level in the file), `metric`, `mean`, `low`, `high`, `seeds`, averaged over the
    other factors; `low` and `high` are null with one seed. `history`: a row per evaluation: `trial`, `label`, `seed`,
    factor columns, `samples_seen`, metrics. `deviation` says how the design differs from the one declared before the
    first trial, which makes verdicts exploratory; `remark` what a reader should know though it does not.
    `provenance`: a row per finished trial, what it was computed from and on, as `provenance.py` describes it. `history`
    has no rows where nobody asked for it.
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
    remark: str | None = None
    provenance: pl.DataFrame = field(default_factory=pl.DataFrame)
