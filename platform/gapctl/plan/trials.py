"""A plan: the ordered trials that a sweep asks for, each addressed by what decides its numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

from gapctl.spec.load import Sweep
from gapctl.spec.sweep import Level
from gapctl.spec.trial import TrialConfig


@dataclass(frozen=True)
class Trial:
    """One training: `factors` are the treatments by their dotted path, `label` names them for people."""

    id: str
    label: str
    seed: int
    factors: Mapping[str, Level]
    config: TrialConfig
    data_fingerprint: str


@dataclass(frozen=True)
class Plan:
    """A resolved sweep and its trials: every arm at the first seed, then every arm at the next.

    `recipe_version` is that of the code which gives the trials their numbers.
    """

    sweep: Sweep
    trials: tuple[Trial, ...]
    recipe_version: int
