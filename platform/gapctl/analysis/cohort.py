"""Correlate two metrics, or a metric and a covariate, over a cohort of models that come in strata.

The table has a row for each measured model, with these columns:

* `label`: the model's name, once each;
* `stratum`: text, such as its pretraining set. Models of one stratum resemble each other;
* `lineage`: text or null; may be absent. Models of one training run, or fine-tuned from one another, share it;
* one column for each metric, as `gap/rmg` or, on an evaluation set, `coco/gap/rmg`: numbers;
* one column for each covariate, as `parameters` or `tower`: numbers, or names as text or true and false.

From the table to the estimate:

1. `read_units` finds the columns that a hypothesis names, on each of its sets, and leaves out models without a value.
   Models of one lineage and stratum become one unit at their mean, as they are one piece of evidence.
2. `compare_cohort_metric_ranks` removes the covariates that are given and compares pairs of units
  (`stratified_tau.py`).
3. `estimate_cohort_correlation` puts together the verdict's estimate, and in `CohortSummary` what stands beside it: tau
  over the
   other pairs, slopes between and within strata (`random_intercept.py`), tau without each lineage, tau on each set.

Shapes: E evaluation sets, N units, Q covariates.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from gapctl.analysis.correlation import (
    FEWEST_FREE,
    Strata,
    TailShares,
    compute_covariate_basis,
    compute_directional_p,
    count_residual_degrees_of_freedom,
    rank_within_strata,
    residualise,
    subtract_stratum_means,
)
from gapctl.analysis.estimates import NO_ESTIMATE, ROUNDING_SHARE, Direction, EffectEstimate, IntArray
from gapctl.analysis.paired_responses import FloatArray, build_usable_response_filter
from gapctl.analysis.random_intercept import estimate_slopes
from gapctl.analysis.results import NO_INTERVAL, CohortSummary, EstimateWithInterval, LeaveOneOut, SetEstimate
from gapctl.analysis.stratified_tau import (
    Pairs,
    Residuals,
    Tau,
    build_pair_mask,
    compare_model_pairs,
    compute_leave_group_out_taus,
    compute_strata_bootstrap_interval,
    compute_taus_by_evaluation_set,
    estimate_tau,
    run_model_permutation_test,
)
from gapctl.config.arms import RANDOM_PERMUTATIONS
from gapctl.config.base import format_word_suggestion
from gapctl.config.cohort import is_same_level
from gapctl.config.hypotheses import LOGARITHM, Correlation, Scope
from gapctl.errors import InputError

LABEL, STRATUM, LINEAGE = "label", "stratum", "lineage"
NOT_MEASURED: Final = "not measured yet"
FEWEST_UNITS: Final = 3
"""With fewer units there is no order to look at."""


@dataclass(frozen=True)
class CohortEstimate:
    """A correlation over a cohort: the estimate that is judged, and what stands beside it.

    `planned` counts the models that the hypothesis is about. `note` explains a missing estimate.
    """

    estimate: EffectEstimate
    summary: CohortSummary
    planned: int
    note: str = ""


def estimate_cohort_correlation(
    hypothesis: Correlation,
    models: pl.DataFrame,
    direction: Direction,
    alpha: float,
    planned: Sequence[str] = (),
    permutations: int = RANDOM_PERMUTATIONS,
) -> CohortEstimate:
    """Estimate a correlation over the models of a table; `planned` names those of the cohort that `where` keeps.

    p within strata is that of permutations within strata. For the other scopes it is Student's with strata left out in
    turn, as a permutation of models ignores that those of one stratum resemble each other. Raise InputError where the
    table lacks a column or repeats a model.
    """
    units = read_units(hypothesis, models, planned)
    summary = CohortSummary(
        scope=str(hypothesis.scope),
        models=units.models,
        units=len(units.labels),
        strata=len(units.strata),
        singletons=sum(len(places) == 1 for places in units.strata),
        left_out=units.left_out,
    )
    count = units.models + sum(map(len, units.left_out.values()))
    if len(units.labels) < FEWEST_UNITS:
        return CohortEstimate(NO_ESTIMATE, summary, count, f"{len(units.labels)} models are too few to have an order")
    compared = {
        scope: compare_cohort_metric_ranks(units, scope) for scope in ("overall", "within_strata", "between_strata")
    }
    scope: Scope = "overall" if hypothesis.scope in (None, "given_covariates") else hypothesis.scope
    found, within = compared[scope], compared["within_strata"]
    every = (tuple(range(len(units.labels))),)
    permuted: dict[Scope, TailShares] = {}
    if (overall := compared["overall"]) is not None:
        permuted["overall"] = run_model_permutation_test(overall.predictors, overall.rank_y_EN, every, permutations)
    summary = replace(
        summary,
        overall=_show_tau(compared["overall"], alpha),
        within=_show_tau(within, alpha),
        between=_show_tau(compared["between_strata"], alpha),
        within_other_strata=NO_INTERVAL
        if within is None
        else estimate_tau(within.pairs, units.stratum_N, "within_strata", other_strata=True).with_interval(alpha),
        p_ignoring_strata=compute_directional_p(permuted["overall"], "either") if permuted else math.nan,
    )
    if found is None:
        return CohortEstimate(NO_ESTIMATE, summary, count, _explain_no_order(hypothesis, scope, summary))
    if scope == "within_strata":
        permuted[scope] = run_model_permutation_test(found.predictors, found.rank_y_EN, units.strata, permutations)
    summary = replace(
        summary,
        lineages=_leave_out(found, units, scope, units.lineages),
        strata_left_out=_leave_out(found, units, scope, units.stratum_names),
        sets=tuple(_describe_set(units, found.tau, place, alpha) for place in range(len(units.sets))),
        spread_of_sets=found.tau.spread_of_sets,
    )
    estimate = _build_estimate(hypothesis, found, units, scope, permuted.get(scope), direction, alpha)
    return CohortEstimate(estimate, summary, count)


def _build_estimate(
    hypothesis: Correlation,
    found: "Comparison",
    units: "Units",
    scope: Scope,
    permuted: TailShares | None,
    direction: Direction,
    alpha: float,
) -> EffectEstimate:
    claim = found.tau.compute_p(direction, hypothesis.smallest_effect)
    p_permutation = (
        math.nan if direction == "neither" or permuted is None else compute_directional_p(permuted, direction)
    )
    exact = scope == "within_strata" and direction != "neither"
    # No permutation tests a band: a weak relation is claimed by two one-sided t tests.
    tested = claim if direction == "neither" else found.tau.compute_p(direction, 0.0)
    p = p_permutation if exact else tested
    return EffectEstimate(
        _compute_own_taus(found.pairs, units, scope),
        found.tau.value,
        found.tau.interval(alpha),
        compute_strata_bootstrap_interval(found.pairs, units.stratum_N, scope, alpha),
        p,
        "permutation" if exact else "t",
        p_claim=float(np.maximum(p, claim)),
        p_permutation=p_permutation,
        rounding=ROUNDING_SHARE,
    )


def _compute_own_taus(pairs: Pairs, units: "Units", scope: Scope) -> FloatArray:
    """Return for each unit how far it orders alike with those that it is compared with (N,), the mean over sets."""
    scope_NN = build_pair_mask(units.stratum_N, scope)
    agree_N, pairs_N = (pairs.agreement_ENN * scope_NN).mean(axis=0).sum(axis=1), scope_NN.sum(axis=1)
    return np.asarray(agree_N / np.maximum(1, pairs_N))


def _explain_no_order(hypothesis: Correlation, scope: Scope, summary: CohortSummary) -> str:
    if scope == "within_strata" and summary.singletons == summary.strata:
        return f"each of {summary.strata} strata has one model, so none are compared within strata"
    if scope == "between_strata" and summary.strata == 1:
        return "all models are of one stratum, so none are compared between strata"
    left = ", or nothing of it is left beside what is given" if hypothesis.given else ""
    return f"in all models compared, {hypothesis.response} or {hypothesis.against} is the same{left}"


def _show_tau(found: "Comparison | None", alpha: float) -> EstimateWithInterval:
    return NO_INTERVAL if found is None else found.tau.with_interval(alpha)


def _leave_out(found: "Comparison", units: "Units", scope: Scope, names: Sequence[str]) -> LeaveOneOut | None:
    """Leave out all units of each name in turn; what was removed as given stays as it was."""
    every, group_N = np.unique(np.array(names), return_inverse=True)
    left = compute_leave_group_out_taus(found.pairs, build_pair_mask(units.stratum_N, scope), group_N).mean(axis=0)
    if not np.isfinite(left).any():
        return None
    most = int(np.nanargmax(np.abs(left - found.tau.value)))
    return LeaveOneOut(float(np.nanmin(left)), float(np.nanmax(left)), str(every[most]), float(left[most]))


def _describe_set(units: "Units", tau: Tau, place: int, alpha: float) -> SetEstimate:
    values = units.response_EN[place], units.predictor_EN[place], units.covariates[place]
    return SetEstimate(
        units.sets[place], tau.set_interval(place, alpha), estimate_slopes(*values, units.stratum_N, alpha)
    )


class Comparison(NamedTuple):
    """Units compared pair by pair after removing what is given: the predictor, ranks of the response (E, N), tau."""

    predictors: tuple[Residuals, ...]
    rank_y_EN: IntArray
    pairs: Pairs
    tau: Tau


def compare_cohort_metric_ranks(units: "Units", scope: Scope) -> Comparison | None:
    """Compare the units over the pairs of a scope; None where no pair is left, or too little beside what is given.

    Within strata, what is given is removed from deviations from the stratum's mean.
    """
    strata = units.strata if scope == "within_strata" else (tuple(range(len(units.labels))),)
    predictors, ranks_x, ranks_y = [], [], []
    for y_N, x_N, z_NQ in zip(units.response_EN, units.predictor_EN, units.covariates, strict=True):
        y, x = _remove_covariates(y_N, z_NQ, strata), _remove_covariates(x_N, z_NQ, strata)
        if x is None or y is None:
            return None
        slack_11 = None if x.slack_11 is None or y.slack_11 is None else np.maximum(x.slack_11, y.slack_11)
        predictors.append(x._replace(slack_11=slack_11))
        ranks_x.append(rank_within_strata(x.values_1N, strata, slack_11)[0])
        ranks_y.append(rank_within_strata(y.values_1N, strata, slack_11)[0])
    rank_y_EN = np.array(ranks_y)
    pairs = compare_model_pairs(np.array(ranks_x), rank_y_EN)
    if not np.isfinite(compute_taus_by_evaluation_set(pairs, build_pair_mask(units.stratum_N, scope))).all():
        return None
    return Comparison(tuple(predictors), rank_y_EN, pairs, estimate_tau(pairs, units.stratum_N, scope))


def _remove_covariates(values_N: FloatArray, covariates_NQ: FloatArray, strata: Strata) -> Residuals | None:
    """Return a metric's residuals on the covariates; None where these leave too few free differences."""
    if not covariates_NQ.shape[1]:
        return Residuals(values_N[None])
    span_NQ = compute_covariate_basis(covariates_NQ.T[:, None], strata)[0]
    if count_residual_degrees_of_freedom(strata, int(span_NQ.any(axis=0).sum())) < FEWEST_FREE:
        return None
    centred = subtract_stratum_means(values_N[None], strata)
    return Residuals(residualise(span_NQ, centred.values_SA), span_NQ, centred.slack_S1)


