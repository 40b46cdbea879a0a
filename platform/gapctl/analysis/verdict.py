"""Build the verdict on a hypothesis, once the p-values of all hypotheses of its file are known.

1. `build_verdict` applies the decision rule and fills in the `Verdict`.
2. `explain_verdict` writes its one-sentence reason: what the seeds' effects are (`describe_seed_effects`), what the
   interval and p mean, and which seeds were left out (`explain_excluded_seeds`). For a cohort of models it names taus
   over other pairs (`_describe_beside`). Where Page's test of order leaves a
   trend open, it names the levels that stand against the order (`_explain_disorder`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from gapctl.analysis.cohort import CohortEstimate
from gapctl.analysis.estimates import (
    NO_MEDIATION,
    Direction,
    EffectEstimate,
    compute_prediction_interval,
    compute_tie_tolerance,
    count_minimum_sign_test_seeds,
    count_sides,
    is_significant,
    rank_values,
)
from gapctl.analysis.hypothesis_effects import (
    HolmPValue,
    HypothesisResult,
    determine_refutation_kind,
    estimate_seeds_needed,
    is_beyond_smallest_effect,
    is_short_of,
    judge_interval,
    orient_interval_by_direction,
)
from gapctl.analysis.learning import ArmCheck
from gapctl.analysis.monotone import find_reversed_steps
from gapctl.analysis.paired_responses import LARGEST_RESPONSE, PairedResponses, UnusableResponse
from gapctl.analysis.results import (
    UNKNOWN_INTERVAL,
    EstimateWithInterval,
    Interval,
    Outcome,
    RemainingTrials,
    ReversedStep,
    Verdict,
)
from gapctl.analysis.two_modes import SecondMode
from gapctl.config.hypotheses import Correlation, Equivalence, Hypothesis, Mediation, Prediction, Threshold, Trend
from gapctl.plan.plan import Trial
from gapctl.text import format_count_with_noun, format_first_names, join_and, join_or

EFFECT_VERBS = {1: ("rises", "rise"), -1: ("falls", "fall"), 0: ("does not change", "do not change")}
MOST_NAMED = 3


class ReplicateName(NamedTuple):
    """The name of a replicate, in the singular and the plural."""

    one: str
    many: str


def build_verdict(
    measured: HypothesisResult,
    p: HolmPValue,
    claim: HolmPValue,
    alpha: float,
    remaining: RemainingTrials,
    *,
    exploratory: bool,
    redesigned: bool = False,
    not_learned: tuple[ArmCheck, ...] = (),
    two_modes: tuple[SecondMode, ...] = (),
) -> Verdict:
    """Apply the decision rule; `p` and `claim` are the corrected p of the direction and of the whole claim."""
    hypothesis, found, direction = measured.hypothesis, measured.estimate, measured.direction
    smallest = hypothesis.smallest_effect
    outcome = judge_interval(found.ci, smallest, direction, claim.p, alpha, found.rounding, found.p_refuting)
    noun = _name_noun(measured)
    # Nobody can train more public models, and further levels are not like more seeds: no number of them is asked for.
    extrapolates = outcome == "inconclusive" and noun not in ("model", LEVEL)
    needed = estimate_seeds_needed(found, smallest, direction, alpha, claim.level) if extrapolates else None
    each = 1 if measured.predicted else measured.responses.each
    refuted_as = (
        determine_refutation_kind(found.ci, smallest, direction, found.rounding) if outcome == "refuted" else None
    )
    mediated = measured.mediated or NO_MEDIATION
    return Verdict(
        id=hypothesis.id,
        claim=hypothesis.claim,
        test=hypothesis.test,
        response=hypothesis.response,
        factor=hypothesis.against if isinstance(hypothesis, Correlation) else getattr(hypothesis, "factor", ""),
        direction=direction,
        smallest_effect=smallest,
        verdict=outcome,
        seeds=len(found.effects_S) * each,
        trials=measured.trials,
        seeds_needed=None if needed is None else needed * each,
        seeds_out_of_order=(
            each * len(_find_reversals(measured).seeds) if _is_open_by_order(measured, outcome, p, alpha) else 0
        ),
        exploratory=exploratory,
        reason=explain_verdict(measured, outcome, p, claim, alpha, remaining),
        p=claim.p,
        p_direction=p.p,
        replicates=len(found.effects_S),
        refuted_as=refuted_as,
        redesigned=redesigned,
        not_learned=not_learned,
        two_modes=two_modes,
        reversed_steps=_list_reversed_steps(measured, alpha),
        source=hypothesis.source,
        where=dict(hypothesis.where),
        estimate=found.value,
        ci=found.ci,
        ci_bootstrap=found.ci_bootstrap,
        standardised=math.nan if measured.cohort or measured.predicted else found.standardised,
        standardised_pooled=found.standardised_pooled,
        p_direction_before_holm=found.p,
        p_test=found.p_test,
        p_claim=found.p_claim,
        p_permutation=found.p_permutation,
        p_refuting=found.p_refuting,
        between=getattr(hypothesis, "between", ()),
        given=tuple(hypothesis.given) if isinstance(hypothesis, Correlation) else (),
        value=hypothesis.value if isinstance(hypothesis, Threshold) else math.nan,
        mediator=hypothesis.mediator if isinstance(hypothesis, Mediation) else None,
        mediator_levels=(hypothesis.free, hypothesis.fixed) if isinstance(hypothesis, Mediation) else (),
        effect_free=mediated.free.value,
        effect_free_ci=mediated.free.ci,
        effect_fixed=mediated.fixed.value,
        effect_fixed_ci=mediated.fixed.ci,
        share_mediated=mediated.share,
        share_mediated_ci=mediated.share_ci,
        cohort=None if measured.cohort is None else measured.cohort.summary,
        replicate_noun=noun,
        prediction=_predict_effect(found, hypothesis, alpha) if noun == "recipe" else UNKNOWN_INTERVAL,
        predictors=tuple(hypothesis.predictors) if isinstance(hypothesis, Prediction) else (),
        beyond=tuple(hypothesis.beyond) if isinstance(hypothesis, Prediction) else (),
        forecast=None if measured.predicted is None else measured.predicted.summary,
    )


def _list_reversed_steps(measured: HypothesisResult, alpha: float) -> tuple[ReversedStep, ...]:
    hypothesis = measured.hypothesis
    if not isinstance(hypothesis, Trend):
        return ()
    values_SL, levels = measured.responses.values_SC, [cell[hypothesis.factor] for cell in measured.cells]
    rounding = float(compute_tie_tolerance(values_SL).max(initial=0.0))
    slope: Direction = "increasing" if measured.estimate.value > 0 else "decreasing"
    return find_reversed_steps(values_SL, levels, slope, hypothesis.smallest_effect, alpha, rounding)


def _predict_effect(found: EffectEstimate, hypothesis: Hypothesis, alpha: float) -> Interval:
    """Return the interval of a new recipe's effect; a correlation's lies within -1 and 1."""
    low, high = compute_prediction_interval(found.effects_S, alpha, found.least_spread)
    return Interval(max(-1.0, low), min(1.0, high)) if isinstance(hypothesis, Correlation) else Interval(low, high)


def explain_verdict(
    measured: HypothesisResult,
    verdict: Outcome,
    p: HolmPValue,
    claim: HolmPValue,
    alpha: float,
    remaining: RemainingTrials,
) -> str:
    """Explain a verdict in one sentence, for a researcher who sees the numbers beside it."""
    clauses = explain_excluded_seeds(measured, remaining)
    if len(measured.estimate.effects_S):
        meaning = _explain_outcome(measured, verdict, p, claim, alpha)
        clauses = [
            *describe_seed_effects(measured),
            meaning,
            *_describe_beside(measured),
            *_describe_share(measured),
            *(_explain_disorder(measured) if _is_open_by_order(measured, verdict, p, alpha) else []),
            *_explain_p_test(measured, verdict, claim),
            *clauses,
        ]
    elif measured.correlated and measured.correlated.too_few and measured.responses.seeds:
        arms = measured.correlated.grid.arms
        clauses.insert(0, f"nothing can be told apart: the given metrics leave no order among {arms} arms")
    elif measured.cohort:
        clauses.insert(0, measured.cohort.note)
    elif measured.predicted and measured.predicted.note:
        clauses.insert(0, measured.predicted.note)
    else:
        clauses.insert(
            0, f"No {measured.responses.noun if measured.predicted else name_replicate(measured).one} can be judged yet"
        )
    if measured.hypothesis.where:
        held = ", ".join(f"{strip_path_prefix(path)}={level}" for path, level in measured.hypothesis.where.items())
        clauses[0] = (
            f"among {'models' if measured.cohort else 'trainings'} with {held}, {clauses[0][0].lower()}{clauses[0][1:]}"
        )
    text = "; ".join(clauses)
    return f"{text[0].upper()}{text[1:]}."


def _explain_outcome(
    measured: HypothesisResult, verdict: Outcome, p: HolmPValue, claim: HolmPValue, alpha: float
) -> str:
    found, hypothesis, direction = measured.estimate, measured.hypothesis, measured.direction
    if len(found.effects_S) < 2:
        return f"an interval needs at least two {name_replicate(measured).many}"
    if measured.cohort and math.isnan(found.ci.low):
        return "too few of them can be left out in turn for an interval"
    if measured.predicted and math.isnan(found.ci.low):
        return "where one more level is left out nothing remains to forecast, so there is no interval"
    smallest = f"the smallest effect of {format_plain_number(hypothesis.smallest_effect)}"
    inside = f"the interval lies within {smallest} on both sides"
    if verdict == "supported":
        return inside if direction == "neither" else f"the interval lies beyond {smallest}"
    if verdict == "refuted":
        if direction == "neither":
            return f"the whole interval lies beyond {smallest}"
        zero = format_plain_number(hypothesis.value) if isinstance(hypothesis, Threshold) else "zero"
        return _explain_refutation(
            orient_interval_by_direction(found.ci, direction), hypothesis.smallest_effect, smallest, zero
        )
    if is_beyond_smallest_effect(found.ci, hypothesis.smallest_effect, direction, found.rounding):
        where = inside if direction == "neither" else f"the interval lies beyond {smallest}"
        return f"{where}, but {_name_failed_p(measured, p, claim, alpha)}, not below {format_plain_number(alpha)}"
    if is_short_of(found.ci, hypothesis.smallest_effect, direction, found.rounding):
        p_of_arms = f"p of a tau that large over arms like these is {format_plain_number(found.p_refuting)}"
        return f"the interval lies short of {smallest}, but {p_of_arms}, not below {format_plain_number(alpha / 2)}"
    if found.agree and not (measured.correlated or measured.cohort or measured.predicted):
        return f"that is {smallest} itself, neither beyond nor short of it"
    return f"the interval reaches from effects short of {smallest} to effects beyond it"


def _name_failed_p(measured: HypothesisResult, p: HolmPValue, claim: HolmPValue, alpha: float) -> str:
    """Name the p that is not significant: that of the direction, or that of an effect as large as claimed."""
    if measured.direction == "neither" or not is_significant(p.p, alpha):
        order = " of the order of the levels (Page's test)" if measured.estimate.p_test == "page" else ""
        return f"p{order} after Holm is {format_plain_number(p.p)}"
    return f"p of an effect beyond it, after Holm, is {format_plain_number(claim.p)}"


def _is_open_by_order(measured: HypothesisResult, verdict: Outcome, p: HolmPValue, alpha: float) -> bool:
    """Return whether only Page's test keeps a trend open: the interval alone would support it."""
    found = measured.estimate
    beyond = is_beyond_smallest_effect(
        found.ci, measured.hypothesis.smallest_effect, measured.direction, found.rounding
    )
    return verdict == "inconclusive" and found.p_test == "page" and beyond and not is_significant(p.p, alpha)


