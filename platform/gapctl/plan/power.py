"""Warn before training about hypotheses that cannot reach a verdict with this design.

`find_undecidable` looks at seeds and arms, `warn_few_steps` at trainings too short to learn anything.
"""

from collections.abc import Sequence
from typing import Final

from gapctl.config.arms import build_arm_grid
from gapctl.config.hypotheses import Correlation, list_named_metrics
from gapctl.config.metrics import is_of_seed_pairs
from gapctl.config.sweep import SweepFile
from gapctl.plan.plan import Plan, Trial
from gapctl.text import list_first_names


def find_undecidable(spec: SweepFile) -> list[str]:
    """List a sentence for each reason why no result can decide a hypothesis."""
    if not spec.hypotheses:
        return []
    one = "1 seed gives estimates and no verdicts: a verdict needs at least 2 seeds, and 3 to be worth much"
    few = (_check_arms(item, spec) for item in spec.hypotheses if isinstance(item, Correlation))
    return [*([one] if spec.seeds == 1 else []), *_check_seed_pairs(spec), *(line for line in few if line)]


def _check_seed_pairs(spec: SweepFile) -> list[str]:
    """Warn where metrics that compare two seeds have too few pairs: there are half as many as seeds."""
    asking = [item.id for item in spec.hypotheses if any(map(is_of_seed_pairs, list_named_metrics(item)))]
    seeds = spec.replicates
    pairs = sum(seed % 2 == 0 and seed + 1 in seeds for seed in seeds)
    if not asking or (pairs > 1 and 2 * pairs == spec.seeds):
        return []
    made = f"{spec.seeds} from {spec.first_seed} on make {pairs} pair{'' if pairs == 1 else 's'}"
    wanted = "expected an even first_seed and an even number of seeds, at least 4, for a verdict"
    return [f"{', '.join(asking)}: seeds are compared two by two (0 with 1, 2 with 3), and {made}: {wanted}"]


def _check_arms(hypothesis: Correlation, spec: SweepFile) -> str | None:
    """Warn where a correlation's permutation test, corrected by Holm over all hypotheses, cannot reach alpha."""
    grid = build_arm_grid(spec.vary, hypothesis.where, hypothesis.given)
    least = grid.compute_least_p(2 if hypothesis.direction == "either" else 1)
    wanted = spec.alpha / len(spec.hypotheses)
    if least < wanted:
        return None
    return (
        f"{hypothesis.id}: p of a correlation over {grid.arms} arms cannot fall below {least:.2g}, and Holm over "
        f"{len(spec.hypotheses)} hypotheses may ask for {wanted:.2g}: vary more levels"
    )


FEWEST_STEPS: Final = 100
MOST_NAMED: Final = 3


def warn_few_steps(plan: Plan) -> list[str]:
    """List a sentence for each number of steps below `FEWEST_STEPS`, or below twice the warm-up's.

    Trainings of one step stand for untrained models where the plan has longer trainings, and are left out there.
    """
    trained = [trial for trial in plan.trainings if trial.config.train.steps > 1]
    asked = trained or [trial for trial in plan.trainings if trial.config.train.steps]
    by_words: dict[tuple[int, str], list[Trial]] = {}
    for trial in asked:
        if reason := _explain_few_steps(trial):
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
    return f"{len(trials)} of {every} trainings ({list_first_names([trial.label for trial in trials], MOST_NAMED)})"