@dataclass(frozen=True)
class Units:
    """What a hypothesis compares: values on each set, and the stratum and lineage of each unit.

    `covariates` has an array (N, Q) for each set, with a column of 0 and 1 for each name of a covariate of names.
    `models` counts the models that the units stand for, and `left_out` has the others by their reason.
    """

    labels: tuple[str, ...]
    stratum_names: tuple[str, ...]
    lineages: tuple[str, ...]
    sets: tuple[str, ...]
    response_EN: FloatArray
    predictor_EN: FloatArray
    covariates: tuple[FloatArray, ...]
    models: int
    left_out: Mapping[str, tuple[str, ...]]

    @cached_property
    def stratum_N(self) -> IntArray:
        """Each unit's stratum as a number from 0."""
        return np.unique(np.array(self.stratum_names, dtype=str), return_inverse=True)[1]

    @cached_property
    def strata(self) -> Strata:
        """The places of the units of each stratum."""
        return tuple(
            tuple(np.flatnonzero(self.stratum_N == stratum).tolist()) for stratum in range(len(set(self.stratum_names)))
        )


def read_units(hypothesis: Correlation, models: pl.DataFrame, planned: Sequence[str] = ()) -> Units:
    """Read what a hypothesis compares from a table of models; `planned` names models that may not be in it yet.

    Raise InputError for a missing column, a model that stands twice, and text where numbers are compared.
    """
    _check_table(models)
    waiting = [name for name in planned if name not in set(models[LABEL])]
    for column, level in hypothesis.where.items():
        models = models.filter([is_same_level(value, level) for value in _get_column(models, column, "where")])
    sets, names = tuple(hypothesis.sets) or ("",), (hypothesis.response, hypothesis.against, *hypothesis.given)
    columns = {(one, name): _read_column(models, one, name, name in hypothesis.given) for one in sets for name in names}
    lineage = models[LINEAGE] if LINEAGE in models.columns else pl.Series([None] * len(models), dtype=pl.String)
    table = pl.DataFrame(
        [
            models[LABEL].cast(pl.String),
            models[STRATUM].cast(pl.String).alias(STRATUM),
            lineage.cast(pl.String).alias(LINEAGE),
            *(column.values.alias(f"{one} {name}") for (one, name), column in columns.items()),
        ]
    ).sort(LABEL)
    left_out: dict[str, list[str]] = {}
    reasons = {STRATUM: "it has no stratum"} | {f"{one} {name}": found.why for (one, name), found in columns.items()}
    for column, why in reasons.items():
        missing = table[column].is_null()
        if missing.any():
            left_out.setdefault(why, []).extend(table.filter(missing)[LABEL])
            table = table.filter(~missing)
    if waiting:
        left_out[NOT_MEASURED] = waiting
    count = len(table)
    # A model without a lineage stands alone, whatever lineages are called.
    alone = pl.concat_str(pl.lit("model "), LABEL)
    key = pl.when(pl.col(LINEAGE).is_null()).then(alone).otherwise(pl.concat_str(pl.lit("lineage "), LINEAGE))
    merged = [
        pl.col(name).mean() if table[name].dtype == pl.Float64 else pl.col(name).first()
        for name in table.columns
        if name != STRATUM
    ]
    units = table.with_columns(unit=key).group_by(STRATUM, "unit", maintain_order=True).agg(merged)

    def stack(name: str) -> FloatArray:
        return np.array([units[f"{one} {name}"].to_list() for one in sets], dtype=float).reshape(len(sets), len(units))

    return Units(
        labels=tuple(units[LABEL]),
        stratum_names=tuple(units[STRATUM]),
        lineages=tuple(name.partition(" ")[2] for name in units["unit"]),
        sets=sets,
        response_EN=stack(hypothesis.response),
        predictor_EN=stack(hypothesis.against),
        covariates=tuple(_stack_covariates(units, [f"{one} {name}" for name in hypothesis.given]) for one in sets),
        models=count,
        left_out={why: tuple(labels) for why, labels in left_out.items()},
    )


