"""Check whether trainings learned anything: their loss against guessing, their zero-shot accuracy against chance.

A training passes a check or fails it, or the check does not apply and states why. An arm fails where any of its seeds
does: a verdict averages over seeds, the one that learned nothing included.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from statistics import mean
from typing import Final, NamedTuple

from scipy import stats

from gapctl.config.arms import Arm, is_in_arm
from gapctl.config.hypotheses import Level
from gapctl.config.information import find_bayes_loss
from gapctl.config.trial import FACTOR_VALUES, LOSSES, Loss, MadData, TrialConfig, is_table
from gapctl.plan.plan import Plan, Trial, compute_by_arm
from gapctl.text import format_first_names

LOSS_METRIC: Final = "train/loss"
END_METRIC: Final = "train/loss_end"
"""The loss that is checked of tables, whose `train/loss` may be the mean over all steps from the first."""
OBJECT_METRIC: Final = "quality/object_accuracy"
LEAST_GAIN: Final = 0.02
"""The share of guessing's loss by which a training's loss must stay below it."""
CHANCE_P: Final = 0.001
"""The binomial test's p below which an accuracy is above chance.

One of a thousand trainings that learned nothing passes.
"""
TrainingMetrics = Mapping[str, float]


@dataclass(frozen=True)
class ArmCheck:
    """The result of one check, named by its metric, on an arm.

    `seeds` were checked, and `failed` are those that did not pass; `reason` describes the failures, or why none was
    checked. `steps` are the least steps of the arm's trainings. The check of the loss has its mean over seeds, and
    that of the least that any model can reach in the same trainings' batches, where that is known of each.
    """

    arm: str
    levels: Mapping[str, Level]
    check: str
    seeds: tuple[int, ...]
    failed: tuple[int, ...]
    reason: str
    steps: int
    loss: float | None = None
    loss_bayes: float | None = None


class _Criterion(NamedTuple):
    """What a metric must pass; `passes` is None where the check does not apply, and `text` then explains why."""

    passes: Callable[[float], bool] | None
    text: str


class _SeedCheck(NamedTuple):
    """One training by one check: `passed` is None where the check does not apply, and `criterion` then explains why."""

    seed: int
    passed: bool | None
    value: float
    criterion: str
    model: str = ""
    noun: str = "seed"


def run_learning_checks(plan: Plan, metrics: Mapping[str, TrainingMetrics]) -> tuple[ArmCheck, ...]:
    """Check every arm that has a finished training; `metrics` are those of finished trials and preparations by id.

    `train/loss` is the mean over the steps between the last two evaluations, or over all steps where there is one. For
    a trial of 0 steps, the training whose weights it measures is checked.
    """
    trainings = {trial.id: trial for trial in plan.trainings}
    arms: dict[str, list[Trial]] = {}
    for trial in plan.trials:
        if trial.id in metrics:
            arms.setdefault(label_arm(trial), []).append(trial)
    return tuple(check for trials in arms.values() for check in _check_arm(trials, trainings, metrics))


def select_failed_checks(
    checks: Sequence[ArmCheck], cells: Iterable[Arm], where: Arm, metrics: Sequence[str]
) -> tuple[ArmCheck, ...]:
    """Return the checks that arms of a comparison failed, of those that matter for hypotheses about these metrics.

    The loss and the object's accuracy always matter, another factor's accuracy where it is one of the metrics. Models
    after one step represent the beginning of training: they need not have learned where they are compared with longer
    ones.
    """
    wanted = (LOSS_METRIC, OBJECT_METRIC, *metrics)
    compared = list(cells)
    among = [
        check
        for check in checks
        if is_in_arm(check.levels, where) and any(is_in_arm(check.levels, cell) for cell in compared)
    ]
    trained = [check for check in among if check.steps > 1] or among
    return tuple(check for check in trained if check.failed and check.check in wanted)


def label_arm(trial: Trial) -> str:
    """Return a trial's label without its seed or model."""
    return trial.arm_label


def compute_guessing_loss(loss: Loss, batch_size: int) -> float:
    """Return the least loss of a model that gives all pairs of a batch the same similarity.

    Softmax: ln N. Sigmoid with the best bias: N times the entropy of one in N (arXiv 2303.15343, sec. 3.2).
    """
    if loss.kind == "clip":
        return math.log(batch_size)
    return math.log(batch_size) + (batch_size - 1) * math.log(batch_size / (batch_size - 1))


def _check_arm(
    trials: Sequence[Trial], trainings: Mapping[str, Trial], metrics: Mapping[str, TrainingMetrics]
) -> Iterable[ArmCheck]:
    first = trials[0]
    checked = [_find_measured_training(trial, trainings) for trial in trials]
    for name in (LOSS_METRIC, OBJECT_METRIC, *_list_caption_accuracies(checked[0].config)):
        criteria = compute_by_arm(checked, partial(_find_criterion, name))
        each = zip(trials, checked, criteria, strict=True)
        looks = [
            _check_metric_of_trial(name, trial, metrics.get(training.id), criterion)
            for trial, training, criterion in each
        ]
        seeds = tuple(look.seed for look in looks if look.passed is not None)
        failed = [look for look in looks if look.passed is False]
        reason = _describe_failures(name, failed, len(seeds)) if failed else "" if seeds else looks[0].criterion
        losses = [look.value for look in looks if name == LOSS_METRIC and math.isfinite(look.value)]
        yield ArmCheck(
            label_arm(first),
            dict(first.factors),
            name,
            seeds,
            tuple(look.seed for look in failed),
            reason,
            min(training.config.train.steps for training in checked),
            sum(losses) / len(losses) if losses else None,
            _average_bayes_loss(checked, looks) if name == LOSS_METRIC else None,
        )


