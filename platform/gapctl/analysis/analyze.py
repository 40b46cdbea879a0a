"""From a plan and its ledger to the verdicts, the curves and the trials behind them.

1. `tables.py` reads the finished trials of a plan into frames.
2. `measured.py` pairs each hypothesis's responses by seed (`paired.py`) and estimates its effect with p-values
   (`estimates.py`, `correlation.py`).
3. `judge_hypotheses` corrects all p-values together (Holm) and builds the verdicts (`verdict.py`).
4. `preregistration.py` compares the plan with its declaration: a deviation makes the verdicts exploratory.
5. `judge_first_question` adds the answers to the question that a sweep asks again, `learning.py` the arms that learned
   nothing, and `two_modes.py` trainings that ended apart from the others.

`analyze_finished_trials` does all of it and returns an `AnalysisResults` (`results.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from gapctl.analysis.estimates import compute_half_width
from gapctl.analysis.hypothesis_effects import apply_holm, estimate_hypothesis_effect
from gapctl.analysis.learning import select_failed_checks
from gapctl.analysis.paired_responses import (
    FactorLevels,
    compute_cell_means,
    count_arms_per_cell,
    replace_seeds_by_pair,
)
from gapctl.analysis.preregistration import compare_plan_with_declaration, explain_deviation_from_declaration
from gapctl.analysis.results import AnalysisResults, FirstAnswer, FirstQuestion, Verdict, find_remaining_trials
from gapctl.analysis.tables import TrialTables, list_metric_columns, read_trial_tables
from gapctl.analysis.two_modes import check_modes
from gapctl.analysis.verdict import build_verdict
from gapctl.config.hypotheses import Level, list_hypothesis_metrics
from gapctl.config.metrics import is_seed_pair_metric
from gapctl.errors import GapctlError, InputError
from gapctl.ledger import Declaration, Ledger
from gapctl.ledger.preregistration import rebuild_declared_plan, rebuild_plan
from gapctl.plan.command_line import DEFAULT_RUNS
from gapctl.plan.plan import Plan, hash_design

CURVE_SCHEMA = {
    "factor": pl.String,
    "level": pl.String,
    "position": pl.Int64,
    "metric": pl.String,
    "mean": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "seeds": pl.Int64,
}


def analyze_finished_trials(plan: Plan, ledger: Ledger, *, with_history: bool = True) -> AnalysisResults:
    """Judge the plan's hypotheses by its finished trials, however many there are; leave damaged ones out.

    Read histories only with `with_history`. Raise WorkError where the ledger cannot be read or the sweep's declaration
    is damaged.
    """
    return analyze_tables(plan, read_trial_tables(plan, ledger, with_history=with_history), ledger)


def analyze_tables(plan: Plan, tables: TrialTables, ledger: Ledger, *, with_first: bool = True) -> AnalysisResults:
    """Judge the plan's hypotheses by tables that were already read.

    With `with_first`, also judge the question that the sweep asks again.
    """
    runs, declaration = ledger.root, ledger.read_declaration(plan.sweep.spec.name)
    first = judge_first_question(plan, ledger) if with_first else None
    sweep, spec = plan.sweep, plan.sweep.spec
    declared = declaration.declared_sha256 if declaration else None
    departed = explain_deviation_from_declaration(plan, declaration)
    confirms = declared == sweep.hypotheses_sha256 and departed is None
    return AnalysisResults(
        sweep=spec.name,
        question=spec.question,
        scale=sweep.scale,
        alpha=spec.alpha,
        spec_sha256=sweep.spec_sha256,
        hypotheses_sha256=sweep.hypotheses_sha256,
        declared_sha256=declared,
        factors=tuple(spec.vary),
        verdicts=tuple(_attach_first_answer(first, one) for one in judge_hypotheses(plan, tables, not confirms, runs)),
        trials=tables.trials,
        curves=compute_curves(tables.trials, spec.vary, spec.alpha),
        history=tables.history,
        planned=len(plan.trials),
        deviation=departed,
        provenance=tables.provenance,
        learning=tables.learning,
        first_question=first,
        declared=None if confirms or declaration is None else compare_plan_with_declaration(plan, declaration, runs),
    )


def judge_first_question(plan: Plan, ledger: Ledger) -> FirstQuestion | None:
    """Judge the question that the plan's sweep asks again, as this ledger declared and trained it.

    Return None where the sweep asks nothing again, and a note where the ledger cannot answer.
    """
    asked = plan.sweep.spec.asks_again
    if asked is None:
        return None
    try:
        first = _rebuild_first_plan(plan, ledger)
        tables = read_trial_tables(first, ledger, with_history=False)
    except GapctlError as error:
        return FirstQuestion(asked, note=str(error))
    name = f"{first.sweep.spec.name} ({first.sweep.scale_name_or_base})"
    if tables.trials.is_empty():
        return FirstQuestion(asked, name, note=f"{ledger.root} has no finished training of {name}")
    return FirstQuestion(asked, name, analyze_tables(first, tables, ledger, with_first=False).verdicts)


def _rebuild_first_plan(plan: Plan, ledger: Ledger) -> Plan:
    """Rebuild the plan of the question that this plan's sweep asks again, as declared where the ledger kept that.

    Use this plan's scale where the question was asked at it, else the only scale that it was asked at. Raise
    InputError, or WorkError for a damaged ledger, where there is no such plan.
    """
    asked = str(plan.sweep.spec.asks_again)
    name, _, when = asked.partition("@")
    declaration = ledger.read_declaration(name)
    if declaration is None:
        raise InputError(f"{ledger.root} holds no sweep {name}")
    scale, path = _choose_declared_scale(plan, declaration, ledger), ledger.locate_declaration(name)
    try:
        first = rebuild_declared_plan(declaration, scale, path)
    except InputError:
        first = rebuild_plan(declaration, scale, path)
    found = first.sweep.hypotheses_sha256
    if "-" not in when and not found.startswith(when):
        raise InputError(f"{name} in {ledger.root} has the hypotheses {found[: len(when)]}, not {when}")
    if found == plan.sweep.hypotheses_sha256:
        _refuse_same_question(plan, first, ledger)
    return first


def _refuse_same_question(plan: Plan, first: Plan, ledger: Ledger) -> None:
    """Raise InputError where a first question of the same hypotheses has no answer but this sweep's own.

    The same hypotheses of other trainings, such as new seeds or another recipe, are a question asked again.
    """
    name = first.sweep.spec.name
    if name == plan.sweep.spec.name and hash_design(first) == hash_design(plan):
        raise InputError(f"{name} in {ledger.root} is this sweep, as it was declared there")
    if {trial.id for trial in first.trials} == {trial.id for trial in plan.trials}:
        raise InputError(f"{name} in {ledger.root} asks the same of the same trainings, so its answer is this one")


def _choose_declared_scale(plan: Plan, declaration: Declaration, ledger: Ledger) -> str:
    scales = list(declaration.trials)
    if plan.sweep.scale_name_or_base in scales:
        return plan.sweep.scale_name_or_base
    if len(scales) == 1:
        return scales[0]
    raise InputError(
        f"{declaration.sweep} in {ledger.root} has the scales {', '.join(scales)}, not {plan.sweep.scale_name_or_base}"
    )


def _attach_first_answer(first: FirstQuestion | None, verdict: Verdict) -> Verdict:
    """Return the verdict with the first answer to its hypothesis.

    That is the answer of the same id, or else the only one to the same test of the same response by the same factor.
    """
    if first is None:
        return verdict
    same = [one for one in first.answers if one.id == verdict.id]
    alike = [one for one in first.answers if _make_question_key(one) == _make_question_key(verdict)]
    found = same or (alike if len(alike) == 1 else [])
    if not found:
        return verdict
    one = found[0]
    answer = FirstAnswer(
        first.sweep, one.id, one.claim, one.verdict, one.estimate, one.ci, one.p, one.replicates, one.marks
    )
    return replace(verdict, first_answer=answer)


def _make_question_key(verdict: Verdict) -> tuple[str, str, str]:
    return verdict.test, verdict.response, verdict.factor


def judge_hypotheses(
    plan: Plan, tables: TrialTables, exploratory: bool, runs: str = DEFAULT_RUNS
) -> tuple[Verdict, ...]:
    """Judge all hypotheses of the plan's file by its trials, with one Holm correction over all."""
    spec, trials = plan.sweep.spec, tables.trials
    left = replace(find_remaining_trials(plan, trials["trial"], tables.damaged, runs), no_optimum=tables.no_optimum)
    with np.errstate(all="ignore"):  # a metric of 1e300 overflows to NaN, and the verdict reports that
        measured = [estimate_hypothesis_effect(hypothesis, trials, spec) for hypothesis in spec.hypotheses]
        corrected = apply_holm([item.estimate.p for item in measured], spec.alpha)
        claims = apply_holm([item.estimate.p_claim for item in measured], spec.alpha)
        each = zip(measured, corrected, claims, strict=True)
        # A seed may be missing because of its treatment, so a verdict on the others is exploratory.
        return tuple(
            build_verdict(
                item,
                p,
                claim,
                spec.alpha,
                left,
                exploratory=exploratory or not item.complete,
                redesigned=spec.asks_again is not None,
                not_learned=select_failed_checks(
                    tables.learning,
                    item.cells,
                    {path: level for path, level in item.hypothesis.where.items() if path in spec.vary},
                    list_hypothesis_metrics(item.hypothesis),
                ),
                two_modes=check_modes(item.hypothesis, trials, spec),
            )
            for item, p, claim in each
        )