def _check_table(models: pl.DataFrame) -> None:
    for name in (LABEL, STRATUM):
        if name not in models.columns:
            raise InputError(f"the table of models has no column {name}; its columns: {', '.join(models.columns)}")
    twice = models.filter(pl.col(LABEL).is_duplicated())[LABEL]
    if len(twice):
        raise InputError(f"the table of models has {twice[0]} in {twice.eq(twice[0]).sum()} rows; expected one a model")


class _Column(NamedTuple):
    """Values of one name, null where unusable, and why these are left out."""

    values: pl.Series
    why: str


def _read_column(models: pl.DataFrame, one: str, name: str, may_be_names: bool) -> _Column:
    """Read a metric or covariate on one set: `<set>/<name>` where the table has it, else `<name>`."""
    logged = name.startswith(LOGARITHM)
    plain = name.removeprefix(LOGARITHM).strip()
    column = next((found for found in (f"{one}/{plain}", plain) if found in models.columns), None)
    if column is None and "/" in plain:  # a metric that no model has recorded yet
        wanted = f"{one}/{plain}" if one else plain
        return _Column(pl.Series([None] * len(models), dtype=pl.Float64), f"{wanted} was not recorded")
    values = _get_column(models, plain if column is None else column, "a covariate")
    if not (values.dtype.is_numeric() or values.dtype == pl.Null):
        if not may_be_names or logged:
            example = str(values.drop_nulls().first())
            raise InputError(f"{name}: the column {column} of the models has names ({example}); expected numbers")
        return _Column(values.cast(pl.String), f"{column} has no value")
    numbers = values.cast(pl.Float64)
    usable = pl.select(pl.when(build_usable_response_filter(pl.lit(numbers))).then(pl.lit(numbers))).to_series()
    if not logged:
        return _Column(usable, f"{column} has no usable number")
    above = pl.select(pl.when(pl.lit(usable) > 0).then(pl.lit(usable))).to_series()
    return _Column(above.log(), f"{column} has no number above 0, of which a logarithm is taken")


def _get_column(models: pl.DataFrame, name: str, role: str) -> pl.Series:
    if name not in models.columns:
        known = [column for column in models.columns if "/" not in column]
        raise InputError(f"{role}: the table of models has no column {name}{format_word_suggestion(name, known)}")
    return models[name]


def _stack_covariates(units: pl.DataFrame, names: Sequence[str]) -> FloatArray:
    """Return an array (N, Q): numbers as they are, and 0 or 1 for each name but the first of a column of names."""
    stacked = [np.empty((len(units), 0))]
    for column in units.select(names):
        if column.dtype == pl.String:
            stacked += [(column == name).to_numpy()[:, None] for name in column.unique().sort()[1:]]
        else:
            stacked.append(column.to_numpy()[:, None])
    return np.hstack(stacked).astype(float)
