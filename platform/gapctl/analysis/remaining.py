"""What a sweep still has to train, and the command that trains it."""

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gapctl.plan.trials import Plan, Trial
from gapctl.spec.arms import Arm
from gapctl.spec.settings import Setting

DEFAULT_RUNS = "runs"


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
    sweep = plan.sweep
    words = ["gapctl", "sweep", str(sweep.path)]
    words += ["--scale", sweep.scale] if sweep.scale not in (None, sweep.spec.default_scale) else []
    for setting in sweep.settings:
        if isinstance(setting.source, str):
            words += ["--set", _as_set(setting)]
    words += ["--runs", runs] if runs != DEFAULT_RUNS else []
    return shlex.join(words)


def _as_set(setting: Setting) -> str:
    """The change as it is typed; a text that is not one word is quoted as YAML wants it."""
    value = setting.value
    plain = isinstance(value, str) and value.replace("-", "").replace("/", "").isalpha()
    return f"{setting.written}={value if plain else json.dumps(value)}"


def _fits(trial: Trial, levels: Arm) -> bool:
    return all(trial.factors.get(path) == level for path, level in levels.items())