class _Reversals(NamedTuple):
    """Where a trend's responses step against its direction.

    `seeds` are the rows with such a step. `counts` has the number of seeds for each pair of neighbouring levels, by the
    place of the lower one.
    """

    seeds: tuple[int, ...]
    counts: Mapping[int, int]


def _find_reversals(measured: HypothesisResult) -> _Reversals:
    values_SL = measured.responses.values_SC
    steps_SL = np.diff(rank_values(values_SL, compute_tie_tolerance(values_SL)), axis=1)
    against_SL = steps_SL > 0 if measured.direction == "decreasing" else steps_SL < 0
    counts = {place: int(count) for place, count in enumerate(against_SL.sum(axis=0)) if count}
    return _Reversals(tuple(np.flatnonzero(against_SL.any(axis=1)).tolist()), counts)


def _explain_disorder(measured: HypothesisResult) -> list[str]:
    """Name the seeds and the neighbouring levels that stand against the declared order; [] where none do."""
    hypothesis, found = measured.hypothesis, _find_reversals(measured)
    if not isinstance(hypothesis, Trend) or not found.seeds:
        return []
    name, every = name_replicate(measured), len(measured.estimate.effects_S)
    levels = [cell[hypothesis.factor] for cell in measured.cells]
    most = sorted(found.counts, key=lambda place: (-found.counts[place], place))[:MOST_NAMED]
    verb = "rises" if measured.direction == "decreasing" else "falls"
    steps = [f"from {levels[place]} to {levels[place + 1]} in {found.counts[place]} of them" for place in most]
    more = len(found.counts) - len(most)
    listed = join_and([*steps, *([f"{more} more such step{'' if more == 1 else 's'}"] if more else [])])
    where = f"{len(found.seeds)} of {every} {name.many}"
    return [f"the levels are out of order in {where}: {hypothesis.response} {verb} {listed}"]


