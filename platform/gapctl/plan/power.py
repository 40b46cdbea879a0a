"""Warn before training of hypotheses that this design leaves open, or open to one verdict alone.

1. `list_verdict_warnings` looks at seeds and arms, `list_cohort_verdict_warnings` at the strata of a cohort.
2. `describe_smallest_effects` puts each smallest effect in words of the design, and `list_smallest_effect_warnings`
   warns of those that the range of the response decides beforehand.
3. `list_few_step_warnings` looks at trainings too short to learn anything, `list_measurement_notes` at when and on
   what they measure, `list_notes_on_asking_itself_again` at a sweep that names itself as the one that it asks again.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from gapctl.config.arms import RANDOM_PERMUTATIONS, build_correlation_arm_grid
from gapctl.config.cohort import FEWEST_GROUPS, group_models_by_stratum
from gapctl.config.hypotheses import (
    Contrast,
    Correlation,
    Equivalence,
    Hypothesis,
    Mediation,
    Prediction,
    Threshold,
    Trend,
    list_hypothesis_metrics,
)
from gapctl.config.metrics import MetricRange, find_metric, is_seed_pair_metric
from gapctl.config.sweep import SweepFile
from gapctl.plan.plan import Plan, Trial, compute_by_arm
from gapctl.text import format_count_with_noun, format_first_names, join_and


def list_verdict_warnings(spec: SweepFile) -> list[str]:
    """List a sentence for each reason why hypotheses can have no verdict, or no support, or none as Holm's first."""
    if not spec.hypotheses:
        return []
    if spec.cohort is not None:
        strata = {name: len(models) for name, models in group_models_by_stratum(spec.cohort).items()}
        return list_cohort_verdict_warnings(spec.hypotheses, strata, spec.alpha)
    one = "1 seed gives estimates and no verdicts: a verdict needs at least 2 seeds, and 3 to be worth much"
    over_levels = sum(isinstance(item, Prediction) for item in spec.hypotheses)
    if over_levels:
        one += f"; those of {format_count_with_noun(over_levels, 'prediction')} are over levels, and need one"
    over_arms = (item for item in spec.hypotheses if isinstance(item, Correlation) and item.scope is None)
    few = (_check_arms(item, spec) for item in over_arms)
    return [
        *([one] if len(spec.replicate_numbers) == 1 else []),
        *_check_seed_pairs(spec),
        *(line for line in few if line),
    ]


def _check_seed_pairs(spec: SweepFile) -> list[str]:
    """Warn where metrics that compare two seeds have too few pairs: there are half as many as seeds."""
    asking = [item.id for item in spec.hypotheses if any(map(is_seed_pair_metric, list_hypothesis_metrics(item)))]
    seeds = spec.replicate_numbers
    pairs = sum(seed % 2 == 0 and seed + 1 in seeds for seed in seeds)
    if not asking or (pairs > 1 and 2 * pairs == spec.seeds):
        return []
    made = f"{spec.seeds} from {spec.first_seed} on make {pairs} pair{'' if pairs == 1 else 's'}"
    wanted = "expected an even first_seed and an even number of seeds, at least 4, for a verdict"
    return [f"{', '.join(asking)}: seeds are compared two by two (0 with 1, 2 with 3), and {made}: {wanted}"]


def _check_arms(hypothesis: Correlation, spec: SweepFile) -> str | None:
    """Warn where a correlation's permutation test, corrected by Holm over all hypotheses, may not reach alpha."""
    grid = build_correlation_arm_grid(spec.vary, hypothesis.where, hypothesis.given)
    least = grid.compute_least_p(2 if hypothesis.direction == "either" else 1)
    if not (limit := _explain_limit_of_holm(least, spec.alpha, len(spec.hypotheses))):
        return None
    more = "more factors, or a factor with named levels; numeric ones are only kept or reversed"
    return (
        f"{hypothesis.id}: p of a correlation over {grid.arms} arms cannot fall below {least:.2g}, so {limit}: vary "
        f"{more if grid.has_doses else 'more levels'}"
    )


def _explain_limit_of_holm(least: float, alpha: float, hypotheses: int) -> str:
    """Return what the least p that a test can have leaves of support after Holm; "" where it can be the first.

    Holm asks for p below alpha / (hypotheses - k) after k with a smaller p have passed.
    """
    after = next((k for k in range(hypotheses) if least < alpha / (hypotheses - k)), None)
    if after is None:
        return f"no result can support it, as that takes p below {alpha:.2g}"
    others = format_count_with_noun(after, "other")
    first = f"as the first of {hypotheses} hypotheses needs p below {alpha / hypotheses:.2g}"
    return f"Holm can support it only after {others} with a smaller p, {first}" if after else ""