def compute_curves(trials: pl.DataFrame, vary: FactorLevels, alpha: float) -> pl.DataFrame:
    """Return the long frame of dose-response curves that `results.AnalysisResults` describes.

    A seed counts at a level when its trainings with all combinations of the other factors are done; a level without
    such a seed has no row. For metrics that compare two seeds, pairs of seeds are counted. Intervals are Student's at
    level 1 - alpha. Bits of captions, which follow from the configuration, have no curves.
    """
    known = [name for name in list_metric_columns(trials) if not name.startswith("information/")]  # no responses
    alone = [name for name in known if not is_seed_pair_metric(name)]
    paired = [name for name in known if is_seed_pair_metric(name)]
    parts = [
        _compute_curve(rows, vary, factor, levels, metrics, each, alpha)
        for rows, metrics, each in ((trials, alone, 1), (replace_seeds_by_pair(trials), paired, 2))
        for factor, levels in vary.items()
        if metrics
    ]
    return pl.concat([pl.DataFrame(schema=CURVE_SCHEMA), *parts])


def _compute_curve(
    trials: pl.DataFrame,
    vary: FactorLevels,
    factor: str,
    levels: Sequence[Level],
    metrics: Sequence[str],
    each: int,
    alpha: float,
) -> pl.DataFrame:
    cells = [{factor: level} for level in levels]
    trainings = count_arms_per_cell(vary, cells[0]) * each
    complete = compute_cell_means(trials, vary, cells, metrics).filter(pl.col("trainings") == trainings)
    by_seed = complete.unpivot(metrics, index=["seed", "position"], variable_name="metric", value_name="value")
    found = (
        by_seed.filter(pl.col("value").is_finite())
        .group_by("position", "metric", maintain_order=True)
        .agg(mean=pl.col("value").mean(), spread=pl.col("value").std(), seeds=pl.len().cast(pl.Int64))
        .sort("metric", "position")
    )
    spread = found["spread"].fill_null(math.nan).to_numpy()
    half_widths = compute_half_width(spread, found["seeds"].to_numpy(), alpha)
    half = pl.Series("half", half_widths, pl.Float64).fill_nan(None)
    names = pl.Series("level", [str(levels[position]) for position in found["position"]], pl.String)
    return found.with_columns(
        pl.lit(factor).alias("factor"), names, low=pl.col("mean") - half, high=pl.col("mean") + half
    ).select(pl.col(name).cast(dtype) for name, dtype in CURVE_SCHEMA.items())
