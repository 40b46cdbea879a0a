"""Which trainings of a plan take so few steps that they may learn nothing."""

from collections.abc import Sequence
from typing import Final

from gapctl.plan.trials import Plan, Trial

FEWEST: Final = 100
MOST_NAMED: Final = 3


def few_steps(plan: Plan) -> list[str]:
    """A sentence for each number of steps that is below 100, or below twice the warm-up's.

    Trainings of one step stand for models before training where the plan has longer ones, and are left out there.
    """
    trained = [trial for trial in plan.trainings if trial.config.train.steps > 1]
    asked = trained or [trial for trial in plan.trainings if trial.config.train.steps]
    by_words: dict[tuple[int, str], list[Trial]] = {}
    for trial in asked:
        if reason := _too_few(trial):
            by_words.setdefault((trial.config.train.steps, reason), []).append(trial)
    return [
        f"few steps: {steps:,} in {_which(trials, len(plan.trainings))}, {reason}; verdicts on models that learn "
        "nothing are marked *not learned*"
        for (steps, reason), trials in by_words.items()
    ]


def _too_few(trial: Trial) -> str:
    train = trial.config.train
    if train.steps < FEWEST:
        return f"fewer than {FEWEST} (raise train.samples or lower train.batch_size)"
    if train.steps < 2 * train.warmup_steps:
        return f"fewer than twice the {train.warmup_steps:,} of the warm-up (lower train.warmup)"
    return ""


def _which(trials: Sequence[Trial], every: int) -> str:
    if len(trials) == every:
        return "each training"
    named = ", ".join(trial.label for trial in trials[:MOST_NAMED])
    more = f" and {len(trials) - MOST_NAMED} more" if len(trials) > MOST_NAMED else ""
    return f"{len(trials)} of {every} trainings ({named}{more})"