def _average_bayes_loss(checked: Sequence[Trial], looks: Sequence[_SeedCheck]) -> float | None:
    """Average the Bayes losses, which recipes differ in, of the trainings whose loss is finite, or of all if none is.

    Return None where one is not known. The mean of equal ones is exactly theirs.
    """
    finite = [training for training, look in zip(checked, looks, strict=True) if math.isfinite(look.value)]
    found = compute_by_arm(finite or checked, lambda training: find_bayes_loss(training.config))
    known = [loss for loss in found if loss is not None]
    return mean(known) if len(known) == len(found) else None


def _find_measured_training(trial: Trial, trainings: Mapping[str, Trial]) -> Trial:
    """Return the training to check in a trial's place: the one whose weights it measures, or itself."""
    if trial.config.train.samples or trial.parent is None:
        return trial
    return trainings.get(trial.parent, trial)


def _list_caption_accuracies(config: TrialConfig) -> list[str]:
    """List the accuracies of the factors that every caption names beside the main one."""
    data = config.data
    if not isinstance(data, MadData):
        return []
    named = FACTOR_VALUES if data.captions.attributes == len(FACTOR_VALUES) - 1 else data.captions.fixed
    return [f"quality/accuracy_{factor}" for factor in named if factor != data.main_factor]


def _check_metric_of_trial(
    name: str, trial: Trial, metrics: TrainingMetrics | None, criterion: _Criterion
) -> _SeedCheck:
    passed, value, text = None, math.nan, criterion.text
    if metrics is None:
        text = "the training whose weights are measured has no result here"
    elif name not in metrics:
        text = f"{name} was not recorded"
    else:
        value = metrics.get(END_METRIC, metrics[name]) if name == LOSS_METRIC else metrics[name]
        passed = None if criterion.passes is None else criterion.passes(value)
    model = trial.model.name if trial.model else ""
    return _SeedCheck(trial.replicate, passed, value, text, model, trial.replicate_noun)


def _find_criterion(name: str, training: Trial) -> _Criterion:
    config = training.config
    return _find_loss_criterion(config) if name == LOSS_METRIC else _find_accuracy_criterion(name, config)


def _find_loss_criterion(config: TrialConfig) -> _Criterion:
    loss = config.loss
    if loss.has_terms:
        return _Criterion(None, "what is added to the contrastive loss has no known value for guessing")
    if loss.kind not in LOSSES:
        return _Criterion(None, f"loss.kind {loss.kind} has no known value for guessing")
    if loss.equal_captions == "masked":
        return _Criterion(None, "with equal captions masked, guessing has no one value")
    guessing = compute_guessing_loss(loss, config.train.batch_size)
    bayes = find_bayes_loss(config)
    if bayes is not None and bayes >= (1 - LEAST_GAIN) * guessing:
        return _Criterion(None, f"no model can get below {bayes:.3f} with such captions; guessing is {guessing:.3f}")
    text = f"not {LEAST_GAIN:.0%} below the {guessing:.3f} of guessing".replace("%", " %")
    return _Criterion(lambda value: value < (1 - LEAST_GAIN) * guessing, text)


def _find_accuracy_criterion(name: str, config: TrialConfig) -> _Criterion:
    data = config.data
    if not isinstance(data, MadData):
        return _Criterion(None, "how many classes there are is not in the ledger")
    if is_table(config):
        return _Criterion(None, "captions of a table have nothing in common that prompts could ask by")
    if config.evaluate.intervention != "none":
        return _Criterion(None, "it is of embeddings that an intervention moved")
    factor = data.main_factor if name == OBJECT_METRIC else name.removeprefix("quality/accuracy_")
    images, classes = config.evaluate.gallery, FACTOR_VALUES[factor]
    if float(classes) ** -images >= CHANCE_P:
        return _Criterion(None, f"{images} images are too few to tell any accuracy from chance")
    least = find_least_above_chance(images, classes)
    text = f"not above the {100 / classes:.3g} % of chance by {images:,} images"
    return _Criterion(lambda value: math.isfinite(value) and round(value / 100 * images) >= least, text)


@cache
def find_least_above_chance(images: int, classes: int) -> int:
    """Return the least number of right answers that guessing gives with a probability below `CHANCE_P`."""
    return int(stats.binom.isf(CHANCE_P, images, 1 / classes)) + 1


def _describe_failures(name: str, failed: Sequence[_SeedCheck], seeds: int) -> str:
    """Describe failures: `loss 4.852 in 1 of 5 seeds (3404), not 2 % below the 4.852 of guessing`."""
    values = sorted(look.value for look in failed)
    digits, unit = (3, "") if name == LOSS_METRIC else (1, " %")
    low, high = (f"{value:.{digits}f}" for value in (values[0], values[-1]))
    ran = low if low == high else f"{low} to {high}"
    noun = "model" if failed[0].model else failed[0].noun
    some = f"{len(failed)} of {seeds} {noun}s ({format_first_names([look.model or str(look.seed) for look in failed])})"
    where = some if len(failed) < seeds else f"all {seeds} {noun}s" if seeds > 1 else f"its only {noun}"
    what = "loss" if name == LOSS_METRIC else name.removeprefix("quality/").replace("_", " ")
    criteria = dict.fromkeys(look.criterion for look in failed)
    if len(criteria) > 1:
        criteria = dict.fromkeys(f"{look.model or f'{noun} {look.seed}'} {look.criterion}" for look in failed)
    return f"{what} {ran}{unit} in {where}, {'; '.join(criteria)}"