def _explain_refutation(ci: Interval, size: float, smallest: str, zero: str) -> str:
    if ci.low > -size:
        return f"every effect in the interval is smaller than {smallest}"
    if ci.high < 0:
        return f"the whole interval lies on the other side of {zero}"
    return f"no effect in the interval reaches {smallest} in the declared direction"


def _describe_share(measured: HypothesisResult) -> list[str]:
    hypothesis, mediated = measured.hypothesis, measured.mediated
    if not isinstance(hypothesis, Mediation) or mediated is None or len(mediated.free.effects_S) < 2:
        return []
    if math.isnan(mediated.share_ci.low):
        free = f"{strip_path_prefix(hypothesis.mediator)}={hypothesis.free}"
        return [f"with {free} there may be no effect, so it has no share"]
    share, low, high = format_numbers([100 * value for value in (mediated.share, *mediated.share_ci)])
    return [f"the share of the effect that is mediated is {share} % ({low} % to {high} %)"]


def _explain_p_test(measured: HypothesisResult, verdict: Outcome, claim: HolmPValue) -> list[str]:
    found, hypothesis = measured.estimate, measured.hypothesis
    if isinstance(hypothesis, Correlation):
        return _explain_least_permutation_p(measured, claim)
    if isinstance(hypothesis, Prediction):
        return []
    if found.agree:
        return [_explain_sign_test(measured, verdict, claim)]
    if hypothesis.test == "trend" and found.p_test == "t":
        return ["as Page's test needs three levels, p is that of the slopes' t test"]
    return []