def list_cohort_verdict_warnings(
    hypotheses: Sequence[Hypothesis], strata: Mapping[str, int], alpha: float
) -> list[str]:
    """List a sentence for each correlation over a cohort that may not reach support; `strata` counts their models."""
    lines = []
    for item in hypotheses:
        if not isinstance(item, Correlation) or item.where:  # which models `where` keeps is seen when they are judged
            continue
        if item.scope != "within_strata":
            lines.append(_explain_too_few_strata(item, strata))
        elif too_few := _explain_too_few_models_within_strata(item, strata):
            lines.append(too_few)
        elif item.direction != "weak":  # a weak relation is claimed by t tests
            lines.append(_explain_too_few_permutations(item, strata, alpha, len(hypotheses)))
    return [line for line in lines if line]


def _explain_too_few_strata(item: Correlation, strata: Mapping[str, int]) -> str:
    """Explain that there are too few strata to leave out in turn; "" where there are enough."""
    if len(strata) >= FEWEST_GROUPS:
        return ""
    found = f"{format_count_with_noun(len(strata), 'stratum gives', 'strata give')} no interval"
    return (
        f"{item.id}: {found} of a tau over models of different strata: expected at least {FEWEST_GROUPS}, and ten to "
        "be worth much"
    )


def _explain_too_few_models_within_strata(item: Correlation, strata: Mapping[str, int]) -> str:
    """Explain that strata compare too few models to leave out in turn; "" where there are enough."""
    compared = sum(count for count in strata.values() if count > 1)
    if compared >= FEWEST_GROUPS:
        return ""
    found = format_count_with_noun(compared, "model")
    return (
        f"{item.id}: {found} in strata of two or more give no interval of a tau within strata: expected at least "
        f"{FEWEST_GROUPS}"
    )


def _explain_too_few_permutations(item: Correlation, strata: Mapping[str, int], alpha: float, hypotheses: int) -> str:
    """Explain that a permutation test within strata may not reach alpha after Holm; "" where it can."""
    orders = math.prod(math.factorial(count) for count in strata.values())
    least = (2 if item.direction == "either" else 1) / min(orders, RANDOM_PERMUTATIONS + 1)
    if not (limit := _explain_limit_of_holm(least, alpha, hypotheses)):
        return ""
    alone = sum(count == 1 for count in strata.values())
    found = f"{format_count_with_noun(len(strata), 'stratum', 'strata')}, {alone} of one model"
    # Orders are drawn at random, so that p may lie a little below its mean over draws.
    return f"{item.id}: p by permutation within {found}, is at least about {least:.2g}, so {limit}: add models"


def describe_smallest_effects(spec: SweepFile) -> list[str]:
    """Describe each hypothesis' smallest effect by the levels that it compares, as the last part of their paths."""
    return [f"{item.id}: smallest effect {_describe_smallest(item, spec)}" for item in spec.hypotheses]


def _describe_smallest(item: Hypothesis, spec: SweepFile) -> str:
    size = f"{item.smallest_effect:.4g}"
    if isinstance(item, Correlation):
        size = f"less than {size} either way" if item.direction == "weak" else size
        scope = "" if item.scope is None else f", {item.scope.replace('_', ' ')}"
        return f"{size} of Kendall's tau with {item.against}{scope}"
    if isinstance(item, Threshold):
        side = {"increasing": "above", "decreasing": "below"}.get(item.direction, "above or below")
        return f"{size} {side} {item.value:.4g}"
    name = item.factor.rsplit(".", 1)[-1]
    if isinstance(item, Prediction):
        beyond = f" beyond {join_and(item.beyond)}" if item.beyond else ""
        over = f"{len(spec.vary[item.factor])} levels of {name}"
        return f"{size} of the squared error of forecasts, over {over}, from {join_and(item.predictors)}{beyond}"
    if isinstance(item, Trend):
        levels = _list_levels(item, spec)
        whole = f"{item.smallest_effect * (levels[-1] - levels[0]):.4g}"
        return f"{size} per unit of {name} = {whole} from {levels[0]:.10g} to {levels[-1]:.10g}"
    low, high = item.between
    if isinstance(item, Mediation):
        mediator = item.mediator.rsplit(".", 1)[-1]
        return f"{size} of the step from {name}={low} to {high}, at {mediator}={item.free} less at {item.fixed}"
    size = f"less than {size} either way" if isinstance(item, Equivalence) else size
    return f"{size} from {name}={low} to {high}"


def _list_levels(item: Trend, spec: SweepFile) -> list[float]:
    return sorted(float(level) for level in spec.vary[item.factor])


def list_smallest_effect_warnings(spec: SweepFile) -> list[str]:
    """List a sentence for each hypothesis that nothing can support, or nothing refute, by its metric's range alone."""
    return [line for item in spec.hypotheses if (line := _check_reach(item, spec))]


def _check_reach(item: Hypothesis, spec: SweepFile) -> str:
    metric = find_metric(item.response)
    if metric is None or isinstance(item, Correlation | Prediction):
        return ""
    effect, noun = _find_effect_range(item, metric.range, spec)
    smallest, direction = item.smallest_effect, "either" if isinstance(item, Equivalence) else item.direction
    above, below = effect, MetricRange(-effect.most, -effect.least)
    towards = {"increasing": [above], "decreasing": [below], "either": [above, below]}[direction]
    if all(side.most < smallest or math.isclose(side.most, smallest) for side in towards):
        where, never = "beyond", "refute" if isinstance(item, Equivalence) else "support"
    elif any(side.least > smallest or math.isclose(side.least, smallest) for side in towards):
        where, never = "short of", "refute"
    else:
        return ""
    why = f"{item.response} {_describe_range(metric.range)}, so that {noun} {_describe_range(effect)}"
    return f"{item.id}: no result lies {where} the smallest effect of {smallest:.4g}, so nothing can {never} it: {why}"


