"""From a sweep to its ordered trials: the full factorial of the treatments, once per seed."""

from collections.abc import Callable, Mapping, Sequence

from gapctl.errors import InputError
from gapctl.plan.identity import RECIPE_VERSION, trial_id
from gapctl.plan.trials import Plan, Trial
from gapctl.spec.grid import arms, origin, resolve
from gapctl.spec.load import Sweep
from gapctl.spec.problem import Problem
from gapctl.spec.sweep import Level
from gapctl.spec.trial import Data, TrialConfig


def make_plan(sweep: Sweep, fingerprint_of: Callable[[Data], str], recipe_version: int = RECIPE_VERSION) -> Plan:
    """Lists every trial of the sweep; `fingerprint_of` is asked once for each data source.

    An InputError of it is raised anew with the place of the source in the sweep file.

    Seeds are the outer loop, so that a whole dose-response curve is there after the first one. Another recipe version
    than that of this code gives the trials that an earlier one made.
    """
    grid = [(arm, resolve(sweep.spec.base, arm)) for arm in arms(sweep.spec)]
    fingerprints = _fingerprints(sweep, grid, fingerprint_of)
    names = short_names(list(sweep.spec.vary))
    trials = tuple(
        _trial(arm, config, seed, fingerprints[config.data.source], names, recipe_version)
        for seed in sweep.spec.replicates
        for arm, config in grid
    )
    return Plan(sweep=sweep, trials=trials, recipe_version=recipe_version)


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """The last component of each dotted path, or the whole path where that would be ambiguous."""
    last = [path.rsplit(".", 1)[-1] for path in paths]
    return {path: name if last.count(name) == 1 else path for path, name in zip(paths, last, strict=True)}


def located(sweep: Sweep, factors: Mapping[str, Level], path: str, text: str) -> InputError:
    """An error about a trial's value, with the place in the sweep file that it comes from."""
    return InputError(sweep.located(Problem(origin(factors, sweep.spec.vary, path), text)))


def _fingerprints(
    sweep: Sweep, grid: Sequence[tuple[Mapping[str, Level], TrialConfig]], fingerprint_of: Callable[[Data], str]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for arm, config in grid:
        if config.data.source not in found:
            try:
                found[config.data.source] = fingerprint_of(config.data)
            except InputError as error:
                raise located(sweep, arm, "data.source", str(error)) from error
    return found


def _trial(
    arm: Mapping[str, Level],
    config: TrialConfig,
    seed: int,
    fingerprint: str,
    names: Mapping[str, str],
    recipe_version: int,
) -> Trial:
    treatment = " ".join(f"{names[path]}={level}" for path, level in arm.items())
    return Trial(
        id=trial_id(config, seed, fingerprint, recipe_version),
        label=f"{treatment} seed={seed}",
        seed=seed,
        factors=dict(arm),
        config=config,
        data_fingerprint=fingerprint,
    )