def _explain_sign_test(measured: HypothesisResult, verdict: Outcome, claim: HolmPValue) -> str:
    """Explain that the sign test decides, and where so few seeds can never satisfy it."""
    found, direction, smallest = measured.estimate, measured.direction, measured.hypothesis.smallest_effect
    which = "p of the claim" if found.p_test == "page" else "p"
    name = name_replicate(measured)
    clause = f"as the {name.many} agree exactly, {which} is the sign test's"
    fewest = count_minimum_sign_test_seeds(direction, claim.level)
    waits = verdict == "inconclusive" and is_beyond_smallest_effect(found.ci, smallest, direction, found.rounding)
    if waits and len(found.effects_S) < fewest:
        return (
            f"{clause}, which cannot fall below {format_plain_number(claim.level)} with fewer than {fewest} {name.many}"
        )
    return clause


def _explain_least_permutation_p(measured: HypothesisResult, claim: HolmPValue) -> list[str]:
    """Explain where no result over these arms could have been significant."""
    if measured.correlated is None:
        return []
    grid = measured.correlated.grid
    least = grid.compute_least_p(count_sides(measured.direction))
    if is_significant(least, claim.level):
        return []
    kept = ", where levels that are numbers keep their order or reverse it" if grid.has_doses else ""
    ways = f"{grid.counted:,} ways to permute the levels of {grid.arms} arms{kept}"
    return [f"p cannot fall below {format_plain_number(least)}, as it is counted over {ways}"]


