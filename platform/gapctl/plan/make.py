"""From a sweep to its ordered trials: the full factorial of the treatments, once per seed."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gapctl.errors import InputError
from gapctl.plan.identity import RECIPE_VERSION, trial_id
from gapctl.plan.trials import Plan, Trial
from gapctl.spec.data import Data
from gapctl.spec.grid import arms, changes, origin, resolved
from gapctl.spec.load import Sweep
from gapctl.spec.problem import Problem
from gapctl.spec.sweep import Level, SweepFile
from gapctl.spec.trial import TrialConfig


def make_plan(sweep: Sweep, fingerprint_of: Callable[[Data], str], recipe_version: int = RECIPE_VERSION) -> Plan:
    """Lists every trial of the sweep; `fingerprint_of` is asked once for each data source.

    An InputError of it is raised anew with the place of the source in the sweep file.

    Trainings that others begin with are listed once, as preparations. Seeds are the outer loop, so that a whole
    dose-response curve is there after the first one. Another recipe version than that of this code gives the trials
    that an earlier one made.
    """
    grid = _grid(sweep.spec)
    fingerprints = _fingerprints(sweep, grid, fingerprint_of)
    made = [_trial(arm, seed, fingerprints, recipe_version) for seed in sweep.spec.replicates for arm in grid]
    trials = tuple(trial for trial, _ in made)
    _require_different(sweep, trials)
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


def _require_different(sweep: Sweep, trials: Sequence[Trial]) -> None:
    """Raises InputError where two arms are one training, whose difference is nothing, whatever comes of them."""
    seen: dict[str, Trial] = {}
    for trial in trials:
        other = seen.setdefault(trial.id, trial)
        if other is not trial:
            factor = next(name for name, level in trial.factors.items() if other.factors[name] != level)
            place = ("vary", factor, sweep.spec.vary[factor].index(trial.factors[factor]))
            text = f"{trial.label} is the same training as {other.label}; expected levels that train otherwise"
            raise InputError(sweep.located(Problem(place, text)))


class _Arm(NamedTuple):
    """A combination of levels, its configuration, and how it and the training that it begins with are called."""

    factors: Mapping[str, Level]
    config: TrialConfig
    label: str
    preparation: str


def _grid(spec: SweepFile) -> list[_Arm]:
    names = short_names(list(spec.vary))
    return [_arm(spec, factors, names) for factors in arms(spec)]


def _arm(spec: SweepFile, factors: Mapping[str, Level], names: Mapping[str, str]) -> _Arm:
    config = resolved(spec, factors)

    def shared(factor: str) -> bool:
        """Whether the preparation has this treatment too; how a training is measured does not tell it from others."""
        paths = [path for path, _ in changes(spec, factor, factors[factor])]
        return not any(path in config.init_from or path.startswith(("init_from.", "evaluate.")) for path in paths)

    own = {names[factor]: level for factor, level in factors.items()}
    kept = {names[factor]: level for factor, level in factors.items() if shared(factor)}
    changed = {path.rsplit(".", 1)[-1]: level for path, level in config.init_from.items()}
    return _Arm(factors, config, _in_words(own), f"preparation {_in_words(kept | changed)}")


def _in_words(levels: Mapping[str, Level]) -> str:
    return " ".join(f"{name}={level}" for name, level in levels.items())


def _fingerprints(sweep: Sweep, grid: Sequence[_Arm], fingerprint_of: Callable[[Data], str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for arm in grid:
        for data in [arm.config.data, *([arm.config.parent.data] if arm.config.parent else [])]:
            if data.address not in found:
                try:
                    found[data.address] = fingerprint_of(data)
                except InputError as error:
                    raise located(sweep, arm.factors, getattr(error, "key", "data.source"), str(error)) from error
    return found


def _trial(arm: _Arm, seed: int, fingerprints: Mapping[str, str], recipe_version: int) -> tuple[Trial, Trial | None]:
    """An arm's trial, and the training that it begins with."""
    fingerprint = fingerprints[arm.config.data.address]
    parent = _parent(arm, seed, fingerprints, recipe_version)
    parent_id = parent.id if parent else None
    trial = Trial(
        id=trial_id(arm.config, seed, fingerprint, recipe_version, parent_id),
        label=f"{arm.label} seed={seed}",
        seed=seed,
        factors=dict(arm.factors),
        config=arm.config,
        data_fingerprint=fingerprint,
        parent=parent_id,
    )
    return trial, parent


def _parent(arm: _Arm, seed: int, fingerprints: Mapping[str, str], recipe_version: int) -> Trial | None:
    first = arm.config.parent
    if first is None:
        return None
    fingerprint = fingerprints[first.data.address]
    return Trial(
        id=trial_id(first, seed, fingerprint, recipe_version),
        label=f"{arm.preparation} seed={seed}",
        seed=seed,
        factors={},
        config=first,
        data_fingerprint=fingerprint,
    )
