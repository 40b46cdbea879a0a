"""A plan: the ordered trials that a sweep asks for, each addressed by what decides its numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

from gapctl.spec.load import Sweep
from gapctl.spec.sweep import Level
from gapctl.spec.trial import TrialConfig


@dataclass(frozen=True)
class Trial:
    """One training: `factors` are the treatments by their dotted path, `label` names them for people.

    `parent` is the id of the training whose last weights it begins with.
    """

    id: str
    label: str
    seed: int
    factors: Mapping[str, Level]
    config: TrialConfig
    data_fingerprint: str
    parent: str | None = None


@dataclass(frozen=True)
class Plan:
    """A resolved sweep and its trials: every arm at the first seed, then every arm at the next.

    `recipe_version` is that of the code which gives the trials their numbers. `preparations` are trainings that others
    begin with (`init_from`) and that are no arm themselves: no hypothesis looks at them.
    """

    sweep: Sweep
    trials: tuple[Trial, ...]
    recipe_version: int
    preparations: tuple[Trial, ...] = ()

    @property
    def trainings(self) -> tuple[Trial, ...]:
        """All that is trained, in an order in which each comes after what it begins with."""
        return (*self.preparations, *self.trials)