def describe_seed_effects(measured: HypothesisResult) -> list[str]:
    """Describe the seeds' own effects; for a mediation also the treatment's effect with the mediator free and fixed."""
    hypothesis, found, name = measured.hypothesis, measured.estimate, name_replicate(measured)
    if measured.cohort:
        return [_describe_cohort(measured.cohort)]
    if isinstance(hypothesis, Prediction) and measured.predicted:
        return [_describe_forecasts(hypothesis, measured)]
    if isinstance(hypothesis, Correlation):
        return [_describe_range("tau", found, name)]
    if isinstance(hypothesis, Equivalence):
        return [_describe_range("the difference", found, name)]
    if isinstance(hypothesis, Threshold):
        return [_describe_sides_of_value(hypothesis, found, name)]
    if isinstance(hypothesis, Mediation) and measured.mediated:
        return [_describe_both_arms(measured, hypothesis), _describe_range("the difference between these", found, name)]
    return [_describe_direction(hypothesis, found, name)]


def _describe_forecasts(hypothesis: Prediction, measured: HypothesisResult) -> str:
    """Describe from what the levels were forecast, and how far off the forecasts were with and without it."""
    assert measured.predicted is not None
    found = measured.predicted.summary
    assert found is not None
    levels = f"{len(found.levels)} levels of {strip_path_prefix(hypothesis.factor)}"
    seeds = format_count_with_noun(found.seeds, found.noun)
    start = f"by {join_and(hypothesis.beyond)} alone" if hypothesis.beyond else "by the mean of the others"
    before, after = format_numbers([found.error_before, found.error])
    far = max(found.levels, key=lambda one: abs(one.response - one.forecast))
    measured_far, forecast_far = format_numbers([far.response, far.forecast])
    return (
        f"over {levels}, each left out in turn at its mean over {seeds}, the root mean squared error of forecasts is "
        f"{before} {start} and {after} with {join_and(hypothesis.predictors)}; farthest off is {far.level}, "
        f"forecast as {forecast_far} and measured as {measured_far}"
    )


SCOPE_WORDS: Final[Mapping[str, str]] = {
    "overall": "over all pairs",
    "given_covariates": "over all pairs, beside what is given",
    "within_strata": "within strata",
    "between_strata": "between strata",
}


def _describe_cohort(cohort: CohortEstimate) -> str:
    """Describe which models were compared, and their tau."""
    found = cohort.summary
    alone = f", {found.singletons} of one model" if found.singletons else ""
    merged = f" as {found.units}, those of one lineage at their mean," if found.units < found.models else ""
    models = f"over {found.models} models{merged} in {format_count_with_noun(found.strata, 'stratum', 'strata')}{alone}"
    tau = f"{models}, tau is {format_plain_number(cohort.estimate.value)} {SCOPE_WORDS[found.scope]}"
    if len(found.sets) < 2:
        return tau
    taus = sorted((one.tau.value, one.name) for one in found.sets)
    (low, first), (high, last) = taus[0], taus[-1]
    lowest, highest = format_numbers([low, high])
    return f"{tau}, the mean of {len(taus)} sets, from {lowest} ({first}) to {highest} ({last})"


def _describe_beside(measured: HypothesisResult) -> list[str]:
    """Describe tau over the pairs that the verdict does not compare, and with a lineage or stratum left out."""
    if measured.cohort is None:
        return []
    found = measured.cohort.summary
    others = {"within_strata": found.within, "between_strata": found.between, "overall": found.overall}
    skipped = {"given_covariates": "overall"}.get(found.scope, found.scope)
    shown = [
        f"{SCOPE_WORDS[scope]} {_format_interval(one)}"
        for scope, one in others.items()
        if scope != skipped and math.isfinite(one.value)
    ]
    clauses = [f"tau is {join_and(shown)}"] if shown else []
    name, left = "model or lineage", found.lineages
    if found.scope != "within_strata":
        name, left = "stratum", found.strata_left_out
    if left is not None:
        low, high, without = format_numbers([left.low, left.high, left.without_it])
        clauses.append(f"with one {name} left out it runs from {low} to {high} ({without} without {left.most})")
    return clauses


def _format_interval(found: EstimateWithInterval) -> str:
    value, low, high = (f"{number:.2f}" for number in found)
    return value if math.isnan(found.low) else f"{value} ({low} to {high})"


def name_replicate(measured: HypothesisResult) -> ReplicateName:
    """Return the name of a seed, a level or a model of a cohort, or of a pair of seeds where two are compared."""
    noun = _name_noun(measured)
    if measured.responses.each == 1 or measured.predicted:
        return ReplicateName(noun, f"{noun}s")
    return ReplicateName(f"pair of {noun}s", f"pairs of {noun}s")


LEVEL: Final = "level"
"""What a replicate of a prediction is."""


