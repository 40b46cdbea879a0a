"""From a sweep to its ordered trials: the full factorial of the treatments, once per seed."""

from collections.abc import Callable, Mapping, Sequence

from gapctl.plan.identity import trial_id
from gapctl.plan.trials import Plan, Trial
from gapctl.spec.grid import arms, resolve
from gapctl.spec.load import Sweep
from gapctl.spec.sweep import Level
from gapctl.spec.trial import Data, TrialConfig


def make_plan(sweep: Sweep, fingerprint_of: Callable[[Data], str]) -> Plan:
    """Lists every trial of the sweep; `fingerprint_of` is asked once for each distinct data configuration.

    Seeds are the outer loop, so that a whole dose-response curve is there after the first one.
    """
    grid = [(arm, resolve(sweep.spec.base, arm)) for arm in arms(sweep.spec)]
    fingerprints = _fingerprints([config.data for _, config in grid], fingerprint_of)
    names = short_names(list(sweep.spec.vary))
    trials = tuple(
        _trial(arm, config, seed, fingerprints[config.data.source], names)
        for seed in range(sweep.spec.seeds)
        for arm, config in grid
    )
    return Plan(sweep=sweep, trials=trials)


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """The last component of each dotted path, or the whole path where that would be ambiguous."""
    last = [path.rsplit(".", 1)[-1] for path in paths]
    return {path: name if last.count(name) == 1 else path for path, name in zip(paths, last, strict=True)}


def _fingerprints(data: Sequence[Data], fingerprint_of: Callable[[Data], str]) -> dict[str, str]:
    by_source = {item.source: item for item in data}
    return {source: fingerprint_of(item) for source, item in by_source.items()}


def _trial(
    arm: Mapping[str, Level], config: TrialConfig, seed: int, fingerprint: str, names: Mapping[str, str]
) -> Trial:
    treatment = " ".join(f"{names[path]}={level}" for path, level in arm.items())
    return Trial(
        id=trial_id(config, seed, fingerprint),
        label=f"{treatment} seed={seed}",
        seed=seed,
        factors=dict(arm),
        config=config,
        data_fingerprint=fingerprint,
    )
