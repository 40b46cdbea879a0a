"""What a sweep still has to train, and the command that trains it."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gapctl.plan.as_typed import as_typed
from gapctl.plan.trials import Plan, Trial
from gapctl.spec.arms import Arm


class Split(NamedTuple):
    """Trainings that a comparison needs and does not have: to be trained, or to be repaired first."""

    untrained: Sequence[Trial]
    damaged: Sequence[Trial]


@dataclass(frozen=True)
class Remaining:
    """The plan's trials without a usable result, and the command that trains those of them that are not damaged."""

    command: str = ""
    trials: Sequence[Trial] = ()
    damaged: frozenset[str] = field(default_factory=frozenset)

    def of(self, cells: Sequence[Arm], where: Arm) -> Split:
        """Those that a comparison of these cells needs."""
        needed = [trial for trial in self.trials if _fits(trial, where) and any(_fits(trial, cell) for cell in cells)]
        untrained = [trial for trial in needed if trial.id not in self.damaged]
        return Split(untrained, [trial for trial in needed if trial.id in self.damaged])


def remaining(plan: Plan, done: Iterable[str], damaged: Sequence[str], runs: str) -> Remaining:
    """`done` are the ids of trials that are judged, `damaged` what was said of those that cannot be read."""
    judged = set(done)
    left = [trial for trial in plan.trials if trial.id not in judged]
    unreadable = frozenset(trial.id for trial in left if any(trial.id in text for text in damaged))
    return Remaining(finishing_command(plan, runs), left, unreadable)


def finishing_command(plan: Plan, runs: str) -> str:
    """`gapctl sweep` as it has to be called for this plan and ledger."""
    return shlex.join(["gapctl", "sweep", *as_typed(plan, runs)])


def _fits(trial: Trial, levels: Arm) -> bool:
    return all(trial.factors.get(path) == level for path, level in levels.items())
