"""From a sweep to its ordered trials: the full factorial of the treatments, once per seed."""

from collections.abc import Callable, Mapping, Sequence

from gapctl.errors import InputError
from gapctl.plan.identity import RECIPE_VERSION, trial_id
from gapctl.plan.trials import Plan, Trial
from gapctl.spec.data import Data
from gapctl.spec.grid import arms, origin, resolved
from gapctl.spec.load import Sweep
from gapctl.spec.problem import Problem
from gapctl.spec.sweep import Level
from gapctl.spec.trial import TrialConfig


def make_plan(sweep: Sweep, fingerprint_of: Callable[[Data], str], recipe_version: int = RECIPE_VERSION) -> Plan:
    """Lists every trial of the sweep; `fingerprint_of` is asked once for each data source.

    An InputError of it is raised anew with the place of the source in the sweep file.

    Trainings that others begin with are listed once, as preparations. Seeds are the outer loop, so that a whole
    dose-response curve is there after the first one. Another recipe version than that of this code gives the trials
    that an earlier one made.
    """
    grid = [(arm, resolved(sweep.spec, arm)) for arm in arms(sweep.spec)]
    fingerprints = _fingerprints(sweep, grid, fingerprint_of)
    names = short_names(list(sweep.spec.vary))
    made = [
        _trial(arm, config, seed, fingerprints, names, recipe_version)
        for seed in sweep.spec.replicates
        for arm, config in grid
    ]
    trials = tuple(trial for trial, _ in made)
    arms_too = {trial.id for trial in trials}
    parents = {parent.id: parent for _, parent in made if parent and parent.id not in arms_too}
    return Plan(sweep, trials, recipe_version, tuple(parents.values()))


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """The last component of each dotted path, or the whole path where that would be ambiguous."""
    last = [path.rsplit(".", 1)[-1] for path in paths]
    return {path: name if last.count(name) == 1 else path for path, name in zip(paths, last, strict=True)}


def located(sweep: Sweep, factors: Mapping[str, Level], path: str, text: str) -> InputError:
    """An error about a trial's value, with the place in the sweep file that it comes from."""
    return InputError(sweep.located(Problem(origin(sweep.spec, factors, path), text)))


def _fingerprints(
    sweep: Sweep, grid: Sequence[tuple[Mapping[str, Level], TrialConfig]], fingerprint_of: Callable[[Data], str]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for arm, config in grid:
        for data in [config.data, *([config.parent.data] if config.parent else [])]:
            if data.address not in found:
                try:
                    found[data.address] = fingerprint_of(data)
                except InputError as error:
                    raise located(sweep, arm, getattr(error, "key", "data.source"), str(error)) from error
    return found


def _trial(
    arm: Mapping[str, Level],
    config: TrialConfig,
    seed: int,
    fingerprints: Mapping[str, str],
    names: Mapping[str, str],
    recipe_version: int,
) -> tuple[Trial, Trial | None]:
    """An arm's trial, and the training that it begins with."""
    treatment = " ".join(f"{names[path]}={level}" for path, level in arm.items())
    fingerprint = fingerprints[config.data.address]
    parent = _parent(config, seed, fingerprints, recipe_version)
    parent_id = parent.id if parent else None
    trial = Trial(
        id=trial_id(config, seed, fingerprint, recipe_version, parent_id),
        label=f"{treatment} seed={seed}",
        seed=seed,
        factors=dict(arm),
        config=config,
        data_fingerprint=fingerprint,
        parent=parent_id,
    )
    return trial, parent


def _parent(config: TrialConfig, seed: int, fingerprints: Mapping[str, str], recipe_version: int) -> Trial | None:
    first = config.parent
    if first is None:
        return None
    fingerprint = fingerprints[first.data.address]
    changes = " ".join(f"{path.rsplit('.', 1)[-1]}={level}" for path, level in config.init_from.items())
    return Trial(
        id=trial_id(first, seed, fingerprint, recipe_version),
        label=f"preparation {changes} seed={seed}",
        seed=seed,
        factors={},
        config=first,
        data_fingerprint=fingerprint,
    )