def _name_noun(measured: HypothesisResult) -> str:
    if measured.predicted:
        return LEVEL
    return "model" if measured.cohort else measured.responses.noun


def format_subject(count: int, name: ReplicateName) -> str:
    """Return `All 3 seeds`, or a shorter phrase for one or two."""
    return {1: f"The only complete {name.one}", 2: f"Both {name.many}"}.get(count, f"All {count} {name.many}")


def _describe_direction(hypothesis: Hypothesis, found: EffectEstimate, name: ReplicateName) -> str:
    effects = found.effects_S.tolist()
    unit = f" per unit of {strip_path_prefix(hypothesis.factor)}" if isinstance(hypothesis, Trend) else ""
    signs = [int(np.sign(effect)) for effect in effects]
    if len(set(signs)) == 1:
        return (
            f"{format_subject(len(effects), name)} "
            f"{EFFECT_VERBS[signs[0]][len(effects) > 1]}{_format_amount(found)}{unit}"
        )
    wanted = -1 if getattr(hypothesis, "direction", "") == "decreasing" else 1
    count = signs.count(wanted)
    low, high = format_numbers([min(effects), max(effects)])
    verb = EFFECT_VERBS[wanted][count != 1]
    return f"{count or 'None'} of {len(effects)} {name.many} {verb}, the effects running from {low} to {high}{unit}"


def _describe_sides_of_value(hypothesis: Threshold, found: EffectEstimate, name: ReplicateName) -> str:
    """Describe on which side of the value the seeds lie, and how far from it."""
    effects, value = found.effects_S.tolist(), format_plain_number(hypothesis.value)
    verb = "lies" if len(effects) == 1 else "lie"
    signs = [int(np.sign(effect)) for effect in effects]
    if len(set(signs)) == 1:
        where = {1: f"above {value},", -1: f"below {value},", 0: f"at {value} itself"}[signs[0]]
        return f"{format_subject(len(effects), name)} {verb} {where}{_format_amount(found)}"
    side, wanted = ("below", -1) if hypothesis.direction == "decreasing" else ("above", 1)
    count = signs.count(wanted)
    low, high = format_numbers([min(effects), max(effects)])
    lying = f"{count or 'None'} of {len(effects)} {name.many} {'lies' if count == 1 else 'lie'} {side} {value}"
    return f"{lying}, the distances running from {low} to {high}"


def _describe_range(what: str, found: EffectEstimate, name: ReplicateName) -> str:
    effects = found.effects_S.tolist()
    low, high = format_numbers([min(effects), max(effects)])
    if len(effects) == 1:
        return f"in the only complete {name.one} {what} is {low}"
    where = f"in both {name.many}" if len(effects) == 2 else f"in all {len(effects)} {name.many}"
    if found.agree:
        return f"{where} {what} is exactly {low}"
    if low == high:
        return f"{where} {what} is {low}"
    return f"over {len(effects)} {name.many} {what} runs from {low} to {high}"


def _describe_both_arms(measured: HypothesisResult, hypothesis: Mediation) -> str:
    assert measured.mediated is not None
    mediator, treatment = strip_path_prefix(hypothesis.mediator), strip_path_prefix(hypothesis.factor)
    free, fixed = format_numbers([measured.mediated.free.value, measured.mediated.fixed.value])
    at_free, at_fixed = f"{mediator}={hypothesis.free}", f"{mediator}={hypothesis.fixed}"
    return f"the effect of {treatment} is {free} with {at_free} and {fixed} with {at_fixed}"


def _format_amount(found: EffectEstimate) -> str:
    sizes = np.sort(np.abs(found.effects_S))
    low, high = format_numbers([sizes[0], sizes[-1]])
    if sizes[-1] == 0:
        return ""
    if found.agree:
        return f" by exactly {low}"
    return f" by {low}" if low == high else f" by {low} to {high}"


