"""Finding one trial of a plan by what a person types."""

from gapctl.errors import InputError
from gapctl.plan.trials import Plan, Trial


def trial_by_id(plan: Plan, prefix: str) -> Trial:
    """The trial whose id begins with `prefix`; raises InputError where none or several do."""
    found = [trial for trial in plan.trainings if trial.id.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    file = plan.sweep.path
    problem = f"{len(found)} trials of {file} begin" if found else f"no trial of {file} begins"
    raise InputError(
        f"--trial {prefix}: {problem} with that; expected one of the "
        f"{len(plan.trainings)} ids that `gapctl plan {file}` lists (with the same --scale and --set)"
    )
