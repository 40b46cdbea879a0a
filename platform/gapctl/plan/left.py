"""What of a plan has still to be trained."""

from collections.abc import Collection

from gapctl.plan.trials import Plan, Trial


def left_of(plan: Plan, finished: Collection[str]) -> tuple[Trial, ...]:
    """The trainings without those of the finished ids; a preparation only where an unfinished trial begins with it."""
    needed = {trial.parent for trial in plan.trials if trial.id not in finished}
    return tuple(
        trial
        for trial in plan.trainings
        if trial.id not in finished and (trial.id in needed or trial not in plan.preparations)
    )
