"""A sweep's plan from what its declaration keeps: no sweep file, no data, and the recipe that it ran with."""

from collections.abc import Iterable
from pathlib import Path

from gapctl.errors import InputError, WorkError
from gapctl.ledger.declaration import Asked, Declaration
from gapctl.plan.make import make_plan
from gapctl.plan.trials import Plan
from gapctl.spec.data import Data
from gapctl.spec.load import Sweep, load_text


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
    return _plan(asked, declaration, scale, path)


def recalled_as_declared(declaration: Declaration, scale: str, path: str) -> Plan:
    """The same of a scale as it stood before its first trial; raises InputError also where that was not kept."""
    asked = _of_declared(_own(declaration, scale), declaration)
    if asked is None:
        raise InputError(
            f"{path}: --declared: keeps no sweep file for scale {scale} whose hypotheses were declared before the "
            "first trial; expected one, as `gapctl sweep` keeps it of a sweep that has not begun. Leave --declared out"
        )
    return _plan(asked, declaration, scale, path)


def declared_text(declaration: Declaration, scale: str) -> Asked | None:
    """The kept file, this scale's before others', whose hypotheses are the declared ones; None where none is.

    Their hash tells, so that a text that was changed in the ledger is not taken for what was declared.
    """
    return _of_declared([*_own(declaration, scale), *declaration.declared.values()], declaration)


def sweep_of(asked: Asked) -> Sweep:
    """The sweep that a kept file gives; raises InputError where it cannot be read."""
    return load_text(asked.text, Path(asked.file), asked.scale, asked.overrides)


def _own(declaration: Declaration, scale: str) -> list[Asked]:
    return [texts[scale] for texts in (declaration.declared, declaration.asked) if scale in texts]


def _of_declared(texts: Iterable[Asked], declaration: Declaration) -> Asked | None:
    wanted = declaration.declared_sha256
    return None if wanted is None else next((asked for asked in texts if _hash(asked) == wanted), None)


def _hash(asked: Asked) -> str | None:
    try:
        return sweep_of(asked).hypotheses_sha256
    except InputError:
        return None


def _plan(asked: Asked, declaration: Declaration, scale: str, path: str) -> Plan:
    try:
        sweep = sweep_of(asked)
    except InputError as error:
        raise WorkError(
            f"{path}: damaged: the sweep file kept there for scale {scale} cannot be read: {error}; expected what "
            "`gapctl sweep` kept. Restore it from a backup, or run `gapctl sweep` once more, which trains nothing that "
            "is done"
        ) from error
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