def explain_excluded_seeds(measured: HypothesisResult, remaining: RemainingTrials) -> list[str]:
    """List a clause for each reason why planned seeds, or models of a cohort, do not count."""
    if measured.cohort:
        left_out = measured.cohort.summary.left_out.items()
        return [f"{_name_models(labels)} left out: {why}" for why, labels in left_out]
    responses = measured.responses
    clauses = _explain_missing_seeds(measured, remaining) if responses.missing else []
    if responses.not_finite:
        why = (
            [f"no training recorded {join_or(responses.absent)}"]
            if responses.absent
            else _describe_unusable_responses(responses.odd, remaining)
        )
        clauses.append(
            f"{_name_replicates(responses.not_finite, responses, remaining)} left out as {' and '.join(why)}"
        )
    hypothesis, correlated = measured.hypothesis, measured.correlated
    if isinstance(hypothesis, Correlation) and correlated and correlated.constant:
        same = f"{join_or([hypothesis.response, hypothesis.against])} is the same in all arms compared"
        nothing = ", or nothing of it is left beside the given metrics" if hypothesis.given else ""
        clauses.append(f"{_name_replicates(correlated.constant, responses, remaining)} left out as {same}{nothing}")
    return clauses


def _name_models(labels: Sequence[str]) -> str:
    verb = "is" if len(labels) == 1 else "are"
    return f"{format_count_with_noun(len(labels), 'model')} ({format_first_names(labels, MOST_NAMED)}) {verb}"


def _explain_missing_seeds(measured: HypothesisResult, remaining: RemainingTrials) -> list[str]:
    responses = measured.responses
    done = f"{responses.found} of {responses.planned} trainings are done"
    clauses = [f"{_name_replicates(responses.missing, responses, remaining)} left out as {done}"]
    untrained, damaged = remaining.of(measured.cells, measured.hypothesis.where)
    if untrained:
        clauses.append(f"`{remaining.command}` trains the other {len(untrained)} ({_join_labels(untrained)})")
    if damaged:
        clauses.append(f"{len(damaged)} cannot be read ({_join_labels(damaged)}): move their folders away first")
    return clauses


def _join_labels(trials: Sequence[Trial]) -> str:
    named = ", ".join(trial.label for trial in trials[:MOST_NAMED])
    more = len(trials) - MOST_NAMED
    return f"{named} and {more} more" if more > 0 else named


def _describe_unusable_responses(odd: Sequence[UnusableResponse], remaining: RemainingTrials) -> list[str]:
    """Describe for each metric what is wrong with it, in which trainings, and why where that is known."""
    by_fault: dict[tuple[str, str, str], list[UnusableResponse]] = {}
    for one in odd:
        why = remaining.no_optimum.get((one.metric, one.label), "") if one.value is None else ""
        fault = "is not known" if why else _describe_fault(one.value)
        by_fault.setdefault((one.metric, fault, why), []).append(one)
    return [
        f"{metric} {fault} {_locate_responses(found)}{f', as {why}' if why else ''}"
        for (metric, fault, why), found in by_fault.items()
    ]


def _describe_fault(value: float | None) -> str:
    if value is None:
        return "was not recorded"
    return f"is beyond {LARGEST_RESPONSE:g}" if math.isfinite(value) else "is not a finite number"


def _locate_responses(odd: Sequence[UnusableResponse]) -> str:
    named = [one.label if one.value is None else f"{one.value:g} in {one.label}" for one in odd[:MOST_NAMED]]
    more = len(odd) - MOST_NAMED
    listed = ", ".join([*named, *([f"{more} more"] if more > 0 else [])])
    return f"in {listed}" if odd[0].value is None else f"({listed})"


def _name_replicates(first: Sequence[int], responses: PairedResponses, remaining: RemainingTrials) -> str:
    """Name the seeds, recipes, or models of a cohort, of these replicates."""
    seeds = [seed + more for seed in first for more in range(responses.each)]
    if responses.noun == "model":
        return _name_models([remaining.models.get(seed, str(seed)) for seed in seeds])
    names = [str(seed) for seed in seeds]
    if len(names) == 1:
        return f"{responses.noun} {names[0]} is"
    return f"{responses.noun}s {join_and(names)} are"


def strip_path_prefix(path: str) -> str:
    """Return the last part of a dotted path."""
    return path.rsplit(".", 1)[-1]


def format_plain_number(value: float) -> str:
    """Format a number with three significant digits."""
    return f"{value:.3g}"


def format_numbers(values: Sequence[float]) -> list[str]:
    """Format numbers to compare: each with as many decimals as the largest needs for three significant digits."""
    largest = max(abs(value) for value in values)
    decimals = max(0, 2 - math.floor(math.log10(largest))) if largest else 0
    return [f"{value:.{decimals}f}" for value in values]
