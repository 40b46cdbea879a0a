"""A sweep's plan from what its declaration keeps: no sweep file, no data, and the recipe that it ran with."""

from pathlib import Path

from gapctl.errors import InputError, WorkError
from gapctl.ledger.declaration import Asked, Declaration
from gapctl.plan.make import make_plan
from gapctl.plan.trials import Plan
from gapctl.spec.data import Data
from gapctl.spec.load import load_text
from gapctl.spec.secrets import is_private, without_passwords


def asked_for(plan: Plan) -> Asked:
    """What is kept of a plan."""
    sweep = plan.sweep
    return Asked(
        file=str(sweep.path),
        text=without_passwords(sweep.text),
        scale=sweep.scale,
        overrides=[text for text in sweep.overrides if not is_private(text)],
        recipe_version=plan.recipe_version,
        fingerprints={trial.config.data.address: trial.data_fingerprint for trial in plan.trainings},
    )


def recalled(declaration: Declaration, scale: str, path: str) -> Plan:
    """The plan of a scale as it was last asked for; `path` is where the declaration lies.

    Raises InputError where an older version kept nothing to make it from, or where this version makes other trials
    of what was kept, and WorkError where what was kept contradicts itself.
    """
    asked = declaration.asked.get(scale)
    if asked is None:
        raise InputError(
            f"{path}: keeps no sweep file for scale {scale}, as an older gapctl wrote it; expected one to judge by. "
            "Name the file: `gapctl analyze FILE`, or run `gapctl sweep FILE` once more, which keeps it and trains "
            "nothing that is done"
        )
    sweep = load_text(asked.text, Path(asked.file), asked.scale, asked.overrides)
    plan = make_plan(sweep, lambda data: _fingerprint(asked, data, path), asked.recipe_version)
    unlisted = {trial.id for trial in plan.trials} - set(declaration.trials.get(scale, ()))
    if unlisted:
        raise InputError(
            f"{path}: this gapctl makes {len(unlisted)} other trials of the sweep file kept for scale {scale} than are "
            "listed there; expected the same. Judge it with the version that trained them (result.json names it)"
        )
    return plan


def _fingerprint(asked: Asked, data: Data, path: str) -> str:
    try:
        return asked.fingerprints[data.address]
    except KeyError as error:
        raise WorkError(
            f"{path}: damaged: its sweep file trains on {data.source}, of which it keeps no fingerprint. Restore it "
            "from a backup, or run `gapctl sweep` once more, which trains nothing that is done"
        ) from error