def _find_effect_range(
    item: Trend | Contrast | Equivalence | Mediation | Threshold, response: MetricRange, spec: SweepFile
) -> tuple[MetricRange, str]:
    """Return which effects responses in this range can have, and what the effect is of a response."""
    if isinstance(item, Threshold):
        return response.compute_difference_range(MetricRange(item.value, item.value)), f"its mean less {item.value:.4g}"
    difference = response.compute_difference_range(response)
    if isinstance(item, Mediation):
        return difference.compute_difference_range(difference), "the difference of two of its differences"
    if not isinstance(item, Trend):
        return difference, "its difference"
    levels = _list_levels(item, spec)
    apart = [level - sum(levels) / len(levels) for level in levels]
    # The steepest least-squares slope has the least response below the mean level, and the greatest above it.
    slope = difference.most * sum(value for value in apart if value > 0) / sum(value**2 for value in apart)
    name = item.factor.rsplit(".", 1)[-1]
    return MetricRange(-slope, slope), f"its slope from {name}={levels[0]:.10g} to {levels[-1]:.10g}"


def _describe_range(values: MetricRange) -> str:
    if math.isinf(values.most):
        return f"is at least {values.least:.4g}"
    if math.isinf(values.least):
        return f"is at most {values.most:.4g}"
    return f"lies between {values.least:.4g} and {values.most:.4g}"


FEWEST_STEPS: Final = 100
MOST_NAMED: Final = 3


def list_few_step_warnings(plan: Plan) -> list[str]:
    """List a sentence for each number of steps below `FEWEST_STEPS`, or below twice the warm-up's.

    Trainings of one step stand for untrained models where the plan has longer trainings, and are left out there.
    """
    trained = [trial for trial in plan.trainings if trial.config.train.steps > 1]
    asked = trained or [trial for trial in plan.trainings if trial.config.train.steps]
    by_words: dict[tuple[int, str], list[Trial]] = {}
    for trial, reason in zip(asked, compute_by_arm(asked, _explain_few_steps), strict=True):
        if reason:
            by_words.setdefault((trial.config.train.steps, reason), []).append(trial)
    return [
        f"few steps: {steps:,} in {_name_trials(trials, len(plan.trainings))}, {reason}; verdicts on models that learn "
        "nothing are marked *not learned*"
        for (steps, reason), trials in by_words.items()
    ]


def _explain_few_steps(trial: Trial) -> str:
    train = trial.config.train
    if train.steps < FEWEST_STEPS:
        return f"fewer than {FEWEST_STEPS} (raise train.samples or lower train.batch_size)"
    if train.steps < 2 * train.warmup_steps:
        return f"fewer than twice the {train.warmup_steps:,} of the warm-up (lower train.warmup)"
    return ""


def _name_trials(trials: Sequence[Trial], every: int) -> str:
    if len(trials) == every:
        return "each training"
    return f"{len(trials)} of {every} trainings ({format_first_names([trial.label for trial in trials], MOST_NAMED)})"


LOSS_METRIC: Final = "train/loss"


def list_measurement_notes(plan: Plan) -> list[str]:
    """List a sentence for trainings that measure nothing on their way, and for hypotheses about the training loss."""
    spec = plan.sweep.spec
    late = [trial for trial in plan.trainings if 0 < trial.config.train.samples < trial.config.evaluate.every]
    notes = []
    if late and len(late) == sum(trial.config.train.samples > 0 for trial in plan.trainings):
        every = sorted({trial.config.evaluate.every for trial in late})
        values = " to ".join(f"{value:,}" for value in dict.fromkeys([every[0], every[-1]]))
        notes.append(
            f"evaluate.every is {values}, in each training more than its train.samples: nothing is measured between "
            "the first and the last step"
        )
    asking = [item.id for item in spec.hypotheses if LOSS_METRIC in list_hypothesis_metrics(item)]
    if asking:
        notes.append(
            f"{', '.join(asking)}: {LOSS_METRIC} is of the pairs trained on, not of held-out ones, and the mean since "
            "the last evaluation (evaluate.every); it moves with train.batch_size and with its floor, train/loss_floor"
        )
    return notes


def list_notes_on_asking_itself_again(spec: SweepFile) -> list[str]:
    """List a sentence where a sweep names itself as the question that it asks again."""
    if spec.asks_again is None or spec.asks_again.partition("@")[0] != spec.name:
        return []
    own = f"asks_again is {spec.asks_again}, this sweep's own name"
    held = "the ledger holds what was declared under the name before the file was changed"
    return [f"{own}: a first answer stands beside its verdicts only where {held}"]
